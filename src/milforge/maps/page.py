"""The page of a map, and the index of all: files that need no network and no server."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from milforge.maps.kinds import Floats, Kind, Said
from milforge.maps.scale import Scale, Scales
from milforge.maps.slide.ground import Ground
from milforge.maps.slide.pyramid import TILE, build_pyramid
from milforge.maps.tiles import TileMap
from milforge.markup import Markup, bullets, document, join, paragraph, tag

FILES = ("map.png", "map.geojson.gz", "tiles.parquet")


def build_map_page(
    tiles: TileMap, scales: Scales, ground: Ground | None = None, also: Sequence[str] = ()
) -> str:
    """The page of a map as text.

    Args:
        tiles: the map.
        scales: its colours.
        ground: the slide; None: the tiles alone are drawn.
        also: names of further files beside the page.
    """
    label = [] if tiles.label is None else [tag("p", "True: ", tag("b", tiles.label))]
    meanings = [join(tag("b", kind.name), ": ", kind.meaning) for kind in tiles.kinds]
    where = "Arrow keys move, + and - zoom, 0 shows all, N and P go from tile to tile by the score."
    return document(
        f"{tiles.name}: map",
        _resource("map.css"),
        [_viewer(), _resource("map.js")],
        tag(
            "header",
            tag("h1", tiles.name),
            *label,
            tag("p", "Predicted: ", tag("b", tiles.predicted)),
            tag("p", f"{len(tiles):,} tiles of {tiles.side_in_words}"),
            tag("nav", tag("a", "all maps", href="../index.html")),
        ),
        tag(
            "main",
            _controls(tiles, slide=ground is not None),
            tag(
                "div",
                tag(
                    "div",
                    "",
                    id="viewer",
                    tabindex="0",
                    role="application",
                    aria_label=f"Map of {tiles.name}. {where}",
                    aria_describedby="said",
                ),
                tag("canvas", "", id="map", aria_hidden="true"),
                tag("div", tag("span", "", id="length"), id="ruler", aria_hidden="true"),
                id="stage",
            ),
            tag(
                "div",
                tag("span", "", id="low"),
                tag("div", "", id="colours", role="img", aria_label="Colour scale"),
                tag("span", "", id="high"),
                tag("span", "", id="middle"),
                id="bar",
            ),
            tag("p", "Point at a tile to read its numbers.", id="said", aria_live="polite"),
            *([] if ground is None else _gallery(tiles, ground)),
            tag("h2", "What is shown"),
            bullets([*meanings, *tiles.notes, _SCALE, where]),
            tag(
                "p",
                "Files: ",
                *(join(tag("a", each, href=each), " ") for each in (*FILES, *also)),
            ),
        ),
        _data(page_data(tiles, scales, ground)),
    )


_SCALE = (
    "All maps of a run have the same colours; nothing is smoothed. Half a percent of the tiles of "
    "the run lie beyond an end of the scale and look like it."
)


def page_data(tiles: TileMap, scales: Scales, ground: Ground | None = None) -> dict[str, Any]:
    """What the script draws, as plain data: numbers as base64 of little-endian float32."""
    low, high = tiles.corners.min(axis=0), tiles.corners.max(axis=0) + tiles.side
    if ground is not None:
        low, high = low * 0, high * 0 + [ground.width, ground.height]
    corners = tiles.corners - low
    together = "mean of all" if tiles.members else "model"
    said: dict[str, Said] = {together: tiles, **tiles.members}
    return {
        "side": tiles.side,
        "origin": low.tolist(),
        "width": float(high[0] - low[0]),
        "height": float(high[1] - low[1]),
        "unit": tiles.unit,
        "micrometres": tiles.to_micrometres,
        "x": _floats(corners[:, 0]),
        "y": _floats(corners[:, 1]),
        "models": [
            {
                "name": name,
                "scores": [
                    _score(kind, tiles.columns(kind, each), scales[kind.key])
                    for kind in tiles.kinds
                ],
            }
            for name, each in said.items()
        ],
        "outputs": len(tiles.outputs),
        "shown": tiles.shown,
        "tile": TILE,
        "slide": None if ground is None else asdict(build_pyramid(ground.picture)),
    }


def build_index(
    mapped: Iterable[TileMap],
    missing: Mapping[str, str],
    about: str,
    without_slide: Mapping[str, str] | None = None,
    measured: Sequence[object] = (),
) -> str:
    """The page that lists all maps, and the bags that have none.

    Args:
        mapped: the maps.
        missing: why a bag has none, by its name.
        about: which bags were chosen.
        without_slide: why a map is drawn without its slide, by its name.
        measured: what else there is to say, before what is missing.
    """
    head = [tag("th", each, scope="col") for each in ("bag", "true", "predicted", "tiles")]
    rows = [
        tag(
            "tr",
            tag("td", tag("a", each.name, href=f"{quote(each.name)}/map.html")),
            tag("td", each.label or ""),
            tag("td", each.predicted),
            tag("td", f"{len(each):,}"),
        )
        for each in mapped
    ]
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows))

    def listed(title: str, reasons: Mapping[str, str]) -> list[Markup]:
        lines = [join(tag("b", name), f": {reason}") for name, reason in reasons.items()]
        return [tag("h2", title), bullets(lines)] if lines else []

    return document(
        "Maps",
        _resource("map.css"),
        [],
        tag("header", tag("h1", "Maps"), paragraph(about)),
        tag(
            "main",
            tag("div", table, class_="scroll") if rows else paragraph("No bag could be mapped."),
            *measured,
            *listed("Not mapped", missing),
            *listed("Without the slide behind", without_slide or {}),
        ),
    )


def _controls(tiles: TileMap, *, slide: bool) -> Markup:
    def choice(name: str, key: str, options: Sequence[str]) -> Markup:
        items = [tag("option", each, value=number) for number, each in enumerate(options)]
        return tag("label", name, tag("select", *items, id=key))

    def slider(name: str, key: str, value: int) -> Markup:
        return tag(
            "label",
            name,
            tag("input", type="range", id=key, min=0, max=100, value=value),
            tag("output", "", for_=key, id=f"{key}-said"),
        )

    members = ["mean of all", *tiles.members]
    return tag(
        "form",
        *([choice("model ", "model", members)] if tiles.members else []),
        choice("score ", "score", [kind.name for kind in tiles.kinds]),
        choice("class ", "class", []),
        slider("opacity ", "opacity", 60 if slide else 100),
        slider("hide below ", "threshold", 0),
        tag("button", "zoom in", type="button", id="closer"),
        tag("button", "zoom out", type="button", id="farther"),
        tag("button", "show all", type="button", id="whole"),
        aria_label="What is drawn",
    )


def _gallery(tiles: TileMap, ground: Ground) -> list[Markup]:
    """The tiles of the highest and of the lowest scores."""
    values = tiles.main_values

    def row(title: str, cuts: Mapping[int, str]) -> list[Markup]:
        buttons = [
            tag(
                "button",
                tag("img", src=each, alt=f"tile {i}", loading="lazy"),
                f"tile {i}: {values[i]:.4g}",
                type="button",
                data_tile=i,
            )
            for i, each in cuts.items()
        ]
        return [tag("h2", title), tag("div", *buttons, class_="gallery")] if buttons else []

    name = tiles.main_name
    return [
        *row(f"Tiles of the highest {name}", ground.highest),
        *row(f"Tiles of the lowest {name}", ground.lowest),
    ]


def _score(kind: Kind, values: Mapping[str, Floats], scale: Scale) -> dict[str, Any]:
    return {
        "key": kind.key,
        "name": kind.name,
        "classes": list(values),
        "values": [_floats(each) for each in values.values()],
        "scale": asdict(scale),
        "colours": "".join(f"{r:02x}{g:02x}{b:02x}" for r, g, b in scale.colours.tolist()),
    }


def _floats(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _data(found: Mapping[str, Any]) -> Markup:
    """Data beside the script; no text in it can end it."""
    text = json.dumps(found).replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="data">{text}</script>')


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _viewer() -> str:
    """OpenSeadragon, without the line that names a file of its source."""
    text = _resource("vendor/openseadragon.min.js")
    return "\n".join(line for line in text.splitlines() if not line.startswith("//# source"))
