"""Maps of the predicted bags: what each tile says, as pages, pictures, tables and GeoJSON."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import lightning as L
import torch

from milforge.callbacks.mapping.bag_place import place_of
from milforge.callbacks.mapping.bags_in_words import judged, shown_output
from milforge.callbacks.mapping.map_faithfulness import measure_faithfulness
from milforge.callbacks.mapping.tile_maps import Score, blocks_for, map_of, said_of
from milforge.callbacks.records import BagRecord, RecordCollector, records_of
from milforge.data.images.sources.formats.packages import require
from milforge.maps.bag_folder import write_map, write_page
from milforge.maps.checks.faithfulness_files import areas_table, draw_curves, write_curves
from milforge.maps.checks.written import written_rows
from milforge.maps.choose import choose
from milforge.maps.page import build_index
from milforge.maps.places import Place
from milforge.maps.scale import Scales, scales_of
from milforge.maps.slide.ground import Ground, lay
from milforge.maps.slide.slides import find_slides, open_slide
from milforge.maps.store import MapStore
from milforge.maps.tiles import TileMap, folder_of
from milforge.markup import Markup
from milforge.processes.files import atomic_path
from milforge.tasks import Task

logger = logging.getLogger(__name__)


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
        bands: of how many bands of the score to write `bands.geojson.gz`, too, in which
            neighbouring tiles of a band are one region; None: it is not written.
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
        bands: int | None = None,
        tile_size: float | None = None,
        ome_tiff: bool = False,
        faithfulness: bool = False,
    ) -> None:
        super().__init__()
        if top is not None and top < 1:
            raise ValueError(f"expected top of at least 1, or null for all tiles, got {top}")
        if bands is not None and bands < 2:
            raise ValueError(f"expected bands of at least 2, or null for none, got {bands}")
        for name, value in (("tile_size", tile_size), ("mpp", mpp)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"expected {name} above 0, got {value}")
        if score not in get_args(Score):
            raise ValueError(f"expected score to be {', '.join(get_args(Score))}, got {score!r}")
        if ome_tiff:
            require("tifffile", "write OME-TIFF")
        if bands is not None:
            require("shapely", "merge tiles into bands")
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
        self.bands = bands
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
        if any(record.sampled for record in records):
            raise ValueError(
                "milforge-map draws the tiles of bags, and this model looks at patches of large "
                "images: milforge-evaluate draws where it looked"
            )
        task = cast(Task, module.task)
        chosen, missing = choose(cast(Any, self.bags), judged(records, task))
        written = [written_rows(path) for path in self.checkpoints]
        behind: set[str] = set()
        without: dict[str, str] = {}
        with MapStore(self.folder) as maps:
            for number in chosen:
                name = records[number].bag_id
                try:
                    batch = _batch_of(trainer, module, records[number], number)
                    record = _with_tiles(module, batch, records[number])
                    place = self._place(trainer, record, number, self.slides)
                    maps.add(
                        map_of(module, batch, record, place, self.score, self.checkpoints, written)
                    )
                except ValueError as error:
                    missing[name] = _sentence(error)
                    continue
                if place.slide is not None:
                    behind.add(name)
                if place.missing is not None:
                    without[name] = place.missing
            scales = scales_of(maps)
            for each in maps:
                self._write(each, scales, without, drawn=each.name in behind)
            self._write_index(maps, missing, without, len(records))
            for name, reason in missing.items():
                logger.warning("bag %s is not mapped: %s", name, reason)
            for name, reason in without.items():
                logger.warning("bag %s is mapped without its slide: %s", name, reason)
            if missing and not maps:
                name, reason = next(iter(missing.items()))
                raise ValueError(f"no bag could be mapped: bag {name}: {reason}")
            print(f"maps         {len(maps)} bags: {self.folder / 'index.html'}")
            if self.faithfulness:
                found = self._measure(trainer, module, records)
                self._write_index(maps, missing, without, len(records), found)

    def keep_instances(self, module: L.LightningModule, record: BagRecord) -> bool:
        """None: those that are mapped are predicted once more, or memory would grow with all."""
        return False

    def _place(
        self,
        trainer: L.Trainer,
        record: BagRecord,
        number: int,
        slides: Mapping[str, list[Path]] | None,
    ) -> Place:
        """Where the tiles of a bag lie."""
        folder_of(record.bag_id)
        return place_of(trainer, record, number, slides, self.mpp, self.tile_size)

    def _measure(
        self, trainer: L.Trainer, module: Any, records: Sequence[BagRecord]
    ) -> list[Markup]:
        """Measures how faithful the maps are, and writes it; what the index is to say of it."""

        def explained(number: int, batch: Any) -> Any:
            record, blocks = _with_tiles(module, batch, records[number]), None
            if self.score == "occlusion":
                blocks = blocks_for(self.score, self._place(trainer, record, number, None))
            return said_of(module, batch, record, self.score, blocks)[0]

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

    def _write(
        self, tiles: TileMap, scales: Scales, without: dict[str, str], *, drawn: bool
    ) -> None:
        ground: Ground | None = None
        if drawn and self.slides is not None:
            try:
                # Opened anew for each map: many open at once would not fit into memory.
                ground = lay(open_slide(self.slides, tiles.name, self.mpp), tiles)
            except (ValueError, OSError) as error:
                without[tiles.name] = _sentence(error)
        if tiles.name in without:
            note = f"Its slide is not drawn: {without[tiles.name]}"
            tiles = replace(tiles, notes=(*tiles.notes, note))
        folder = self.folder / folder_of(tiles.name)
        write_map(folder, tiles, scales, ground, self.top, self.ome_tiff, self.bands)

    def _write_index(
        self,
        maps: Iterable[TileMap],
        missing: Mapping[str, str],
        without: Mapping[str, str],
        count: int,
        measured: Sequence[object] = (),
    ) -> None:
        index = build_index(maps, missing, self._about(count), without, measured)
        write_page(self.folder / "index.html", index)

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


def _with_tiles(module: Any, batch: Any, record: BagRecord) -> BagRecord:
    """The record of the bag of a batch with what is known of its tiles, which was not kept.

    What is predicted of the bag stays as it was, in the precision of the trainer.
    """
    with torch.inference_mode(False), torch.no_grad():
        (found,) = records_of(module.predict_step(batch, 0), batch, record.part)
    return replace(
        record, scores=found.scores, weights=found.weights, coords=found.coords, slide=found.slide
    )


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())
