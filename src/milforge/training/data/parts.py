"""From what a data set function returns to three parts with labels of the task."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor

from milforge.data import (
    SPLITS,
    AllBags,
    BagSplits,
    BagTable,
    CovariateEncoder,
    LabelError,
    LabelledBags,
    LabelledDataset,
    Labels,
    Split,
    Splitter,
    as_dataset,
)
from milforge.data.faults import BagError, Fault, in_its_table, list_faults
from milforge.data.splits.out_of_fold import OutOfFold
from milforge.tasks import Task
from milforge.training.data.labelled_parts import BagInfo, Parts, names_of
from milforge.training.data.patients import unlike_patients

logger = logging.getLogger(__name__)


def make_parts(
    data: BagSplits[Any] | BagTable[Any],
    task: Task,
    splitter: Splitter | None,
    covariates: Sequence[Mapping[str, Any]] | None = None,
) -> Parts:
    """Splits a data set where it is to be split, and gives its bags the labels of the task.

    Args:
        data: what a data set function returned.
        task: what the labels mean.
        splitter: how a table of bags is split.
        covariates: what a checkpoint knows of the covariates; None learns it from the training
            part.

    Raises:
        BagError: lists all that is wrong with the bags, where none are to be skipped.
        ValueError: where there is a split to choose and nothing to be split, or the other way
            round; and as `Task.encode` and `Splitter.choose` do.
    """
    if isinstance(data, BagTable):
        return _split_table(data, task, splitter, covariates)
    if not isinstance(data, BagSplits):
        raise ValueError(
            "data: expected a function that returns milforge.data.BagSplits or BagTable, got "
            f"{type(data).__name__}"
        )
    if splitter is not None:
        raise ValueError(
            "split: this data set makes its parts itself, so no split is used; choose split=none"
        )
    parts = {name: as_dataset(getattr(data, name)) for name in SPLITS}
    encoder, seen = _generated_covariates(data, covariates)
    values = [parts[name].labels for name in SPLITS if len(parts[name])]
    if any(each is None for each in values):
        if encoder is None:
            return Parts(parts, None)
        bare = {name: _with(parts[name], None, seen[name]) for name in SPLITS}
        return Parts(bare, None, covariates=encoder)
    labels = _generated(torch.cat([each for each in values if each is not None]), data.class_names)
    task = task.resolve(labels)
    y = torch.from_numpy(task.encode(labels))
    ends = np.cumsum([len(parts[name]) for name in SPLITS])
    labelled = {
        name: _with(parts[name], each, seen[name])
        for name, each in zip(SPLITS, y.tensor_split(ends[:-1].tolist()), strict=True)
    }
    _fit(task, labelled["train"])
    return Parts(labelled, task, covariates=encoder)


def _with(
    bags: LabelledDataset[Any], y: Tensor | None, covariates: Tensor | None
) -> LabelledBags[Any]:
    return LabelledBags(bags, np.arange(len(bags)), y, covariates)


def _generated_covariates(
    data: BagSplits[Any], stored: Sequence[Mapping[str, Any]] | None
) -> tuple[CovariateEncoder | None, dict[str, Tensor | None]]:
    """What knows the covariates of generated bags, and those of each part as numbers."""
    sizes = [len(getattr(data, name)) for name in SPLITS]
    if stored is None and data.covariates:
        train = {name: texts[: sizes[0]] for name, texts in data.covariates.items()}
        encoder = CovariateEncoder.fit(train)
    elif stored is not None:
        encoder = CovariateEncoder(stored)
    else:
        return None, dict.fromkeys(SPLITS)
    parts = torch.split(encoder(data.covariates), sizes)
    return encoder, dict(zip(SPLITS, parts, strict=True))


def _generated(values: Tensor, class_names: tuple[str, ...]) -> Labels:
    """The labels of bags that have them as numbers, as columns."""
    numbers = values.numpy()
    if numbers.ndim == 1:
        return Labels({"label": numbers}, class_names)
    names = class_names or tuple(map(str, range(numbers.shape[1])))
    return Labels({name: numbers[:, c] for c, name in enumerate(names)}, class_names)


def _split_table(
    data: BagTable[Any],
    task: Task,
    splitter: Splitter | None,
    covariates: Sequence[Mapping[str, Any]] | None,
) -> Parts:
    faults, bags = list(data.faults), as_dataset(data.bags)
    if data.labels is None:
        _raise_if(data, faults)
        skipped = names_of(faults)
        chosen = [number for number, name in enumerate(data.ids) if name not in skipped]
        nothing = LabelledBags(bags, [])
        numbers = np.array(chosen, dtype=np.int64)
        encoder = None if covariates is None else CovariateEncoder(covariates)
        seen = None if encoder is None else encoder(_columns(data, numbers))
        parts = {"train": nothing, "val": nothing, "test": LabelledBags(bags, numbers, None, seen)}
        return _parts_of(data, parts, None, None, faults, encoder)
    usable = np.arange(len(data.ids))
    try:
        task = task.resolve(data.labels)
        y = task.encode(data.labels)
    except LabelError as error:
        if not error.problems:
            raise ValueError(f"{data.source}: {error}") from error

        def where(row: int) -> str:
            place = None if data.places is None else data.places[row]
            return in_its_table(data.ids[row], place)

        faults += [
            Fault(data.ids[row], data.source, f"{where(row)}: {message}", remedy)
            for row, (message, remedy) in error.problems.items()
        ]
        usable = np.array([row for row in usable if row not in error.problems], dtype=np.int64)
        rest = data.labels.take(usable)
        try:
            task = task.resolve(rest)
            y = task.encode(rest)
        except LabelError:
            _raise_if(data, faults)
            raise
    unlike = unlike_patients(data, task, y, usable)
    faults += unlike
    _raise_if(data, faults)
    of_unlike = {fault.bag_id for fault in unlike}
    kept = np.array([data.ids[row] not in of_unlike for row in usable], dtype=np.bool_)
    usable, y = usable[kept], y[kept]
    skipped = names_of(faults)
    if splitter is None:
        raise ValueError(
            f"split: {data.source} has bags that are to be split, and nothing says how; choose "
            "split=kfold, random, files or all"
        )
    if data.groups is None and not isinstance(splitter, AllBags | OutOfFold):
        _warn_ungrouped(data.source)
    ids = [data.ids[row] for row in usable]
    groups = None if data.groups is None else [data.groups[row] for row in usable]
    split = splitter.choose(ids, task.strata(y), groups, skipped)
    at = {name: position for position, name in enumerate(ids)}
    names = [name for name, bags_of in vars(split).items() if bags_of or name in SPLITS]
    places = {
        name: np.array([at[bag] for bag in getattr(split, name)], dtype=np.int64) for name in names
    }
    rows = {name: usable[places[name]] for name in names}
    encoder = _encoder(data, rows["train"], covariates)

    def part(name: str) -> LabelledBags[Any]:
        of_training = name == "train" and data.training_bags is not None
        chosen = as_dataset(data.training_bags) if of_training else bags  # type: ignore[arg-type]
        known = None if encoder is None else encoder(_columns(data, rows[name]))
        return LabelledBags(chosen, rows[name], torch.from_numpy(y[places[name]]), known)

    parts = {name: part(name) for name in names}
    _fit(task, parts["train"])
    return _parts_of(data, parts, task, split, faults, encoder)


def _parts_of(
    data: BagTable[Any],
    parts: Mapping[str, LabelledDataset[Any]],
    task: Task | None,
    split: Split | None,
    faults: Sequence[Fault],
    covariates: CovariateEncoder | None,
) -> Parts:
    if faults:
        listed = list_faults("data.on_error=skip", faults)
        logger.warning("%s; going on without them", listed)
    return Parts(
        parts,
        task,
        split=split,
        faults=tuple(faults),
        covariates=covariates,
        check=data.check,
        source=data.source,
        known=_known(data),
        feature_names=data.feature_names,
    )


def _fit(task: Task, train: LabelledDataset[Any]) -> None:
    """An evaluation may have no training bags: the task then knows what training taught it."""
    if len(train) and train.labels is not None:
        task.fit(train.labels)


def _encoder(
    data: BagTable[Any],
    train: NDArray[np.int64],
    stored: Sequence[Mapping[str, Any]] | None,
) -> CovariateEncoder | None:
    if stored is not None:
        return CovariateEncoder(stored)
    if not data.covariates:
        return None
    if not len(train):
        raise ValueError("data.covariates: expected training bags to learn their scale from")
    columns = _columns(data, train)
    return CovariateEncoder.fit({name: columns[name] for name in data.covariates})


def _columns(data: BagTable[Any], numbers: NDArray[np.int64]) -> dict[str, list[str]]:
    return {name: [texts[row] for row in numbers] for name, texts in data.columns.items()}


def _known(data: BagTable[Any]) -> dict[str, BagInfo]:
    return {
        name: BagInfo(
            None if data.groups is None else data.groups[row],
            {column: texts[row] for column, texts in data.columns.items()},
        )
        for row, name in enumerate(data.ids)
    }


def _raise_if(data: BagTable[Any], faults: Sequence[Fault]) -> None:
    if faults and data.on_error == "raise":
        raise BagError(list_faults(str(data.source), faults), faults)


@rank_zero_only
def _warn_ungrouped(source: Path | str) -> None:
    logger.warning(
        "%s: no column says which bags are of the same patient, so a patient may come to stand on "
        "two sides of a split: give data.group_column",
        source,
    )
