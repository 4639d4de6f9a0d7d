"""Maps of the predicted bags: what each tile says, as pages, pictures, tables and GeoJSON."""

import logging
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch

from milforge.callbacks.predictions import bags_table
from milforge.callbacks.records import BagRecord, RecordCollector
from milforge.data.files import atomic_path
from milforge.maps.choose import Judged, choose
from milforge.maps.geojson import write_geojson
from milforge.maps.page import build_index, build_map_page
from milforge.maps.picture import write_picture
from milforge.maps.scale import Scales, scales_of
from milforge.maps.table import write_tiles
from milforge.maps.tiles import TileMap, corners_of, folder_of, side_of
from milforge.maps.written import Row, check_agreement, expected, written_rows
from milforge.tasks import Multilabel, Task

logger = logging.getLogger(__name__)

SUMS = 1e-4  # of the sum of the sizes of the contributions, which are float32 in part


class MapWriter(RecordCollector):
    """Writes a folder of maps after a prediction, with `index.html` and a folder for each bag.

    In that lie `map.html`, `map.png`, `map.geojson.gz` and `tiles.parquet`. All maps have the same
    colours. A bag that cannot be mapped is named in the index, with the reason.

    Args:
        folder: where to write.
        checkpoints: what predicts: the predictions in the folders of their runs are compared.
        bags: the names of the bags to map; `wrong`, `most_certain`, or None: the worst and the
            best predicted ones.
        top: how many tiles stand in `map.geojson.gz`, those that say most; None: all.
        tile_size: side of a tile in the units of the coords; None: the stride of the coords.

    Raises:
        ValueError: for a number that is none of tiles or of units.
    """

    def __init__(
        self,
        folder: str | Path,
        checkpoints: str | Sequence[str],
        bags: str | int | Sequence[str | int] | None = None,
        top: int | None = 5000,
        tile_size: float | None = None,
    ) -> None:
        super().__init__()
        if top is not None and top < 1:
            raise ValueError(f"expected top of at least 1, or null for all tiles, got {top}")
        if tile_size is not None and not 0 < tile_size < float("inf"):
            raise ValueError(f"expected tile_size above 0, got {tile_size}")
        self.folder = Path(folder)
        self.checkpoints = [checkpoints] if isinstance(checkpoints, str) else list(checkpoints)
        several = isinstance(bags, Sequence) and not isinstance(bags, str)
        self.bags = [str(each) for each in cast(Sequence[Any], bags)] if several else bags
        if isinstance(self.bags, int):  # a name that looks like a number
            self.bags = str(self.bags)
        self.top = top
        self.tile_size = tile_size

    def finish(
        self, trainer: L.Trainer, module: L.LightningModule, records: list[BagRecord], stage: str
    ) -> None:
        """Writes the maps.

        Raises:
            ValueError: where no bag can be mapped; the index says why.
        """
        task = cast(Task, module.task)
        if any(record.sampled for record in records):
            raise ValueError(
                "milforge-map draws the tiles of bags, and this model looks at patches of large "
                "images: milforge-evaluate draws where it looked"
            )
        chosen, missing = choose(cast(Any, self.bags), judged(records, task))
        written = [written_rows(path) for path in self.checkpoints]
        maps: list[TileMap] = []
        for number in chosen:
            record = records[number]
            try:
                batch = _batch_of(trainer, module, record, number)
                maps.append(self._map(module, record, task, batch, written))
            except ValueError as error:
                missing[record.bag_id] = " ".join(str(error).split())
        scales = scales_of(maps)
        for each in maps:
            self._write(each, scales)
        self._write_text("index.html", build_index(maps, missing, self._about(len(records))))
        for name, reason in missing.items():
            logger.warning("bag %s is not mapped: %s", name, reason)
        if missing and not maps:
            name, reason = next(iter(missing.items()))
            raise ValueError(f"no bag could be mapped: bag {name}: {reason}")
        print(f"maps         {len(maps)} bags: {self.folder / 'index.html'}")

    def _map(
        self,
        module: Any,
        record: BagRecord,
        task: Task,
        batch: Any,
        written: Sequence[Any],
    ) -> TileMap:
        folder_of(record.bag_id)
        corners = corners_of(record.coords, record.slide)
        side = side_of(corners, self.tile_size)
        of_bag = getattr(module, "of_bag", None)
        files = written if of_bag is None else [written[n] for n in of_bag[record.bag_id]]
        said = expected(files, record.bag_id, record.part)
        if said is None:
            notes = ["No predictions of the run were at hand to compare its prediction with."]
        else:
            check_agreement(_row(record, task), said)
            notes = ["Its prediction is the one in predictions/bags.parquet of the run."]
        with torch.inference_mode():
            found = module.explained(batch)
        if found.contributions is None and record.weights is None:
            raise ValueError(
                "the model has neither attention nor contributions that are exact: choose one that "
                "has (docs/models.md)"
            )
        if found.contributions is None:
            notes.append("The model has no exact contributions, so its attention is shown.")
        else:
            _check_sum(found.contributions, found.offset, found.logits)
            notes.append(_sum_in_words(found.offset, found.logits, len(self.checkpoints)))
        return TileMap(
            name=record.bag_id,
            corners=corners,
            side=side,
            outputs=_outputs(task, len(found.logits)),
            classes=task.class_names,
            scores=_numpy(record.scores),
            weights=_numpy(record.weights),
            contributions=_numpy(found.contributions),
            offset=_numpy(found.offset),
            logits=found.logits.numpy(),
            probability=_numpy(found.probability),
            shown=_shown(record, len(found.logits)),
            label=_label(record, task),
            predicted=_predicted(record, task),
            notes=tuple(notes),
        )

    def _write(self, tiles: TileMap, scales: Scales) -> None:
        folder = self.folder / folder_of(tiles.name)
        writers: dict[str, Callable[[Path], None]] = {
            "tiles.parquet": lambda path: write_tiles(path, tiles),
            "map.geojson.gz": lambda path: write_geojson(path, tiles, self.top),
            "map.png": lambda path: write_picture(path, tiles, scales),
        }
        for name, write in writers.items():
            with atomic_path(folder / name) as partial:
                write(partial)
        self._write_text(f"{folder.name}/map.html", build_map_page(tiles, scales))

    def _write_text(self, name: str, text: str) -> None:
        with atomic_path(self.folder / name) as partial:
            partial.write_text(text, "utf-8")

    def _about(self, count: int) -> str:
        kinds = {
            None: "The worst and the best predicted",
            "wrong": "The wrongly predicted",
            "most_certain": "The most certainly predicted",
        }
        named = not (self.bags is None or isinstance(self.bags, str)) or self.bags not in kinds
        which = "Named bags" if named else kinds[cast(Any, self.bags)]
        return f"{which} of {count} bags; by {', '.join(self.checkpoints)}."


def judged(records: Sequence[BagRecord], task: Task) -> Judged:
    """How right and how certain each prediction is."""
    error, wrong, certainty = (np.full(len(records), nan) for _ in range(3))
    for i, record in enumerate(records):
        known = record.y is not None and not bool(record.y.isnan().any())
        y = record.y if known else None
        p = record.columns.get("probability")
        if p is not None and p.ndim == 1 and len(p) == len(task.class_names):
            one_class = _is_one_class(task)
            certainty[i] = float(p.max() if one_class else torch.maximum(p, 1 - p).min())
            if y is not None and one_class:
                error[i] = 1 - float(p[int(y)])
                wrong[i] = float(int(p.argmax()) != int(y))
            elif y is not None:
                error[i] = float((p - y).abs().mean())
                wrong[i] = float(bool(((p >= 0.5) != (y >= 0.5)).any()))
        number = record.columns.get("prediction")
        if y is not None and number is not None and number.numel() == y.numel():
            error[i] = float((number.double() - y.double()).abs().mean())
    return Judged([record.bag_id for record in records], error, wrong, certainty)


def _batch_of(trainer: L.Trainer, module: Any, record: BagRecord, number: int) -> Any:
    """The batch of one bag, as it was predicted."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    batch = data.collate_fn([data.parts[record.part][number]])
    return batch.to(module.device)


def _row(record: BagRecord, task: Task) -> Row:
    """What is predicted of a bag, in the columns of the predictions file."""
    (row,) = bags_table([record], task).to_pylist()
    starts = tuple("logit" if name == "logits" else name for name in record.columns)
    return {k: v for k, v in row.items() if isinstance(v, float) and k.startswith(starts)}


def _check_sum(contributions: torch.Tensor, offset: Any, logits: torch.Tensor) -> None:
    gap = (contributions.sum(0) + offset - logits).abs()
    if not bool((gap <= SUMS * (contributions.abs().sum(0) + offset.abs())).all()):
        raise ValueError(
            "the contributions that the model states do not sum to its logits (they are "
            f"{gap.max():.3g} apart): mend its method contributions"
        )


def _sum_in_words(offset: Any, logits: torch.Tensor, checkpoints: int) -> str:
    def words(values: torch.Tensor) -> str:
        return ", ".join(f"{each:.4g}" for each in values.tolist())

    mean = (
        " It is the mean of the models' logits, not the logit of their mean probability."
        if checkpoints > 1
        else ""
    )
    return (
        f"The contributions of all tiles and the offset {words(offset)} sum to the logit "
        f"{words(logits)}.{mean}"
    )


def _outputs(task: Task, count: int) -> tuple[str, ...]:
    names = task.class_names
    if len(names) == count:
        return names
    if count == 1:
        return (names[1],) if len(names) == 2 else ("output",)
    return tuple(f"output {number}" for number in range(count))


def _shown(record: BagRecord, outputs: int) -> int:
    p = record.columns.get("probability")
    return int(p.argmax()) if p is not None and p.ndim == 1 and len(p) == outputs else 0


def _is_one_class(task: Task) -> bool:
    """Whether a bag is of one of the classes, rather than of any number of them."""
    return not isinstance(task, Multilabel)


def _label(record: BagRecord, task: Task) -> str | None:
    if record.y is None or bool(record.y.isnan().any()):
        return None
    return task.describe(record.columns, record.y).truth


def _predicted(record: BagRecord, task: Task) -> str:
    p = record.columns.get("probability")
    if p is not None and p.ndim == 1 and len(p) == len(task.class_names):
        if not _is_one_class(task):
            return _named(p, task)
        best = int(p.argmax())
        return f"{task.class_names[best]} ({float(p[best]):.3f})"
    shown = [(name, each) for name, each in record.columns.items() if name != "logits"][:3]
    return "; ".join(
        f"{name} {', '.join(f'{float(value):.4g}' for value in each.flatten()[:4])}"
        for name, each in shown
    )


def _named(values: torch.Tensor, task: Task) -> str:
    found = [n for n, v in zip(task.class_names, values.tolist(), strict=True) if v >= 0.5]
    return ", ".join(found) or "none of them"


def _numpy(values: torch.Tensor | None) -> Any:
    return None if values is None else values.double().numpy()
