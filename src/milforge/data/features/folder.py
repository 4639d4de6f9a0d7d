"""A folder of features on disk as a table of bags: `data=feature_bags`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from milforge.data.bag import Bag
from milforge.data.features.cache import CachedReader
from milforge.data.features.feature_bags import FeatureBags
from milforge.data.features.inspection import Inspection, inspect_folder
from milforge.data.features.known_bags import KnownBags
from milforge.data.features.label_table import LabelTable, read_labels, stored_labels
from milforge.data.features.readers import open_reader
from milforge.data.features.readers.table import TableReader
from milforge.data.features.readers.table_columns import describe_columns
from milforge.data.features.same_bags import describe_same
from milforge.data.labels import Labels
from milforge.data.parts import BagTable, changes_nothing, check_on_error
from milforge.data.wrappers.patients import patients_of

logger = logging.getLogger(__name__)

# Bytes of a bag that are read sooner than its file is opened again.
_SOON = 1 << 18


@changes_nothing("cache", "check")
def feature_bags(
    root: str,
    labels: str | None = None,
    *,
    bag: Literal["slide", "patient"] = "slide",
    layout: str | None = None,
    streams: Sequence[str] | Mapping[str, str] | None = None,
    features_key: str | None = None,
    coords_key: str | None = "coords",
    inst_label_key: str = "inst_label",
    positive_instance_label: int | str | Sequence[int | str] | None = None,
    id_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    censorship_column: str | None = None,
    feature_columns: Sequence[str] | None = None,
    exclude_columns: Sequence[str] = (),
    slide_table: str | None = None,
    covariates: Sequence[str] = (),
    max_instances_per_bag: int | None = None,
    cache: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    check: Literal["full", "headers"] = "full",
    seed: int = 0,
) -> BagTable[Bag]:
    """A folder of features, as CLAM, TRIDENT, torchmil or STAMP write it, or a table.

    Bags are read when they are needed. What their files say of themselves is read here.

    Args:
        root: the folder, or the table.
        labels: table with a row per bag: CSV, TSV or Parquet. None where the layout stores labels,
            or bags are only to be predicted.
        bag: what is a bag: a slide, or all slides of a patient; see `patients_of`.
        layout: clam, trident, torchmil, stamp, plain or table; None finds out.
        streams: several feature sets per bag: names of TRIDENT's encoders, or a mapping from name
            to folder. None: the one that there is.
        features_key: key of the features in HDF5 files; see `open_reader`.
        coords_key: key of the coords; None: they are not read.
        inst_label_key: key of the instance labels.
        positive_instance_label: which instance labels are positive.
        id_column: column of the bag; see `milforge.data.read_labels`.
        label_column: column of the label, or several.
        group_column: column of the patient.
        censorship_column: column in which 1 means that the time is censored; not used without
            `labels`.
        feature_columns: where a table holds the instances: the columns of the features, in order.
            None: all columns of numbers, but row numbers without a name. A checkpoint keeps them.
        exclude_columns: columns of such a table that are no features.
        slide_table: STAMP's table of slides; not used without `labels`.
        covariates: columns of the label table that the head may use; see
            `milforge.data.CovariateEncoder`.
        max_instances_per_bag: larger training bags give that many instances, drawn anew in each
            epoch; None gives all. Not with graphs: few of the instances drawn would be neighbours.
        cache: folder to which each bag is copied when it is first read; see
            `milforge.data.CachedReader`. None reads the files themselves.
        on_error: `raise`, or `skip`: go on without faulty bags, which the summary of the run
            names. To find those that hold NaN, all features are read here.
        check: `full` reads every bag that a stage needs once before it begins, so that NaN and
            infinity are one error then, for all bags; those whose files an earlier run has read
            are not read again as long as their sizes and times are the same. `headers` trusts them
            until they are read.
        seed: of the instances that are drawn.

    Raises:
        ValueError: for a name that there is not, and as `open_reader` and `read_labels` do.
        OSError: where there is no such folder or table.
    """
    if check not in ("full", "headers"):
        raise ValueError(f"expected data.check to be full or headers, got {check!r}")
    check_on_error(on_error)
    if bag not in ("slide", "patient"):
        raise ValueError(f"expected data.bag to be slide or patient, got {bag!r}")
    folder = Path(root).expanduser()
    columns: dict[str, Any] = {
        "id_column": id_column,
        "label_column": label_column,
        "group_column": group_column,
    }

    def opened(coords_key: str | None) -> KnownBags:
        reader = open_reader(
            folder,
            layout=layout,
            streams=streams,
            features_key=features_key,
            coords_key=coords_key,
            inst_label_key=inst_label_key,
            positive_instance_label=positive_instance_label,
            feature_columns=feature_columns,
            exclude_columns=exclude_columns,
            **({} if labels is not None else columns),  # of the table of bags itself
        )
        stored = (layout, streams, features_key, coords_key)
        options = repr((*stored, inst_label_key, positive_instance_label))
        return KnownBags(reader if cache is None else CachedReader(reader, cache), kept=options)

    known = opened(coords_key)
    reader = known.reader
    if isinstance(reader, TableReader):
        if labels is not None and Path(labels).expanduser().resolve() == reader.root.resolve():
            raise ValueError(
                f"{folder}: expected a folder of features, found none, and the table of labels "
                f"{labels} is not one of instances: give the folder of the features as data.root"
            )
        for line in describe_columns(reader.root, reader.columns):
            logger.log(*line)
    table = (
        stored_labels(reader, strict=False)
        if labels is None
        else read_labels(
            labels,
            **columns,
            censorship_column=censorship_column,
            slide_table=slide_table,
            strict=False,
        )
    )
    found = inspect_folder(
        reader,
        table,
        deep=on_error == "skip",
        progress=log_progress,
        known=known,
        soon=_SOON if check == "full" and cache is None else 0,
    )
    known.save()
    if found.faults and coords_key is not None and on_error == "raise":
        known, found = _without_odd_coords(known, found, opened, table)
        reader = known.reader
    if found.same:
        logger.warning(
            "%s: bags of the same features: %s; of one slide keep one, or give all one patient by "
            "data.group_column, or it may come to be trained on and tested",
            folder,
            describe_same(found.same),
        )
    ids = reader.ids if table is None else table.ids
    headers = found.headers
    sizes = np.array([headers[i].instances if i in headers else 0 for i in ids], np.int64)

    def bags(most: int | None) -> FeatureBags:
        return FeatureBags(
            reader, ids, sizes=sizes, max_instances_per_bag=most, seed=seed, known=known
        )

    slides = BagTable(
        bags(None),
        tuple(ids),
        # Instances are left out to save memory in training; nothing is gained by it elsewhere.
        training_bags=None if max_instances_per_bag is None else bags(max_instances_per_bag),
        covariates=tuple(covariates),
        feature_names=reader.feature_names,
        faults=found.faults,
        on_error=on_error,
        # What is skipped was found by reading everything.
        check=check == "full" and on_error == "raise",
        **_known(table, folder),
    )
    return slides if bag == "slide" else patients_of(slides)


def _without_odd_coords(
    known: KnownBags,
    found: Inspection,
    opened: Callable[[None], KnownBags],
    table: LabelTable | None,
) -> tuple[KnownBags, Inspection]:
    """The bags without coords where nothing but these is wrong; what needs them asks for them."""
    without = opened(None)
    same = inspect_folder(without.reader, table, progress=log_progress, known=without)
    without.save()
    if same.faults:
        return known, found
    logger.warning(
        "no coords are read, because those of %d bags are odd: %s",
        len({fault.bag_id for fault in found.faults}),
        found.faults[0],
    )
    return without, same


def _known(table: LabelTable | None, folder: Path) -> dict[str, Any]:
    """What the label table says of the bags."""
    if table is None:
        return {"source": folder}
    labels: Labels | None = table.labels if len(table.ids) else None
    return {
        "labels": labels,
        "groups": table.groups,
        "places": table.places,
        "columns": table.columns,
        "source": table.source,
    }


def log_progress(done: int, count: int) -> None:
    """A line every 500 bags."""
    if done % 500 == 0:
        logger.info("looked at %d of %d bags", done, count)
