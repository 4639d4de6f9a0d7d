"""What is written of a map, read back."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from milforge.maps.bands import band_features
from milforge.maps.geojson import tile_features, write_collection
from milforge.maps.kinds import Said
from milforge.maps.picture import GROUND, draw_map, raster, write_picture
from milforge.maps.scale import Scale, scales_of
from milforge.maps.store import MapStore
from milforge.maps.table import write_tiles
from tile_maps import make_map


def read_geojson(path):
    return json.loads(gzip.decompress(path.read_bytes()).decode())


def test_geojson_holds_each_tile_as_a_detection(tmp_path):
    tiles = make_map()
    write_collection(tmp_path / "map.geojson.gz", tile_features(tiles, None))
    found = read_geojson(tmp_path / "map.geojson.gz")
    assert found["type"] == "FeatureCollection"
    assert len(found["features"]) == 12
    for feature in found["features"]:
        assert feature["type"] == "Feature"
        assert feature["properties"]["objectType"] == "detection"
        number = int(feature["properties"]["name"].removeprefix("tile "))
        (ring,) = feature["geometry"]["coordinates"]
        x, y = tiles.corners[number]
        square = [[x, y], [x + 448, y], [x + 448, y + 448], [x, y + 448], [x, y]]
        assert ring == square
        said = feature["properties"]["measurements"]
        assert said["contribution yes"] == pytest.approx(tiles.contributions[number, 1], rel=1e-5)
        assert said["attention (1 = uniform)"] == pytest.approx(
            tiles.weights[number] * 12, rel=1e-5
        )
        assert said["probability alone no"] == pytest.approx(tiles.probability[number, 0], rel=1e-5)
    assert found["features"][0]["properties"]["name"] == "tile 0"  # says most


def test_geojson_of_the_top_tiles_and_of_attention_alone(tmp_path):
    tiles = make_map(contributions=None, probability=None, outputs=("a", 'b"\\'), side=100.126)
    write_collection(tmp_path / "a", tile_features(tiles, 3))
    found = read_geojson(tmp_path / "a")["features"]
    best = [f"tile {i}" for i in np.argsort(-tiles.weights)[:3]]
    assert [each["properties"]["name"] for each in found] == best
    assert list(found[0]["properties"]["measurements"]) == ["attention (1 = uniform)"]
    nasty = make_map(outputs=('a"\\\n', "b"), classes=("<", ">"))
    write_collection(tmp_path / "b", tile_features(nasty, None))
    said = read_geojson(tmp_path / "b")["features"][0]["properties"]["measurements"]
    assert 'contribution a"\\\n' in said
    write_collection(tmp_path / "c", tile_features(nasty, None))
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_what_is_not_finite_is_left_out_of_geojson(tmp_path):
    tiles = make_map()
    tiles.contributions[0, 0] = np.nan
    write_collection(tmp_path / "a", tile_features(tiles, None))
    text = gzip.decompress((tmp_path / "a").read_bytes()).decode()
    assert "nan" not in text.lower()
    json.loads(text)


@pytest.mark.parametrize("to_pixels", [None, 1 / 0.2527])
def test_bands_hold_each_tile_once_as_regions_with_a_class(tmp_path, monkeypatch, to_pixels):
    """Holes, touching corners and scores beyond the scale among them; merged in several parts."""
    monkeypatch.setattr("milforge.maps.bands.AT_ONCE", 50)
    rng = np.random.default_rng(1)
    tiles = make_map(
        n=400, columns=20, contributions=rng.normal(size=(400, 2)), to_pixels=to_pixels
    )
    scale = Scale("signed", -1.0, 1.0)
    write_collection(tmp_path / "bands.geojson.gz", band_features(tiles, scale, 4))
    found = read_geojson(tmp_path / "bands.geojson.gz")
    assert found["type"] == "FeatureCollection"
    ends, side = [-np.inf, -0.5, 0.0, 0.5, np.inf], 448 * (to_pixels or 1)
    names = ["below -0.5", "-0.5 to 0", "0 to 0.5", "above 0.5"]
    values = tiles.contributions[:, 1]
    for feature, name, low, high in zip(found["features"], names, ends, ends[1:], strict=False):
        own = (values >= low) & (values < high)
        about = feature["properties"]
        assert (feature["type"], about["objectType"]) == ("Feature", "annotation")
        assert about["classification"]["name"] == f"contribution to yes {name}"
        red, _, blue = about["classification"]["color"]
        assert (red > blue) == (low >= 0)
        said = about["measurements"]
        assert said["tiles"] == own.sum()
        assert said["mean contribution yes"] == pytest.approx(values[own].mean(), rel=1e-5)
        assert said["mean probability alone no"] > 0
        assert area_of(feature["geometry"]) == pytest.approx(own.sum() * side**2, rel=1e-4)
        for x, y in (tiles.corners + 224)[own] * (to_pixels or 1):
            assert lies_in(feature["geometry"], x, y)
    assert len(found["features"]) == 4


def test_a_region_has_no_more_corners_than_it_needs(tmp_path):
    tiles = make_map(contributions=np.ones((12, 2)))
    tiles.contributions[5] = np.nan  # a hole
    (text,) = band_features(tiles, Scale("signed", -1.0, 1.0), 2)  # the other band is empty
    found = json.loads(text)
    assert found["properties"]["measurements"]["tiles"] == 11
    outside, hole = found["geometry"]["coordinates"]
    assert (len(outside), len(hole)) == (5, 5)
    assert {tuple(each) for each in hole} == {
        (x, y) for x in (1344.0, 1792.0) for y in (896.0, 1344.0)
    }


def polygons_of(geometry):
    """The rings of each polygon."""
    rings = geometry["coordinates"]
    return {"Polygon": [rings], "MultiPolygon": rings}[geometry["type"]]


def area_of(geometry):
    """By Gauss's formula, without holes."""
    total = 0.0
    for outside, *holes in polygons_of(geometry):
        areas = []
        for ring in (outside, *holes):
            (x, y), (u, v) = np.array(ring)[:-1].T, np.array(ring)[1:].T
            areas.append(abs(float((x * v - u * y).sum())) / 2)
        total += areas[0] - sum(areas[1:])
    return total


def lies_in(geometry, x, y):
    """By how often a ray crosses an edge of any ring."""
    crossed = 0
    for rings in polygons_of(geometry):
        for ring in rings:
            for (a, b), (c, d) in pairwise(ring):
                if (b > y) != (d > y):
                    crossed += x < a + (y - b) / (d - b) * (c - a)
    return crossed % 2 == 1


def test_the_table_sums_to_the_logits(tmp_path):
    tiles = make_map()
    write_tiles(tmp_path / "tiles.parquet", tiles)
    table = pq.read_table(tmp_path / "tiles.parquet")
    assert table["index"].to_pylist() == list(range(12))
    for c, name in enumerate(tiles.outputs):
        total = table[f"contribution_{name}"].to_numpy().sum() + tiles.offset[c]
        assert total == pytest.approx(tiles.logits[c])
    assert table["coord_0"].to_pylist() == tiles.corners[:, 0].tolist()
    assert table["weight"].to_numpy().sum() == pytest.approx(1)
    assert table.schema.metadata[b"tile_size"] == b"448.0"
    bare = make_map(contributions=None, weights=None, scores=None, probability=None)
    write_tiles(tmp_path / "tiles.parquet", bare)
    table = pq.read_table(tmp_path / "tiles.parquet")
    assert table.column_names == ["index", "coord_0", "coord_1", "score", "weight"]
    assert table["weight"].null_count == 12


def test_all_maps_of_a_run_have_one_scale():
    positive, negative = make_map("a"), make_map("b")
    negative = make_map("b", contributions=negative.contributions * 0.01)
    scales = scales_of([positive, negative])
    assert (scales["contribution"].low, scales["contribution"].high) == (-1.5, 1.5)
    places = scales["contribution"].place(negative.contributions)
    assert np.abs(places - 0.5).max() < 0.01  # a negative slide looks negative
    assert scales["contribution"].place(np.array([0.0])) == 0.5
    even = make_map(weights=np.full(12, 1 / 12), contributions=None)
    scale = scales_of([even])["attention"]
    assert (scale.low, scale.high) == (0.5, 2.0)
    assert scales_of([even]).get("contribution") is None
    silent = make_map(contributions=np.zeros((12, 2)))
    assert scales_of([silent])["contribution"].place(np.zeros(3)).tolist() == [0.5] * 3


def test_a_scale_ends_where_so_many_tiles_of_all_models_lie_below():
    rng = np.random.default_rng(0)
    maps = [
        make_map(
            str(number),
            n=size,
            contributions=rng.normal(size=(size, 2)),
            weights=rng.dirichlet(np.ones(size)),
            members={"a": Said(contributions=5 * rng.normal(size=(size, 2)))},
        )
        for number, size in enumerate((3, 700, 40))
    ]
    maps[1].contributions[5, 0] = np.nan
    scales = scales_of(maps)
    values = np.concatenate(
        [v.ravel() for m in maps for v in (m.contributions, m.members["a"].contributions)]
    )
    known = np.abs(values[np.isfinite(values)])
    assert scales["contribution"].high == np.quantile(known, 0.995, method="higher")
    weights = np.concatenate([m.weights * len(m) for m in maps])
    assert scales["attention"].high == np.quantile(weights, 0.995, method="higher")
    assert scales["attention"].low == 0.1


def test_maps_are_kept_on_disk_until_they_are_written(tmp_path):
    with MapStore(tmp_path / "maps") as store:
        assert (len(store), scales_of(store)) == (0, {})
        for name in "ab":
            store.add(make_map(name))
        for _ in range(2):
            assert [tiles.name for tiles in store] == ["a", "b"]
        (folder,) = (tmp_path / "maps").iterdir()
        assert folder.name.startswith(".")
        (_, second) = store
        np.testing.assert_array_equal(second.contributions, make_map().contributions)
    assert not list((tmp_path / "maps").iterdir())


def test_an_outlier_does_not_flatten_the_colours():
    contributions = np.random.default_rng(0).normal(size=(1000, 1))
    contributions[0] = 1e6
    tiles = make_map(n=1000, contributions=contributions, outputs=("y",))
    assert scales_of([tiles])["contribution"].high < 5


def test_colours_can_be_told_apart():
    signed, plain = Scale("signed", -1, 1).colours.astype(int), Scale("linear", 0, 1).colours
    assert np.abs(signed[127] - signed[128]).max() < 8  # nearly white
    assert signed[127].min() > 230
    assert signed[0][2] > signed[0][0]  # blue speaks against
    assert signed[255][0] > signed[255][2]  # red for
    grey = plain @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(grey) > -1).all()
    assert grey[255] - grey[0] > 150


def test_pixels_are_the_colours_of_the_tiles():
    tiles = make_map(n=11)
    scale = Scale("signed", -1.5, 1.5)
    pixels = raster(tiles, tiles.contributions[:, 1], scale)
    assert pixels.shape == (72, 96, 3)
    assert (pixels[:24, :24] == scale.colours[255]).all()
    place = int(np.rint(scale.place(tiles.contributions[5:6, 1])[0] * 255))
    assert (pixels[24:48, 24:48] == scale.colours[place]).all()
    assert (pixels[48:, 72:] == GROUND).all()  # no tile
    large = make_map(n=40_000, columns=200)
    assert raster(large, large.weights, Scale("linear", 0, 1)).shape == (1600, 1600, 3)


def test_a_figure_that_is_written_holds_no_pixels(tmp_path, monkeypatch):
    drawn = []

    def draw(*parts):
        drawn.append(draw_map(*parts))
        return drawn[0]

    monkeypatch.setattr("milforge.maps.picture.draw_map", draw)
    tiles = make_map()
    write_picture(tmp_path / "map.png", tiles, scales_of([tiles]))
    assert not drawn[0].axes


def test_the_picture_says_what_it_shows(tmp_path):
    tiles = make_map("a $x$ " * 20)
    figure = draw_map(tiles, scales_of([tiles]))
    axes, bar = figure.axes
    assert axes.get_title(loc="left").startswith("a $x$ a")
    texts = " ".join(each.get_text() for each in axes.texts)
    assert "true: yes; predicted: yes (0.900)" in texts
    assert "200 units of the coords" in texts
    assert bar.get_ylabel() == "contribution to yes"
    assert 0.0 in bar.get_yticks()
    write_picture(tmp_path / "map.png", tiles, scales_of([tiles]))
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    plain = make_map(contributions=None)
    assert "attention" in draw_map(plain, scales_of([plain])).axes[1].get_ylabel()
