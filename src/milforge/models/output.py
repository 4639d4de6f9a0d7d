"""What every network says about a batch: the contract between models and training."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor


class Auxiliary(NamedTuple):
    """Further logits that are held to the labels of their bags.

    Their losses are averaged within a bag, and then over the bags, so that a bag with many logits
    weighs no more than another. Examples are the instances of DSMIL and the pseudo-bags of DTFD.

    Attributes:
        logits: `(M, O)`.
        bag: `(M,)` int64, the bag of each, from 0 to B - 1.
        weight: what their mean loss is multiplied by before it is added to that of the bags.
    """

    logits: Tensor
    bag: Tensor
    weight: float = 1.0


class BagOutput(NamedTuple):
    """What a network says about a batch of `B` bags, or large images, with `N` instances in all.

    Attributes:
        logits: `(B, O)`; O is 1 for a binary task.
        scores: `(N,)` attention scores before the softmax, or `(N, K)`, one per head or class;
            None where the pooling has none. The instances of an image are the patches that were
            looked at, the same number of each.
        penalty: scalar to be added to the loss; None where there is none.
        auxiliary: further logits that are held to the labels of the bags.
        details: name to `(B, ...)`: what else is to be logged, drawn or written. Those of shape
            `(B,)` that the network names in its attribute `logged` are averaged over the bags and
            logged beside the metrics. Where a network gives `weights` `(B, n)` and `coords`
            `(B, n, d)`, the table of instances is made of them.
        scores_of: what the K columns of the scores are: `heads`, of which tables and figures show
            the mean of the weights; or `classes`, of which they show that of the predicted one.
            Two columns for one logit are the negative and the positive class, the latter is shown.
    """

    logits: Tensor
    scores: Tensor | None = None
    penalty: Tensor | None = None
    auxiliary: tuple[Auxiliary, ...] = ()
    details: Mapping[str, Tensor] = {}
    scores_of: Literal["heads", "classes"] = "heads"
