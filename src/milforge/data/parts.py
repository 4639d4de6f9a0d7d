"""What a data set function returns: its three parts, or a table of bags that are to be split."""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from milforge.data.dataset import Item, LabelledDataset
from milforge.data.faults import Fault
from milforge.data.labels import Labels
from milforge.data.splits.draw import twice

Function = TypeVar("Function", bound=Callable[..., Any])
Bags = LabelledDataset[Item] | Sequence[Item]


@dataclass(frozen=True, eq=False)
class BagSplits(Generic[Item]):
    """The parts of a data set that makes them itself, as generated ones do.

    Args:
        train: bags to fit on; a data set (`LabelledDataset`) or a list of `Bag`.
        val: bags to select and stop by; there may be none.
        test: bags to report on.
        class_names: the names of the classes, negative first: a label is the number of its class.
            Where a bag has several labels, the name of each label. Empty: the task finds them.
        covariates: what the head may use beside the bags, name to the text of each bag: of all
            training bags, then of validation, then of test.

    Raises:
        ValueError: where a covariate is not that of each bag.
    """

    train: Bags[Item]
    val: Bags[Item]
    test: Bags[Item]
    class_names: tuple[str, ...] = ()
    covariates: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        total = len(self.train) + len(self.val) + len(self.test)
        for name, texts in self.covariates.items():
            if len(texts) != total:
                raise ValueError(
                    f"expected a value of the covariate {name!r} for each of {total} bags, got "
                    f"{len(texts)}"
                )


@dataclass(frozen=True, eq=False)
class BagTable(Generic[Item]):
    """Labelled bags that are to be split: `split=...` says how.

    Args:
        bags: all of them, by the number of their name in `ids`; a data set or a list of `Bag`.
        ids: the names of the bags, all different.
        labels: the label columns, one row per bag; None where the bags are only to be predicted.
        groups: the patient of each bag, or what else keeps bags together in a split; None: each bag
            is a patient.
        columns: the other columns of the label table, name to the text of each bag; they are
            written beside predictions.
        covariates: which of these columns the head may use.
        training_bags: the same bags as they are in training, where they differ from `bags`: with
            fewer instances, or augmented. None: training takes `bags` too.
        feature_names: of the features of an instance, where they have names; a checkpoint keeps
            them.
        faults: what is wrong with some of them.
        on_error: `raise` lists all faults in one error; `skip` goes on without the faulty bags.
        check: whether every bag that a stage needs is read once before it, so that all bags that
            cannot be read are listed together.
        source: where labels come from, for messages.
        places: where each bag stands there, such as `row 3`; None where that says nothing.

    Raises:
        ValueError: where the parts do not describe the same bags, an id comes twice, or a covariate
            is not among the columns.

    Example:
        >>> import torch
        >>> from milforge.data import Bag
        >>> bags = [Bag(torch.zeros(2, 3), bag_id="a"), Bag(torch.ones(4, 3), bag_id="b")]
        >>> table = BagTable.of(bags, ["normal", "tumour"])
        >>> table.ids, table.labels.columns["label"]
        (('a', 'b'), array(['normal', 'tumour'], dtype='<U6'))
    """

    bags: Bags[Item]
    ids: tuple[str, ...]
    labels: Labels | None = None
    groups: tuple[str, ...] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    covariates: tuple[str, ...] = ()
    training_bags: Bags[Item] | None = None
    feature_names: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    on_error: Literal["raise", "skip"] = "raise"
    check: bool = False
    source: Path | str = "the data set"
    places: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        parts: dict[str, Sized | None] = {
            "bags": self.bags,
            "labels": self.labels,
            "groups": self.groups,
            "training_bags": self.training_bags,
            "places": self.places,
        }
        parts |= {f"values of column {name!r}": texts for name, texts in self.columns.items()}
        for name, part in parts.items():
            if part is not None and len(part) != len(self.ids):
                raise ValueError(
                    f"expected {len(self.ids)} {name}, one for each of the ids, got {len(part)}"
                )
        for name in self.ids:
            if not is_text(name):
                raise ValueError(
                    f"{self.source}: expected names of bags in UTF-8, which files of results have, "
                    f"got {name!r}: rename its file"
                )
        if repeated := twice(self.ids):
            raise ValueError(
                "expected ids that differ (a bag without a bag_id has the id ''), got twice: "
                f"{', '.join(map(repr, repeated[:10]))}"
            )
        if absent := [name for name in self.covariates if name not in self.columns]:
            known = ", ".join(self.columns) or "(none)"
            raise ValueError(
                f"expected data.covariates among the columns {known}, got {', '.join(absent)}"
            )
        check_on_error(self.on_error)

    @staticmethod
    def of(
        bags: Sequence[Item],
        labels: Sequence[Any],
        *,
        groups: Sequence[Any] | None = None,
        class_names: Sequence[str] = (),
    ) -> "BagTable[Item]":
        """The table of a list of bags, each with a `bag_id` of its own.

        Args:
            bags: the bags.
            labels: their labels: text, or numbers.
            groups: the patient of each.
            class_names: the names of the classes, where labels are their numbers.

        Raises:
            ValueError: where there is not one label per bag, or an id comes twice.
        """
        return BagTable(
            list(bags),
            tuple(bag.bag_id for bag in bags),
            Labels({"label": np.asarray(labels)}, tuple(class_names)),
            None if groups is None else tuple(map(str, groups)),
        )


def is_text(name: str) -> bool:
    r"""Whether a name can be written down: that of a file may be bytes that are no text.

    Example:
        >>> is_text("slide é"), is_text("slide \udce9")
        (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_on_error(on_error: str) -> None:
    """Checks what a data set function is to do about faulty bags, before it looks for them.

    Raises:
        ValueError: for anything but `raise` and `skip`.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"expected data.on_error to be raise or skip, got {on_error!r}")


def changes_nothing(*names: str) -> Callable[[Function], Function]:
    """Declares options of a data set function that cost or save time and memory, and no more.

    A run goes on with other values of them than it was begun with; another value of any other
    option is another run.
    """

    def declare(function: Function) -> Function:
        function.changes_nothing = names  # type: ignore[attr-defined]
        return function

    return declare
