"""Clustering-constrained attention MIL."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milforge.data import BagBatch
from milforge.functional import (
    attention_pool,
    segment_index,
    segment_rank,
    segment_softmax,
)
from milforge.models.feature_network import FeatureNetwork
from milforge.models.options import check_choice, check_counts
from milforge.models.output import BagOutput
from milforge.models.streams import Encoder
from milforge.nn import AttentionHeads

InstanceLoss = Literal["svm", "ce"]


class CLAM(FeatureNetwork):
    r"""Gated attention, held in training to a clustering of the instances it looks at most.

    Single branch: `logits = W z`, `z = sum_n s_n h_n`. One branch per class:
    `logits_c = w_c^T z_c`, `z_c = sum_n s_nc h_n`; a binary task, of one logit, has a branch for
    each of its two classes, and its logit is the difference of theirs (Lu et al. 2021,
    arXiv:2004.09666).

    In training, of the class of a bag the k instances of highest attention are held to be of it,
    and the k of lowest attention not to be, by a classifier of that class in two ways. With
    `subtyping`, the k of highest attention of every other class are held not to be of it. k is at
    most half the bag, so that none is both; a bag of one instance has no such loss. The loss is
    `bag_weight * bag + (1 - bag_weight) * instances`; a task without classes goes without the
    latter.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        multi_branch: whether there is an attention per class.
        att_dim: width of the projection of the attention.
        gated: whether the attention has a gate.
        dropout: probability of dropping a feature of the pooled bag.
        k: instances of each kind.
        subtyping: whether the classes exclude each other.
        bag_weight: of the bag's loss, from 0 to 1.
        instance_loss: `svm`, the smooth one of `smooth_svm`, or `ce`, cross-entropy.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Attributes:
        loss_weight: `bag_weight`.

    Raises:
        ValueError: for k below 1, a weight that is none, or another instance loss.
    """

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        multi_branch: bool = False,
        att_dim: int = 256,
        gated: bool = True,
        dropout: float = 0.0,
        k: int = 8,
        subtyping: bool = False,
        bag_weight: float = 0.7,
        instance_loss: InstanceLoss = "svm",
        aem: float = 0.0,
        covariates: bool = False,
        num_covariates: int = 0,
    ) -> None:
        super().__init__(
            instance_shape,
            num_outputs,
            encoder=encoder,
            fusion=fusion,
            aem=aem,
            covariates=covariates,
            num_covariates=num_covariates,
        )
        check_counts(k=k)
        check_choice("instance_loss", instance_loss, get_args(InstanceLoss))
        if not 0 <= bag_weight <= 1:
            raise ValueError(f"expected model.bag_weight from 0 to 1, got {bag_weight}")
        self.classes = max(2, num_outputs)
        self.multi_branch = multi_branch
        self.differs = multi_branch and num_outputs == 1
        branches = self.classes if multi_branch else 1
        self.attention = AttentionHeads(self.width, branches, att_dim, gated=gated)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.width, self.classes if multi_branch else num_outputs)
        self.instance_heads = nn.Linear(self.width, 2 * self.classes)  # one below the other
        self.k = k
        self.subtyping = subtyping
        self.loss_weight = bag_weight
        self.instance_loss = instance_loss

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits and scores; in training the logits of the k instances in the details."""
        attention = self.attention(x)  # (N, 1) or (N, C)
        z = self.dropout(attention_pool(x, attention, batch.ptr))
        if self.multi_branch:
            weight = self.head.weight.to(z.dtype)
            logits = self._outputs((z * weight).sum(2) + self.head.bias)
        else:
            logits = self.head(z[:, 0])
        scores = attention if self.multi_branch else attention[:, 0]
        output = BagOutput(logits, scores, scores_of="classes")
        if not self.training:
            return output
        chosen = self._chosen(x, attention, batch.ptr)
        # Where no class is known nothing is learnt from them, and yet each parameter must have a
        # gradient where several processes train together.
        return output._replace(details={"instance_logits": chosen}, penalty=0.0 * chosen.sum())

    def auxiliary_loss(self, batch: BagBatch, output: BagOutput, classes: Tensor) -> Tensor:
        """`(B,)`: the weighted loss of the instances.

        Args:
            batch: the bags.
            output: of the network, in training.
            classes: `(B,)` int64, or `(B, C)` of 0 and 1.
        """
        logits = output.details["instance_logits"]  # (B, C, 2 k, 2)
        if classes.ndim == 2 and classes.shape[1] == 1:
            classes = classes[:, 0]
        present = F.one_hot(classes, self.classes) if classes.ndim == 1 else classes
        kept = (batch.ptr.diff() // 2).clamp(max=self.k)  # (B,)
        slot = torch.arange(self.k, device=kept.device)
        there = (slot < kept[:, None]).to(logits.dtype)  # (B, k)
        top = present[:, :, None].expand(-1, -1, self.k)
        targets = torch.cat([top, torch.zeros_like(top)], dim=2)  # (B, C, 2 k)
        if self.instance_loss == "svm":
            losses = smooth_svm(logits, targets)
        else:
            losses = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
            losses = losses.reshape(targets.shape)
        of_top = (losses[:, :, : self.k] * there[:, None]).sum(2)  # (B, C)
        of_bottom = (losses[:, :, self.k :] * there[:, None]).sum(2)
        counts = kept.clamp(min=1)[:, None]
        own = (of_top + of_bottom) / (2 * counts)
        each = torch.where(present == 1, own, of_top / counts if self.subtyping else 0.0)
        total = each.sum(1) / (self.classes if self.subtyping else 1)
        return (1 - self.loss_weight) * total

    def contribute(self, x: Tensor, batch: BagBatch) -> Tensor:
        """`(N, O)`: what each instance adds to the logits of its bag, in evaluation."""
        weights = segment_softmax(self.attention(x), batch.ptr)
        return self._outputs(weights * F.linear(x, self.head.weight))

    @property
    def offset(self) -> Tensor:
        """`(O,)`: what is added to the contributions."""
        return self._outputs(self.head.bias[None])[0]

    def _outputs(self, logits: Tensor) -> Tensor:
        """`(n, O)` of the logits of the classes, which are two for one output."""
        return logits[:, 1:] - logits[:, :1] if self.differs else logits

    def _chosen(self, x: Tensor, scores: Tensor, ptr: Tensor) -> Tensor:
        """`(B, C, 2 k, 2)`: logits of the k of highest and the k of lowest score for each class.

        The lowest first comes first. Where a bag has less than 2 k instances, what stands in the
        places from half its size on is of any instance.
        """
        sizes = ptr.diff()
        bag = segment_index(ptr, len(x))
        tables = []
        for each in scores.unbind(1):
            rank = segment_rank(each, ptr)
            last = sizes[bag] - 1 - rank
            rows = torch.zeros(len(sizes) * (2 * self.k + 1), dtype=torch.int64, device=x.device)
            row = torch.arange(len(x), device=x.device)
            start = bag * (2 * self.k + 1)
            # What is neither goes to one place more, which is cut off.
            rows[start + torch.where(rank < self.k, rank, 2 * self.k)] = row
            rows[start + torch.where(last < self.k, self.k + last, 2 * self.k)] = row
            tables.append(rows.reshape(len(sizes), 2 * self.k + 1)[:, : 2 * self.k])
        rows = torch.stack(tables, dim=1)  # (B, 1 or C, 2 k)
        if not len(x):  # of bags without instances: a row to take, which counts for nothing
            x = F.pad(x, (0, 0, 0, 1))
        logits = self.instance_heads(x[rows])
        logits = logits.reshape(*rows.shape, self.classes, 2)
        if len(tables) == 1:
            of_one: Tensor = logits[:, 0].transpose(1, 2)
            return of_one
        return torch.stack([logits[:, c, :, c] for c in range(self.classes)], dim=1)


def smooth_svm(logits: Tensor, target: Tensor) -> Tensor:
    r"""The smooth top-1 support vector loss (Berrada, Zisserman and Kumar 2018, arXiv:1802.07595).

    $$ \log \sum_j \exp\big([j \neq y] + f_j\big) - f_y $$

    Args:
        logits: `(..., C)`.
        target: `(...)` int64.

    Returns:
        `(...)`.

    Example:
        >>> smooth_svm(torch.zeros(1, 2), torch.tensor([0]))
        tensor([1.3133])
    """
    margin = 1.0 - F.one_hot(target, logits.shape[-1]).to(logits.dtype)
    own = logits.gather(-1, target[..., None])[..., 0]
    return torch.logsumexp(logits + margin, dim=-1) - own
