"""Bags of features on disk for training."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from milforge.data import (
    SPLITS,
    BagSplits,
    CachedReader,
    FeatureBags,
    GraphBags,
    Splitting,
    feature_moments,
)
from milforge.data.faults import BagError, list_faults
from milforge.data.find_faults import find_faults
from milforge.data.inspect import Inspection, inspect_folder
from milforge.data.label_table import LabelTable, read_labels, stored_labels
from milforge.data.readers import BagReader, open_reader
from milforge.graph import AdjacencyBuilder
from milforge.nn import EachStream, Standardise
from milforge.training.bag_datamodule import BagDataModule
from milforge.training.datamodule import STAGE_PARTS, task_of

logger = logging.getLogger(__name__)

# Instances whose mean and deviation stand for all: those of more differ in the third digit.
_MOST_MEASURED = 1_000_000


class FeatureBagsDataModule(BagDataModule):
    """A folder of features, as CLAM, TRIDENT, torchmil or STAMP write it, or a table.

    Bags are read when they are needed. What their files say of themselves is read before training
    begins, and all faults are told at once.

    Args:
        root: the folder, or the table.
        labels: table with a row a bag: CSV, TSV or Parquet. None where the layout stores labels,
            or bags are only to be predicted.
        layout: clam, trident, torchmil, stamp, plain or table; None finds out.
        streams: several feature sets a bag: names of TRIDENT's encoders, or a mapping from name to
            folder. None: the one that there is.
        features_key: see `milforge.data.readers.open_reader`; likewise the next three.
        coords_key: key of the coords.
        inst_label_key: key of the instance labels.
        positive_instance_label: which instance labels are positive.
        id_column: see `milforge.data.read_labels`; likewise the next four.
        label_column: column of the label, or several.
        group_column: column of the patient.
        slide_table: STAMP's table of slides.
        classes: names of the classes in order.
        splits: see `milforge.data.Splitting`; likewise the next eight.
        fold: number of the split.
        folds: number of folds.
        repeats: of the folds.
        random_splits: number of random splits, instead of folds.
        test_share: share of the test part of a random split.
        val_share: share of the validation part; 0: none, and the last epoch is the one to test.
        stratify: whether drawn splits spread the classes evenly.
        split_seed: of the splits that are drawn.
        standardise: `train`: features are brought to mean 0 and deviation 1 by the statistics of
            the training part. `all`: by those of all bags, test part included, which leaks; to
            reproduce published protocols. None: not at all.
        max_instances_per_bag: larger training bags give that many instances, drawn anew in each
            epoch; None gives all. Not with graphs: few of the instances drawn would be neighbours.
        cache: folder to which each bag is copied when it is first read; see
            `milforge.data.CachedReader`. None reads the files themselves.
        on_error: `raise`, or `skip`: go on without faulty bags, which the summary of the run
            names. To find those that hold NaN, all features are read once before training.
        check: `full` reads every bag that the stage needs once before training begins, so that NaN
            and infinity are told then, all together; `headers` trusts them until they are read.
        batch_size: see `BagDataModule`; likewise all below.
        eval_batch_size: bags in a batch of evaluation.
        num_workers: processes that read bags.
        adjacency: builds the graph of each bag.
        adjacency_cache: folder of the graphs.
        max_instances: most instances in an optimiser step.
        balanced: whether classes are drawn equally often.
        seed: of the order of the bags.
    """

    def __init__(
        self,
        root: str,
        labels: str | None = None,
        *,
        layout: str | None = None,
        streams: Sequence[str] | Mapping[str, str] | None = None,
        features_key: str | None = None,
        coords_key: str = "coords",
        inst_label_key: str = "inst_label",
        positive_instance_label: int | str | Sequence[int | str] | None = None,
        id_column: str | None = None,
        label_column: str | Sequence[str] | None = None,
        group_column: str | None = None,
        slide_table: str | None = None,
        classes: Sequence[str] | None = None,
        splits: str | None = None,
        fold: int | None = 0,
        folds: int = 5,
        repeats: int = 1,
        random_splits: int | None = None,
        test_share: float = 0.2,
        val_share: float = 0.1,
        stratify: bool = True,
        split_seed: int = 0,
        standardise: Literal["train", "all"] | None = "train",
        max_instances_per_bag: int | None = None,
        cache: str | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        check: Literal["full", "headers"] = "full",
        batch_size: int = 1,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        adjacency: AdjacencyBuilder | None = None,
        adjacency_cache: str | None = None,
        max_instances: int | None = None,
        balanced: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            adjacency=adjacency,
            adjacency_cache=adjacency_cache,
            max_instances=max_instances,
            balanced=balanced,
            seed=seed,
        )
        if on_error not in ("raise", "skip"):
            raise ValueError(f"expected data.on_error to be raise or skip, got {on_error!r}")
        if check not in ("full", "headers"):
            raise ValueError(f"expected data.check to be full or headers, got {check!r}")
        if standardise not in ("train", "all", None):
            raise ValueError(
                f"expected data.standardise to be train, all or null, got {standardise!r}"
            )
        if adjacency is not None and max_instances_per_bag is not None:
            raise ValueError(
                "expected data.max_instances_per_bag=null with data/adjacency, got "
                f"{max_instances_per_bag}: few of the instances drawn would be neighbours; limit "
                "data.max_instances instead"
            )
        self.root = Path(root).expanduser()
        self.labels = labels
        self.reading: dict[str, Any] = {
            "layout": layout,
            "streams": streams,
            "features_key": features_key,
            "coords_key": coords_key,
            "inst_label_key": inst_label_key,
            "positive_instance_label": positive_instance_label,
        }
        self.columns: dict[str, Any] = {
            "id_column": id_column,
            "label_column": label_column,
            "group_column": group_column,
        }
        self.slide_table = slide_table
        self.classes = classes
        self.splitting = Splitting(
            splits, fold, folds, repeats, random_splits, test_share, val_share, split_seed, stratify
        )
        self.standardise = standardise
        self.max_instances_per_bag = max_instances_per_bag
        self.cache = cache
        self.on_error = on_error
        self.check = check
        self._checked: set[str] = set()

    def setup(self, stage: str | None = None) -> None:
        """Opens the data set and, with `check="full"`, reads it once, so that errors show now."""
        super().setup(stage)
        # What was skipped was found by reading everything.
        if self.check == "full" and self.on_error == "raise":
            left = set(STAGE_PARTS.get(stage, SPLITS)) - self._checked
            self._checked |= left
            self._read_all(sorted(left))

    def make_splits(self) -> BagSplits:
        """Opens the folder, looks for faults, and splits the bags."""
        columns = {} if self.labels is not None else self.columns  # of the table of bags itself
        reader = open_reader(self.root, **self.reading, **columns)
        if self.cache is not None:
            reader = CachedReader(reader, self.cache)
        table = self._table(reader)
        found = inspect_folder(reader, table, deep=self.on_error == "skip", progress=_tell)
        if self.on_error == "raise":
            found.raise_if_faulty()
        self.skip(found.faults)
        skipped = set(self.skipped)
        if table is None:
            everything = self._bags(reader, found, [i for i in reader.ids if i not in skipped])
            return BagSplits(everything, everything, everything)
        if table.groups is None:
            _warn_ungrouped(self.root)
        self.split = self.splitting.choose(table.ids, table.labels, table.groups, skipped)
        rows = {name: row for row, name in enumerate(table.ids)}

        def part(ids: Sequence[str], most: int | None = None) -> FeatureBags:
            return self._bags(reader, found, ids, table.labels[[rows[i] for i in ids]], most)

        return BagSplits(
            # Instances are dropped to save memory in training; nothing is gained by it elsewhere.
            part(self.split.train, self.max_instances_per_bag),
            part(self.split.val),
            part(self.split.test),
            task_of(table),
            table.classes,
        )

    def standardiser(self) -> nn.Module | None:
        """`Standardise` by the statistics of the training bags; one a stream, by its name.

        Of more than a million instances only those of some bags are read, drawn at random.
        """
        if self.standardise is None:
            return None
        parts = [self.splits.train]
        if self.standardise == "all":
            parts += [self.splits.val, self.splits.test]
        bags = [(part, number) for part in parts for number in range(len(part))]
        np.random.default_rng(self.seed).shuffle(bags)

        def stream(name: str | None) -> Iterator[Tensor]:
            measured = 0
            for part, number in bags:
                x = part[number].x
                yield x if isinstance(x, Tensor) else x[str(name)]
                measured += len(x) if isinstance(x, Tensor) else len(x[str(name)])
                if measured >= _MOST_MEASURED:
                    return

        shape = self.instance_shape
        if isinstance(shape, dict):
            return EachStream({n: Standardise(*feature_moments(stream(n))) for n in shape})
        return Standardise(*feature_moments(stream(None)))

    def description(self) -> dict[str, Any]:
        """The data set of a run, for its summary; bags without labels are all for the test."""
        description = super().description()
        if self.split is None:
            description["bags"] = {"test": len(self.splits.test)}
        return description

    def _read_all(self, parts: Sequence[str]) -> None:
        """Raises one error that tells the faults of all bags of these parts."""
        chosen = [getattr(self.splits, name) for name in parts]
        bags = [part.bags if isinstance(part, GraphBags) else part for part in chosen]
        faults = find_faults(bags, _tell)
        if faults:
            raise BagError(list_faults(str(self.root), faults), faults)

    def _table(self, reader: BagReader) -> LabelTable | None:
        if self.labels is not None:
            return read_labels(
                self.labels,
                **self.columns,
                slide_table=self.slide_table,
                classes=self.classes,
                strict=False,
            )
        if reader.has_labels:
            return stored_labels(reader, classes=self.classes, strict=False)
        return None

    def _bags(
        self,
        reader: BagReader,
        found: Inspection,
        ids: Sequence[str],
        labels: Tensor | np.ndarray[Any, np.dtype[np.int64]] | None = None,
        most: int | None = None,
    ) -> FeatureBags:
        sizes = np.array([found.headers[name].instances for name in ids], np.int64)
        return FeatureBags(
            reader, ids, labels, sizes=sizes, max_instances_per_bag=most, seed=self.seed
        )


def _tell(done: int, count: int) -> None:
    if done % 500 == 0:
        logger.info("looked at %d of %d bags", done, count)


@rank_zero_only
def _warn_ungrouped(root: Path) -> None:
    logger.warning(
        "%s: no column says which bags are of the same patient, so a patient may come to stand on "
        "two sides of a split: give data.group_column",
        root,
    )
