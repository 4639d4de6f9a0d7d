"""Maps of the predicted bags: what each tile says, as pages, pictures, tables and GeoJSON."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import lightning as L
import torch

from milforge.callbacks.mapping.bags_in_words import (
    judged,
    label_of,
    outputs_of,
    predicted_of,
    shown_output,
)
from milforge.callbacks.mapping.map_faithfulness import measure_faithfulness
from milforge.callbacks.predictions import bags_table
from milforge.callbacks.records import BagRecord, RecordCollector
from milforge.data.dataset import bag_tile
from milforge.data.files import atomic_path
from milforge.data.images.sources.formats.packages import require
from milforge.maps.checks.blocks import blocks_of
from milforge.maps.checks.faithfulness_files import areas_table, draw_curves, write_curves
from milforge.maps.checks.written import Row, check_agreement, expected, written_rows
from milforge.maps.choose import choose
from milforge.maps.geojson import write_geojson
from milforge.maps.kinds import Said
from milforge.maps.ome_tiff import write_ome_tiff
from milforge.maps.page import build_index, build_map_page
from milforge.maps.picture import write_picture
from milforge.maps.places import Place, place_tiles
from milforge.maps.scale import Scales, scales_of
from milforge.maps.slide.ground import Ground, lay
from milforge.maps.slide.slides import Slide, find_slides
from milforge.maps.sums import check_sum, sum_in_words
from milforge.maps.table import write_tiles
from milforge.maps.tiles import TileMap, corners_of, folder_of
from milforge.markup import Markup
from milforge.tasks import Task

logger = logging.getLogger(__name__)

Score = Literal["auto", "contribution", "attention", "gradient", "occlusion"]


class MapWriter(RecordCollector):
    """Writes a folder of maps after a prediction, with `index.html` and a folder for each bag.

    In that lie `map.html`, `map.png`, `map.geojson.gz` and `tiles.parquet`. All maps have the same
    colours. A bag that cannot be mapped is named in the index, with the reason, and so is one whose
    slide cannot be drawn.

    Args:
        folder: where to write.
        checkpoints: what predicts: the predictions in the folders of their runs are compared.
        bags: the names of the bags to map; `wrong`, `most_certain`, or None: the worst and the
            best predicted ones.
        score: what pictures show, and what says which tiles say most: `contribution`, `attention`,
            `gradient` (times input), `occlusion` (of blocks of tiles), or `auto`: the first of the
            contribution, the attention and the gradient that the model has. Gradient and occlusion
            are only known where they are chosen.
        slides: the folder of the slides; None: the tiles alone are drawn.
        mpp: micrometres of a pixel of level 0; None: as the slide tells.
        top: how many tiles stand in `map.geojson.gz`, those that say most; None: all.
        tile_size: side of a tile in the units of the coords; None: as the files of the bag tell,
            or else the stride of the coords.
        ome_tiff: whether to write `map.ome.tif`, too.
        faithfulness: whether to measure over all bags what the logit is without the tiles that say
            most, and with them alone; the areas are in `measured`.

    Raises:
        ValueError: for a number that is none of tiles or of units, or a score that there is not.
        FileNotFoundError: where there is no such folder of slides.
    """

    def __init__(
        self,
        folder: str | Path,
        checkpoints: str | Sequence[str],
        bags: str | int | Sequence[str | int] | None = None,
        score: Score = "auto",
        slides: str | Path | None = None,
        mpp: float | None = None,
        top: int | None = 5000,
        tile_size: float | None = None,
        ome_tiff: bool = False,
        faithfulness: bool = False,
    ) -> None:
        super().__init__()
        if top is not None and top < 1:
            raise ValueError(f"expected top of at least 1, or null for all tiles, got {top}")
        for name, value in (("tile_size", tile_size), ("mpp", mpp)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"expected {name} above 0, got {value}")
        if score not in get_args(Score):
            raise ValueError(f"expected score to be {', '.join(get_args(Score))}, got {score!r}")
        if ome_tiff:
            require("tifffile")
        self.folder = Path(folder)
        self.checkpoints = [checkpoints] if isinstance(checkpoints, str) else list(checkpoints)
        several = isinstance(bags, Sequence) and not isinstance(bags, str)
        self.bags = [str(each) for each in cast(Sequence[Any], bags)] if several else bags
        if isinstance(self.bags, int):  # a name that looks like a number
            self.bags = str(self.bags)
        self.score = score
        self.slides = None if slides is None else find_slides(slides)
        self.mpp = mpp
        self.top = top
        self.tile_size = tile_size
        self.ome_tiff = ome_tiff
        self.faithfulness = faithfulness
        self.measured: dict[str, float] = {}

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
        behind: dict[str, Slide] = {}
        without: dict[str, str] = {}
        for number in chosen:
            record = records[number]
            try:
                place = self._place(trainer, record, number)
                batch = _batch_of(trainer, module, record, number)
                maps.append(self._map(module, record, task, batch, place, written))
            except ValueError as error:
                missing[record.bag_id] = _sentence(error)
                continue
            if place.slide is not None:
                behind[record.bag_id] = place.slide
            if place.missing is not None:
                without[record.bag_id] = place.missing
        measured = self._measure(trainer, module, records) if self.faithfulness else []
        scales = scales_of(maps)
        for each in maps:
            self._write(each, scales, behind.get(each.name), without)
        index = build_index(maps, missing, self._about(len(records)), without, measured)
        self._write_text("index.html", index)
        for name, reason in missing.items():
            logger.warning("bag %s is not mapped: %s", name, reason)
        for name, reason in without.items():
            logger.warning("bag %s is mapped without its slide: %s", name, reason)
        if missing and not maps:
            name, reason = next(iter(missing.items()))
            raise ValueError(f"no bag could be mapped: bag {name}: {reason}")
        print(f"maps         {len(maps)} bags: {self.folder / 'index.html'}")

    def _place(self, trainer: L.Trainer, record: BagRecord, number: int) -> Place:
        """Where the tiles of a bag lie."""
        folder_of(record.bag_id)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        told = bag_tile(data.parts[record.part], number)
        corners = corners_of(record.coords, record.slide)
        return place_tiles(record.bag_id, corners, told, self.slides, self.mpp, self.tile_size)

    def _map(
        self,
        module: Any,
        record: BagRecord,
        task: Task,
        batch: Any,
        place: Place,
        written: Sequence[Any],
    ) -> TileMap:
        of_bag = getattr(module, "of_bag", None)
        numbers = range(len(written)) if of_bag is None else of_bag[record.bag_id]
        files = [written[n] for n in numbers]
        averaged = len(self.checkpoints) > 1
        said = expected(files, record.bag_id, record.part, averaged=averaged)
        if said is None:
            notes = ["No predictions of the run were at hand to compare its prediction with."]
        else:
            check_agreement(_row(record, task), said)
            notes = ["Its prediction is the one in predictions/bags.parquet of the run."]
        blocks = self._blocks(place.corners, place.side)
        found, main = self._explain(module, batch, record, blocks)
        if found.contributions is None:
            notes.append("The model has no exact contributions.")
        else:
            added, offset, logits = map(_numpy, (found.contributions, found.offset, found.logits))
            check_sum(added, offset, logits)
            notes.append(sum_in_words(offset, logits, len(self.checkpoints)))
        names = member_names([self.checkpoints[n] for n in numbers])
        return TileMap(
            name=record.bag_id,
            corners=place.corners,
            side=place.side,
            outputs=outputs_of(task, len(found.logits)),
            classes=task.class_names,
            scores=_numpy(record.scores),
            logits=found.logits.numpy(),
            offset=_numpy(found.offset),
            main=main,
            shown=shown_output(record, len(found.logits)),
            label=label_of(record, task),
            predicted=predicted_of(record, task),
            notes=(*notes, *place.notes),
            members=dict(zip(names, map(_said, found.members), strict=False)),
            of_token=found.of_token,
            to_pixels=place.to_pixels,
            to_micrometres=place.to_micrometres,
            weights=_numpy(record.weights),
            contributions=_numpy(found.contributions),
            gradient=_numpy(found.gradient),
            occlusion=_numpy(found.occlusion),
            probability=_numpy(found.probability),
        )

    def _blocks(self, corners: Any, side: float) -> torch.Tensor | None:
        """The blocks of tiles that are taken out, where that is asked for."""
        return torch.from_numpy(blocks_of(corners, side)) if self.score == "occlusion" else None

    def _measure(
        self, trainer: L.Trainer, module: Any, records: Sequence[BagRecord]
    ) -> list[Markup]:
        """Measures how faithful the maps are, and writes it; what the index is to say of it."""

        def explained(number: int, batch: Any) -> Any:
            record, blocks = records[number], None
            if self.score == "occlusion":
                place = self._place(trainer, record, number)
                blocks = self._blocks(place.corners, place.side)
            return self._explain(module, batch, record, blocks)[0]

        self.measured, curves = measure_faithfulness(
            module,
            records,
            lambda number: _batch_of(trainer, module, records[number], number),
            explained,
            shown_output,
        )
        with atomic_path(self.folder / "faithfulness.parquet") as partial:
            write_curves(partial, curves)
        with atomic_path(self.folder / "faithfulness.png") as partial:
            draw_curves(list(curves.values())).savefig(partial, format="png", dpi=150)
        return areas_table(self.measured, len(curves))

    def _explain(
        self, module: Any, batch: Any, record: BagRecord, blocks: torch.Tensor | None
    ) -> tuple[Any, str]:
        """What the model says of a bag, and the key of what is drawn of it.

        Raises:
            ValueError: where the model does not say what is asked for.
        """
        # Not in inference mode, in which there are no gradients.
        with torch.inference_mode(False), torch.no_grad():
            found = module.explained(batch, gradient=self.score == "gradient", blocks=blocks)
            if self.score == "auto" and found.contributions is None and record.weights is None:
                found = module.explained(batch, gradient=True)
        known = {
            "contribution": found.contributions,
            "attention": record.weights,
            "gradient": found.gradient,
            "occlusion": found.occlusion,
        }
        order = list(known) if self.score == "auto" else [self.score]
        main = next((key for key in order if known[key] is not None), None)
        if main is not None:
            return found, main
        reasons = {
            "contribution": "the model has no contributions that are exact (docs/models.md): "
            "choose score=gradient or score=occlusion",
            "attention": "the model has no attention: choose score=gradient or score=occlusion",
        }
        several = "the models scale their labels each in its own way, so what they say has no mean"
        raise ValueError(reasons.get(self.score, several) if not found.members else several)

    def _write(
        self, tiles: TileMap, scales: Scales, slide: Slide | None, without: dict[str, str]
    ) -> None:
        ground: Ground | None = None
        if slide is not None:
            try:
                ground = lay(slide, tiles)
            except (ValueError, OSError) as error:
                without[tiles.name] = _sentence(error)
        if tiles.name in without:
            note = f"Its slide is not drawn: {without[tiles.name]}"
            tiles = replace(tiles, notes=(*tiles.notes, note))
        folder = self.folder / folder_of(tiles.name)
        writers: dict[str, Callable[[Path], None]] = {
            "tiles.parquet": lambda path: write_tiles(path, tiles),
            "map.geojson.gz": lambda path: write_geojson(path, tiles, self.top),
            "map.png": lambda path: write_picture(path, tiles, scales, ground),
        }
        also = ["map.ome.tif"] if self.ome_tiff else []
        if self.ome_tiff:
            scale = scales[tiles.main]
            writers["map.ome.tif"] = lambda path: write_ome_tiff(path, tiles, scale, ground)
        for name, write in writers.items():
            with atomic_path(folder / name) as partial:
                write(partial)
        page = build_map_page(tiles, scales, ground, also)
        self._write_text(f"{folder.name}/map.html", page)

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


def _batch_of(trainer: L.Trainer, module: Any, record: BagRecord, number: int) -> Any:
    """The batch of one bag, as it was predicted."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    # Not in inference mode, or there would be no gradients.
    with torch.inference_mode(False), torch.no_grad():
        return data.collate_fn([data.parts[record.part][number]]).to(module.device)


def _row(record: BagRecord, task: Task) -> Row:
    """What is predicted of a bag, in the columns of the predictions file."""
    (row,) = bags_table([record], task).to_pylist()
    starts = tuple("logit" if name == "logits" else name for name in record.columns)
    return {k: v for k, v in row.items() if isinstance(v, float) and k.startswith(starts)}


def _numpy(values: torch.Tensor | None) -> Any:
    return None if values is None else values.double().numpy()


def _said(found: Any) -> Said:
    names = ("weights", "contributions", "gradient", "occlusion", "probability")
    return Said(**{name: _numpy(getattr(found, name)) for name in names})


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())


def member_names(checkpoints: Sequence[str]) -> list[str]:
    """Names of checkpoints to tell them apart: those of their runs where they differ.

    Example:
        >>> member_names(["cv/0/checkpoints/best.ckpt", "cv/1/checkpoints/best.ckpt"])
        ['0', '1']
    """
    names = [Path(each).parent.parent.name for each in checkpoints]
    return names if len(set(names)) == len(names) and all(names) else list(checkpoints)
