"""What can be told of bags without their instances: controls for what a model reaches."""

import math
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from milforge.data.bag import Bag
from milforge.data.dataset import SPLITS, LabelledDataset, as_dataset, bag_outline, bag_sizes
from milforge.data.labels import Labels
from milforge.data.parts import BagSplits, BagTable
from milforge.data.wrappers.labelled_bags import LabelledBags
from milforge.data.wrappers.wrapped_dataset import WrappedDataset

Shown = Literal["size", "order", "labels"]


def bags_alone(
    data: BagSplits[Any] | BagTable[Any], show: Shown, seed: int = 0
) -> BagSplits[Any] | BagTable[Any]:
    """A data set without what its bags hold, or without what their labels say.

    Args:
        data: what a data set function returned.
        show: `size`: a bag is one instance, the logarithm of the number of its instances. `order`:
            one instance, the place of the bag in its table, or in its part where the data set
            makes the parts itself, from 0 to below 1. `labels`: the bags are as they are, and the
            labels, of all parts, are shuffled among them, so that there is nothing to be learnt;
            among patients, where all bags of each patient have one label.
        seed: of the shuffling.

    Raises:
        ValueError: for another word, and for large images.

    Example:
        >>> from milforge.data import Bag
        >>> bags = [Bag(torch.zeros(n, 2), y=n % 2, bag_id=str(n)) for n in (1, 2)]
        >>> bags_alone(BagSplits(bags, [], bags), "size").train[1].x
        tensor([[0.6931]])
    """
    if show not in get_args(Shown):
        raise ValueError(
            f"expected bags_alone to be {', '.join(get_args(Shown))} or null, got {show!r}"
        )
    rng = np.random.default_rng(seed)
    if isinstance(data, BagTable):
        if show == "labels":
            if data.labels is None:
                return data
            return replace(data, labels=data.labels.take(_shuffled_rows(data, data.labels, rng)))
        bags = SummarisedBags(as_dataset(data.bags), show)
        return replace(data, bags=bags, training_bags=None, feature_names=())
    parts: dict[str, Any] = {}
    for name in SPLITS:
        part = as_dataset(getattr(data, name))
        if show != "labels":
            parts[name] = SummarisedBags(part, show)
        elif part.labels is None:
            parts[name] = part
        else:
            shuffled = part.labels[torch.from_numpy(rng.permutation(len(part)))]
            parts[name] = LabelledBags(part, np.arange(len(part)), shuffled)
    return replace(data, **parts)


def _shuffled_rows(
    data: BagTable[Any], labels: Labels, rng: np.random.Generator
) -> NDArray[np.int64]:
    """For each bag the number of the one whose label it gets: of its patient, the same for all."""
    rows = np.arange(len(data.ids))
    groups = rows if data.groups is None else np.array(data.groups)
    _, first, patient = np.unique(groups, return_index=True, return_inverse=True)
    # In the order of the table, so that bags which are patients are shuffled as bags are.
    order = np.argsort(first)
    first, place = first[order], np.argsort(order)[patient]
    alike = all((each == each[first[place]]).all() for each in labels.columns.values())
    return first[rng.permutation(len(first))][place] if alike else rng.permutation(rows)


class SummarisedBags(WrappedDataset[Bag]):
    """Bags of one instance with one feature: the size of the bag, or its place.

    Args:
        bags: the data set.
        show: `size` or `order`; see `bags_alone`.
    """

    def __init__(self, bags: LabelledDataset[Bag], show: Shown) -> None:
        super().__init__(bags)
        self.show = show
        self._known = bag_sizes(bags)

    def __getitem__(self, index: int) -> Bag:
        """The bag of that number, counted from the end where negative.

        Raises:
            ValueError: for a large image.
        """
        bag = bag_outline(self.bags, index)
        if not isinstance(bag, Bag):
            raise ValueError(
                "bags_alone: large images have no number of instances; it is for bags alone"
            )
        place = index % len(self)
        size = len(bag) if self._known is None else int(self._known[place])
        value = math.log(max(size, 1)) if self.show == "size" else place / len(self)
        return Bag(torch.tensor([[value]]), bag.y, bag_id=bag.bag_id, covariates=bag.covariates)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """`(n,)` ones."""
        return np.ones(len(self), np.int64)

    def outline(self, index: int) -> Bag:
        """The bag itself."""
        return self[index]
