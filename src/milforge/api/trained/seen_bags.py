"""Which of the bags at hand a checkpoint has seen in training, and what follows from it."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.utilities import rank_zero_only

from milforge.data import Split
from milforge.data.splits.out_of_fold import OutOfFold
from milforge.data.wrappers.patients import BETWEEN, SLIDES
from milforge.processes.files import atomic_path
from milforge.training import MILDataModule
from milforge.training.data.labelled_parts import BagInfo

logger = logging.getLogger(__name__)

# Path to what its checkpoint holds under `milforge`.
Stored = Mapping[str, Mapping[str, Any]]

MEMBERS = "predictions/members.parquet"


def is_other_cohort(
    data: Mapping[str, Any], stored: Mapping[str, Any], overrides: Sequence[str]
) -> bool:
    """Whether the bags are others than those a checkpoint was split with, and no split is given.

    A data set that is chosen anew on the command line counts as another one.

    Args:
        data: the data at hand.
        stored: those of the checkpoint.
        overrides: of the command line.
    """
    chosen = any(re.match(r"[+~]*data=", each) for each in overrides)
    names = ("_target_", "root", "labels")
    others = chosen or any(data.get(name) != stored.get(name) for name in names)
    return others and not is_split_given(overrides)


def is_split_given(overrides: Sequence[str]) -> bool:
    """Whether a command line says how the bags are split."""
    return any(re.match(r"[+~]*split[=./]", each) for each in overrides)


def check_new_bags(
    split: Split | None, stored: Mapping[str, Any] | None, overrides: Sequence[str]
) -> None:
    """Checks that no bag that a checkpoint does not know is left out unasked.

    A table that has grown is split anew, so that new bags come to stand in a part that is not
    tested.

    Args:
        split: of the bags at hand.
        stored: the split of the checkpoint.
        overrides: of the command line.

    Raises:
        ValueError: where one is, and the command line says nothing of a split.
    """
    if split is None or stored is None or is_split_given(overrides):
        return
    known = {bag for part in stored.values() for bag in part}
    left_out = {*split.train, *split.val, *split.calibration} - known
    if left_out:
        raise ValueError(
            f"{len(left_out)} bags, {min(left_out)} among them, are new to the checkpoint and "
            f"would not be tested: of {sum(map(len, astuple(split)))} bags {len(split.test)} are, "
            "in a split that is drawn anew; give split=all to test every bag, or split=files "
            "split.path=FOLDER_OF_THAT_RUN/splits.csv for the test part of that run"
        )


def kind_of_bag(data: Mapping[str, Any]) -> str | None:
    """What is a bag of a data set, slide or patient: its option `bag`; None where it has none."""
    kind = data.get("bag")
    return None if kind is None else str(kind)


def out_of_fold(stored: Stored, kind: str | None = None) -> OutOfFold:
    """The split that has each bag predicted by the checkpoints that did not see it.

    Args:
        stored: the checkpoints.
        kind: of the bags at hand, see `kind_of_bag`.

    Raises:
        ValueError: for a checkpoint that does not say which bags it has seen, or has seen bags of
            another kind, which have other names.
    """
    for path, content in stored.items():
        if not _are_alike(content, kind):
            raise ValueError(
                f"out_of_fold=true: {path} was trained with data.bag="
                f"{kind_of_bag(content['config']['data'])}, so it does not say which bags of "
                f"data.bag={kind} it has seen; leave data.bag as it was"
            )
        if content["split"] is None:
            raise ValueError(
                f"out_of_fold=true: {path} was trained on data that make their parts themselves, "
                "so it does not say which bags it has seen; it is for tables that are split"
            )
    return OutOfFold([seen_by(content) for content in stored.values()])


def seen_by(content: Mapping[str, Any]) -> set[str]:
    """The bags that a checkpoint was fitted on, selected by, or calibrated with.

    Bags that were held back to calibrate are seen once it is calibrated.

    Args:
        content: what it holds under `milforge`.
    """
    split = content["split"] or {}
    parts = ["train", "val"]
    if content["task"].get("calibration") is not None:
        parts.append("calibration")
    return {bag for part in parts for bag in split.get(part, ())}


def tell_members(split: OutOfFold) -> None:
    """Logs how many bags are predicted, and by how many checkpoints each."""
    counts = [len(numbers) for numbers in split.members.values()]
    several = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    logger.info(
        "out_of_fold: %d of %d bags, each predicted by the checkpoints that did not see it: %s "
        "of %d",
        len(counts),
        len(counts) + len(split.left_out),
        several,
        len(split.seen),
    )
    if split.left_out:
        logger.warning(
            "%d bags, %s among them, were seen in training by every checkpoint and are left out",
            len(split.left_out),
            min(split.left_out),
        )


def write_members(folder: Path, split: OutOfFold, paths: Sequence[str]) -> None:
    """Writes `predictions/members.parquet`: a row for each bag and checkpoint that predicted it."""
    rows = [(bag, paths[number]) for bag, numbers in split.members.items() for number in numbers]
    table = pa.table(
        {
            "bag_id": pa.array([bag for bag, _ in rows], pa.string()),
            "checkpoint": pa.array([path for _, path in rows], pa.string()),
        }
    )
    with atomic_path(folder / MEMBERS) as path:
        pq.write_table(table, path)


def seen_in_training(
    stored: Stored, data: MILDataModule, kind: str | None = None
) -> dict[str, Any] | None:
    """How many of the test bags the checkpoints were fitted on or selected by.

    Splits that are drawn change with the table of labels: what was tested may now be trained on.
    A patient was seen with any of the slides, and a slide with its patient.

    Args:
        stored: the checkpoints.
        data: the bags at hand.
        kind: of these bags, see `kind_of_bag`.

    Returns:
        Under `bags` how many were seen by at least one of them, under `of` the number of test
        bags, and under `checkpoints` how many each of them has seen; None where there are none.
    """
    tested = set() if data.split is None else set(data.split.test)
    seen: dict[str, set[str]] = {}
    for path, content in stored.items():
        trained = seen_by(content)
        both = tested & trained
        if not _are_alike(content, kind):
            others = {bag: _other_names(data.info("test", bag), kind) for bag in tested}
            both = {bag for bag, names in others.items() if not trained.isdisjoint(names)}
        if both:
            seen[path] = both
    if not seen:
        return None
    return {
        "bags": len(set().union(*seen.values())),
        "of": len(tested),
        "checkpoints": {path: len(bags) for path, bags in seen.items()},
    }


def _are_alike(content: Mapping[str, Any], kind: str | None) -> bool:
    """Whether a checkpoint has seen bags of that kind, so that names can be compared."""
    trained = kind_of_bag(content["config"]["data"])
    return None in (trained, kind) or trained == kind


def _other_names(info: BagInfo, kind: str | None) -> list[str]:
    """What a bag of that kind is called where the other of slide and patient is a bag."""
    if kind == "patient":
        return info.columns.get(SLIDES, "").split(BETWEEN)
    return [] if info.group is None else [info.group]


@rank_zero_only
def warn_of_seen_bags(seen: Mapping[str, Any] | None) -> None:
    """Warns where bags are tested that a checkpoint was fitted on or selected by."""
    if seen is None:
        return
    for path, count in seen["checkpoints"].items():
        logger.warning(
            "%d of %d test bags were in the train or val part of %s, so these metrics are too "
            "good; split=files split.path=FOLDER_OF_THAT_RUN/splits.csv is its own split, and "
            "out_of_fold=true has each bag predicted by the checkpoints that did not see it",
            count,
            seen["of"],
            path,
        )
