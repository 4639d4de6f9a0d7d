"""A table in which each row is an instance: CSV, TSV, Parquet, UCI's `.data`."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import ONE_STREAM, Bag
from milforge.data.faults import Fault, bag_error
from milforge.data.features.readers.bag_reader import BagHeader, Out, Rows, into
from milforge.data.features.readers.instance_labels import InstanceLabel, map_instance_labels
from milforge.data.features.readers.layouts.layout import bag_id_of
from milforge.data.features.readers.table_columns import choose_columns
from milforge.data.features.tables import (
    NAMELESS,
    as_ids,
    as_texts,
    find_column,
    find_group_column,
    read_table,
)

ID_COLUMNS = ("bag_id", "bag_name", "slide_id", "bag", "molecule", "id")
LABEL_COLUMNS = ("label", "bag_label", "class")


class TableReader:
    """A `BagReader` of a table, held in memory; `open_reader` makes it.

    Features are all columns of numbers but those of bag, label, group and instance label; see
    `choose_columns`. They are float32 `(N, D)`, in the order of the columns, and the instances of
    a bag in the order of the rows. In UCI's `.data`, which names no columns, the first is the bag
    and the last its label.

    Args:
        path: the table.
        id_column: column of the bag; None looks for the usual ones.
        label_column: column of the bag label, the same in all rows of a bag; None looks for the
            usual ones, and leaves bags without labels where there is none. An empty list: bags
            have no labels, whatever columns there are.
        group_column: column of what keeps bags together; None looks for the usual ones.
        inst_label_key: column of the instance labels, if there is one.
        positive: the instance labels that mean positive; None where they are 0, 1 and -1.
        feature_columns: the features, in order; None: all columns of numbers.
        exclude_columns: columns that are no features.

    Attributes:
        columns: which columns are features, which are left out, which are doubtful.
        x: `(M, D)` float32, the features of all instances.

    Raises:
        FileNotFoundError: where there is no such table.
        ValueError: where it cannot be read, has no such column, or no feature, a column is
            numbers in part, or several columns of labels are given.
    """

    layout = "table"
    streams = (ONE_STREAM,)

    def __init__(
        self,
        path: Path,
        *,
        id_column: str | None = None,
        label_column: str | Sequence[str] | None = None,
        group_column: str | None = None,
        inst_label_key: str = "inst_label",
        positive: tuple[InstanceLabel, ...] | None = None,
        feature_columns: Sequence[str] | None = None,
        exclude_columns: Sequence[str] = (),
    ) -> None:
        self.root = path
        self.positive = positive
        has_labels = label_column is None or len(label_column) > 0
        label_column = _one_column(path, label_column)
        texts = {
            *(ID_COLUMNS if id_column is None else (id_column,)),
            *(() if group_column is None else (group_column,)),
        }
        nameless = path.suffix.lower() == NAMELESS
        table = read_table(path, lambda name: name in ({"f0"} if nameless else texts))
        names = table.column_names
        if nameless:
            id_column, label_column = id_column or "f0", label_column or names[-1]
        id_column = find_column(path, names, id_column, ID_COLUMNS, "data.id_column")
        if label_column is not None or set(LABEL_COLUMNS) & set(names):
            label_column = find_column(
                path, names, label_column, LABEL_COLUMNS, "data.label_column"
            )
        group_column = find_group_column(path, names, group_column)
        bags = np.array([bag_id_of(text) for text in as_ids(table[id_column])], dtype=str)
        order = np.argsort(bags, kind="stable")
        found, starts = np.unique(bags[order], return_index=True)
        if "" in found:
            raise ValueError(
                f"{path}: expected a bag in each row, got none in row "
                f"{int(order[0])} (counted from 0): fill in {id_column}"
            )
        self._ids = tuple(found.tolist())
        self._rows: dict[str, Rows] = dict(zip(self._ids, np.split(order, starts[1:]), strict=True))
        roles = {inst_label_key: "instance label"} if inst_label_key in names else {}
        roles |= {} if group_column is None else {group_column: "group"}
        roles |= {} if label_column is None else {label_column: "label"}
        roles[id_column] = "bag"
        self.columns, x = choose_columns(path, table, roles, feature_columns, exclude_columns)
        self.x = torch.from_numpy(x)
        self._labels: NDArray[Any] | None = None
        if label_column is not None and has_labels:
            self._labels = np.array(as_texts(table[label_column]))
        self._groups = None if group_column is None else np.array(as_texts(table[group_column]))
        self._instance_labels: Any = None
        if inst_label_key in names:
            self._instance_labels = table[inst_label_key].to_numpy()

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the bags, sorted."""
        return self._ids

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns that are features, in order."""
        return self.columns.features

    @cached_property
    def has_labels(self) -> bool:
        """Whether there is a column of bag labels."""
        return self._labels is not None

    def files(self, bag_id: str) -> dict[str, Path]:
        """The table."""
        return {ONE_STREAM: self.root}

    def state(self, bag_id: str) -> None:
        """None: a table is in memory."""
        return None

    def header(self, bag_id: str, *, soon: int = 0) -> BagHeader:
        """Size, width and dtype of the bag.

        Raises:
            BagError: where there is no such bag.
        """
        return BagHeader(
            bag_id=bag_id,
            instances=len(self._of(bag_id)),
            widths={ONE_STREAM: self.x.shape[1]},
            dtypes={ONE_STREAM: "float32"},
            files=self.files(bag_id),
            has_instance_labels=self._instance_labels is not None,
        )

    def read(
        self, bag_id: str, rows: Rows | None = None, *, out: Out | None = None, coords: bool = True
    ) -> Bag:
        """The bag, or the instances of those numbers; see `BagReader.read`.

        Raises:
            BagError: where there is no such bag, or its instance labels are not understood.
        """
        chosen = self._of(bag_id) if rows is None else self._of(bag_id)[rows]
        y_inst = None
        if self._instance_labels is not None:
            y_inst = map_instance_labels(self._instance_labels[chosen], self.positive, self.root)
        x = into(out, ONE_STREAM, self.x[torch.from_numpy(chosen)])
        return Bag(x, y_inst=y_inst, bag_id=bag_id)

    def content(self, bag_id: str) -> int:
        """A table is read once."""
        return id(self.x)

    def coords(self, bag_id: str) -> Tensor | None:
        """None: a table has no coords."""
        return None

    def label(self, bag_id: str) -> str | None:
        """The label of the bag; None where the table has no labels.

        Raises:
            BagError: where rows of the bag disagree.
        """
        return self._shared(bag_id, self._labels, "label")

    def group(self, bag_id: str) -> str | None:
        """What keeps the bag together with others; None where the table does not say it.

        Raises:
            BagError: where rows of the bag disagree.
        """
        return self._shared(bag_id, self._groups, "group")

    def _shared(self, bag_id: str, column: Any, what: str) -> str | None:
        if column is None:
            return None
        values = np.unique(column[self._of(bag_id)])
        if len(values) > 1:
            message = f"expected one {what} of bag {bag_id!r}, got {', '.join(values)}"
            raise bag_error([Fault(bag_id, self.root, message, "mend the rows of the bag")])
        return str(values[0])

    def _of(self, bag_id: str) -> Rows:
        if bag_id not in self._rows:
            message = f"expected rows of bag {bag_id!r}, found none"
            remedy = "add them, or remove the bag from the labels"
            raise bag_error([Fault(bag_id, self.root, message, remedy)])
        return self._rows[bag_id]


def _one_column(path: Path, given: str | Sequence[str] | None) -> str | None:
    """The column of the label.

    Raises:
        ValueError: where several are given.
    """
    if given is None or isinstance(given, str):
        return given
    if len(given) > 1:
        raise ValueError(
            f"{path}: expected one data.label_column, as a table of instances has one label of "
            f"each bag, got {', '.join(given)}: give several labels in a table of bags, by "
            "data.labels"
        )
    return given[0] if given else None
