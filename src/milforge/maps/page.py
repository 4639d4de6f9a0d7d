"""The page of a map, and the index of all: files that need no network and no server."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from milforge.maps.scale import Scale, Scales
from milforge.maps.tiles import Floats, TileMap
from milforge.markup import Markup, bullets, document, join, paragraph, tag

FILES = ("map.png", "map.geojson.gz", "tiles.parquet")

MEANINGS = {
    "contribution": "what the tile adds to the logit of the bag; all of them and the offset sum to "
    "the logit. Above zero speaks for the class, below zero against it.",
    "attention": "the tile's attention weight in multiples of the uniform one; it says where the "
    "model looks, not what for.",
    "probability": "what the model predicts of a bag of that tile alone.",
}


def build_map_page(tiles: TileMap, scales: Scales) -> str:
    """The page of a map as text."""
    label = [] if tiles.label is None else [tag("p", "True: ", tag("b", tiles.label))]
    found = page_data(tiles, scales)
    meanings = [
        join(tag("b", score["name"]), ": ", MEANINGS[score["key"]]) for score in found["scores"]
    ]
    where = "Arrow keys move, + and - zoom, 0 shows all, N and P go from tile to tile by the score."
    return document(
        f"{tiles.name}: map",
        _resource("map.css"),
        _resource("map.js"),
        tag(
            "header",
            tag("h1", tiles.name),
            *label,
            tag("p", "Predicted: ", tag("b", tiles.predicted)),
            tag("p", f"{len(tiles):,} tiles of {tiles.side:,g} units of the coords"),
            tag("nav", tag("a", "all maps", href="../index.html")),
        ),
        tag(
            "main",
            _controls(found["scores"]),
            tag(
                "div",
                tag(
                    "canvas",
                    "A map of the tiles, coloured by the score that is chosen.",
                    id="map",
                    tabindex="0",
                    role="application",
                    aria_label=f"Map of {tiles.name}. {where}",
                    aria_describedby="said",
                ),
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
            tag("h2", "What is shown"),
            bullets([*meanings, *tiles.notes, _SCALE, where]),
            tag("p", "Files: ", *(join(tag("a", each, href=each), " ") for each in FILES)),
        ),
        _data(found),
    )


_SCALE = (
    "All maps of a run have the same colours; nothing is smoothed. Half a percent of the tiles of "
    "the run lie beyond an end of the scale and look like it."
)


def page_data(tiles: TileMap, scales: Scales) -> dict[str, Any]:
    """What the script draws, as plain data: numbers as base64 of little-endian float32."""
    origin = tiles.corners.min(axis=0)
    corners = tiles.corners - origin
    scores: list[dict[str, Any]] = []
    if tiles.contributions is not None:
        assert scales.contribution is not None
        named = dict(zip(tiles.outputs, tiles.contributions.T, strict=True))
        scores.append(_score("contribution", "contribution", named, scales.contribution))
    if tiles.relative is not None:
        assert scales.attention is not None
        paid = {"": tiles.relative}
        scores.append(_score("attention", "attention (1 = uniform)", paid, scales.attention))
    if tiles.probability is not None:
        named = dict(zip(tiles.classes, tiles.probability.T, strict=True))
        scores.append(
            _score("probability", "probability of the tile alone", named, scales.probability)
        )
    return {
        "side": tiles.side,
        "origin": origin.tolist(),
        "x": _floats(corners[:, 0]),
        "y": _floats(corners[:, 1]),
        "scores": scores,
        "shown": tiles.shown,
    }


def build_index(mapped: Sequence[TileMap], missing: Mapping[str, str], about: str) -> str:
    """The page that lists all maps, and the bags that have none.

    Args:
        mapped: the maps.
        missing: why a bag has none, by its name.
        about: which bags were chosen.
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
    left = [join(tag("b", name), f": {reason}") for name, reason in missing.items()]
    return document(
        "Maps",
        _resource("map.css"),
        "",
        tag("header", tag("h1", "Maps"), paragraph(about)),
        tag(
            "main",
            tag("div", table, class_="scroll") if rows else paragraph("No bag could be mapped."),
            *([tag("h2", "Not mapped"), bullets(left)] if left else []),
        ),
    )


def _controls(scores: Sequence[Mapping[str, Any]]) -> Markup:
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

    return tag(
        "form",
        choice("score ", "score", [each["name"] for each in scores]),
        choice("class ", "class", []),
        slider("opacity ", "opacity", 100),
        slider("hide below ", "threshold", 0),
        tag("button", "zoom in", type="button", id="closer"),
        tag("button", "zoom out", type="button", id="farther"),
        tag("button", "show all", type="button", id="whole"),
        aria_label="What is drawn",
    )


def _score(key: str, name: str, values: Mapping[str, Floats], scale: Scale) -> dict[str, Any]:
    return {
        "key": key,
        "name": name,
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
