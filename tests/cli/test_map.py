"""`milforge-map`: from a run to its maps."""

import gc
import gzip
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from milforge.callbacks import BagRecord, MapWriter
from milforge.maps.scale import scales_of
from milforge.maps.slide.slides import Slide
from milforge.maps.tiles import TileMap

GRID = ("data=digits_grid", "data.mean_side=4", "data.mean_blob=3", "logger=none")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A folder for the runs of this file."""
    return tmp_path_factory.mktemp("grid")


@pytest.fixture
def run(train, grid):
    """A tiny run with tiles that have places; not to be changed."""
    folder = grid / "logs" / "train" / "runs" / "a"
    if not folder.exists():
        outcome = train(*GRID, "model=gated_abmil", "run=a", folder=grid)
        assert outcome.returncode == 0, outcome.stderr
    return folder


def rows_of(folder, name="bags"):
    return pq.read_table(folder / "predictions" / f"{name}.parquet").to_pylist()


def test_maps_add_up_to_what_was_predicted(here, run, grid, read_summary):
    outcome = here("map", f"ckpt_path={run}", "run=m", folder=grid)
    assert outcome.returncode == 0, outcome.stderr
    folder = grid / "logs" / "map" / "runs" / "m"
    maps = folder / "maps"
    bags = {row["bag_id"]: row for row in rows_of(run) if row["part"] == "test"}
    mapped = [each for each in maps.iterdir() if each.is_dir()]
    assert len(mapped) == 6
    errors = {name: 1 - row[f"probability_{row['label']}"] for name, row in bags.items()}
    order = sorted(errors, key=errors.get)
    assert {each.name for each in mapped} == {*order[:3], *order[-3:]}
    instances = rows_of(run, "instances")
    for each in mapped:
        names = {"map.html", "map.png", "map.geojson.gz", "tiles.parquet"}
        assert {path.name for path in each.iterdir()} == names
        tiles = pq.read_table(each / "tiles.parquet")
        own = [row for row in instances if (row["bag_id"], row["part"]) == (each.name, "test")]
        for axis in range(2):
            places = [row[f"coord_{axis}"] for row in own]
            assert tiles[f"coord_{axis}"].to_pylist() == places
        weights = [row["weight"] for row in own]
        np.testing.assert_allclose(tiles["weight"].to_numpy(), weights, rtol=1e-5)
        page = (each / "map.html").read_text("utf-8")
        assert "Its prediction is the one in predictions/bags.parquet of the run." in page
        offset = float(re.search(r"the offset (\S+) sum to the logit", page)[1])
        total = tiles["contribution_9"].to_numpy().sum() + offset
        assert total == pytest.approx(bags[each.name]["logit_0"], abs=1e-3)
        geojson = json.loads(gzip.decompress((each / "map.geojson.gz").read_bytes()))
        assert len(geojson["features"]) == len(own)
    index = (maps / "index.html").read_text("utf-8")
    assert all(f'href="{each.name}/map.html"' in index for each in mapped)
    assert "maps         6 bags" in outcome.stdout
    assert read_summary(folder)["status"] == "finished"


def test_bags_are_named_and_others_are_missing(here, run, grid):
    first, second, *_ = [row["bag_id"] for row in rows_of(run) if row["part"] == "test"]
    wanted = f"bags={second},{first},no such"
    outcome = here("map", f"ckpt_path={run}", wanted, "top=2", "bands=4", "run=named", folder=grid)
    assert outcome.returncode == 0, outcome.stderr
    maps = grid / "logs" / "map" / "runs" / "named" / "maps"
    assert {each.name for each in maps.iterdir()} == {first, second, "index.html"}
    index = (maps / "index.html").read_text("utf-8")
    assert (
        "<b>no such</b>: there is no such bag among those that the checkpoint is to predict"
        in index
    )
    assert index.index(second) < index.index(first)
    predicted = rows_of(maps.parent)
    assert {row["bag_id"] for row in predicted} == {first, second}  # no other is needed
    assert not (maps.parent / "predictions" / "instances.parquet").exists()
    assert "2 of " in outcome.stdout
    geojson = gzip.decompress((maps / first / "map.geojson.gz").read_bytes())
    assert len(json.loads(geojson)["features"]) == 2
    bands = json.loads(gzip.decompress((maps / first / "bands.geojson.gz").read_bytes()))
    sizes = [each["properties"]["measurements"]["tiles"] for each in bands["features"]]
    assert sum(sizes) == pq.read_metadata(maps / first / "tiles.parquet").num_rows
    assert 'href="bands.geojson.gz"' in (maps / first / "map.html").read_text("utf-8")


def test_another_prediction_than_the_file_s_is_refused(here, run, grid, tmp_path):
    """The other bags go on; where none is left, the command fails with the reason."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    path = copy / "predictions" / "bags.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    test = [row for row in rows if row["part"] == "test"]
    test[0]["probability_1"] += 0.1
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    names = [row["bag_id"] for row in test[:2]]
    outcome = here("map", f"ckpt_path={copy}", f"bags={','.join(names)}", "run=m")
    assert outcome.returncode == 0, outcome.stderr
    maps = outcome.run("map") / "maps"
    assert {each.name for each in maps.iterdir()} == {names[1], "index.html"}
    assert "its prediction is not the one in" in (maps / "index.html").read_text("utf-8")
    alone = here("map", f"ckpt_path={copy}", f"bags={names[0]}", "run=n")
    assert alone.failure().startswith(f"no bag could be mapped: bag {names[0]}: its prediction is")


def test_slides_lie_behind_where_they_can(here, run, grid, tmp_path, monkeypatch):
    """One is there, one is of another slide, one is missing: all bags are mapped."""

    def none_is_open(tiles):
        gc.collect()
        alive = gc.get_objects()
        assert not [each for each in alive if type(each) in (Slide, TileMap)]
        held = [each for each in alive if type(each) is BagRecord]
        assert len(held) >= 3 * 2  # of the predictions, too
        known = [each for each in held if each.coords is not None or each.weights is not None]
        assert len(known) <= 1  # the last that was mapped
        return scales_of(tiles)

    # Many slides, or what is known of all their tiles, would not fit into memory together.
    monkeypatch.setattr("milforge.callbacks.mapping.maps.scales_of", none_is_open)
    instances = rows_of(run, "instances")
    first, second, third, *_ = [row["bag_id"] for row in rows_of(run) if row["part"] == "test"]
    for name, size in ((first, 0), (second, 1)):
        own = [row for row in instances if (row["bag_id"], row["part"]) == (name, "test")]
        far = size or 40 + int(max(max(row["coord_0"], row["coord_1"]) for row in own))
        Image.new("RGB", (far, far), (200, 150, 200)).save(tmp_path / f"{name}.png")
    outcome = here(
        "map", f"ckpt_path={run}", f"bags={first},{second},{third}", f"slides={tmp_path}",
        "mpp=0.5", "score=occlusion", "ome_tiff=true", "run=slides", folder=grid,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    maps = grid / "logs" / "map" / "runs" / "slides" / "maps"
    index = (maps / "index.html").read_text("utf-8")
    assert f"<b>{second}</b>: the slide has 1 x 1 pixels" in index
    assert f"<b>{third}</b>: there is no slide of its name" in index
    pages = {name: (maps / name / "map.html").read_text("utf-8") for name in (first, second)}
    assert '"levels": [["data:image/jpeg;base64,' in pages[first]
    assert "Tiles of the highest occlusion to 9" in pages[first]
    assert '"micrometres": 0.5' in pages[first]
    assert '"slide": null' in pages[second]
    assert "Its slide is not drawn: the slide has 1 x 1" in pages[second]
    assert (maps / first / "map.ome.tif").is_file()
    tiles = pq.read_table(maps / first / "tiles.parquet")
    assert {"occlusion_9", "contribution_9", "weight"} <= set(tiles.column_names)


def test_how_faithful_maps_are_is_measured(here, run, grid, read_summary):
    outcome = here("map", f"ckpt_path={run}", "faithfulness=true", "run=faithful", folder=grid)
    assert outcome.returncode == 0, outcome.stderr
    folder = grid / "logs" / "map" / "runs" / "faithful"
    metrics = read_summary(folder)["metrics"]
    names = {
        f"faithfulness/{curve}/{score}"
        for curve in ("deletion", "insertion")
        for score in ("contribution", "attention", "random")
    }
    assert set(metrics) == names
    for name in names:
        assert f"{name} " in outcome.stdout
    # Against the logits of a bag of which the tiles that say most for its class are taken away.
    rows = pq.read_table(folder / "maps" / "faithfulness.parquet").to_pylist()
    bags = {row["bag_id"]: row for row in rows_of(run) if row["part"] == "test"}
    whole = {row["bag_id"]: row["logit"] for row in rows if row["share"] == 1}
    for name, logit in whole.items():
        assert logit == pytest.approx(abs(bags[name]["logit_0"]), abs=1e-3)
    for curve, sign in (("deletion", 1), ("insertion", -1)):
        own, random = (
            metrics[f"faithfulness/{curve}/{score}"] for score in ("contribution", "random")
        )
        assert sign * own < sign * random
    assert "Faithfulness" in (folder / "maps" / "index.html").read_text("utf-8")
    assert (folder / "maps" / "faithfulness.png").is_file()


def test_each_member_is_shown_and_a_model_without_scores_has_its_gradient(
    here, train, run, grid, read_summary
):
    trained = train(
        *GRID, "model=gated_abmil", "seed=5", "trainer.max_epochs=1", "run=b", folder=grid
    )
    assert trained.returncode == 0, trained.stderr
    first, second, *_ = [row["bag_id"] for row in rows_of(run) if row["part"] == "test"]
    outcome = here(
        "map",
        "ckpt_path=[logs/train/runs/a,logs/train/runs/b]",
        f"bags={first},{second}",
        "faithfulness=true",
        "run=two",
        folder=grid,
    )
    assert outcome.returncode == 0, outcome.stderr
    maps = grid / "logs" / "map" / "runs" / "two" / "maps"
    assert -1 <= read_summary(maps.parent)["metrics"]["faithfulness/agreement/contribution"] <= 1
    folder = next(each for each in maps.iterdir() if each.is_dir())
    tiles = pq.read_table(folder / "tiles.parquet")
    mean = (tiles["contribution_9_a"].to_numpy() + tiles["contribution_9_b"].to_numpy()) / 2
    np.testing.assert_allclose(tiles["contribution_9"].to_numpy(), mean, rtol=1e-6)
    trained = train(*GRID, "model=max_pool", "trainer.max_epochs=1", "run=c", folder=grid)
    assert trained.returncode == 0, trained.stderr
    alone = ("map", "ckpt_path=logs/train/runs/c", f"bags={first}")
    outcome = here(*alone, "run=gradient", folder=grid)
    assert outcome.returncode == 0, outcome.stderr
    page = next((grid / "logs" / "map" / "runs" / "gradient" / "maps").glob("*/map.html"))
    assert "gradient x input" in page.read_text("utf-8")
    outcome = here(*alone, "score=attention", folder=grid)
    assert "the model has no attention: choose score=gradient" in outcome.failure()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("mpp=0", "expected mpp above 0, got 0.0"),
        ("score=saliency", "expected score to be auto, contribution, .*, got 'saliency'"),
        ("slides=none", "slides=none: expected a folder of slides, found none"),
        ("top=0", "expected top of at least 1, or null for all tiles, got 0"),
        ("tile_size=-1", "expected tile_size above 0, got -1.0"),
        ("bands=1", "expected bands of at least 2, or null for none, got 1"),
    ],
)
def test_bad_options_are_refused(argument, message):
    key, text = argument.split("=")
    value = {"tile_size": float, "mpp": float, "top": int, "bands": int}.get(key, str)(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        MapWriter("maps", "a.ckpt", **{key: value})


def test_bags_without_coords_are_no_maps(here, checkpoint, tmp_path):
    outcome = here("map", f"ckpt_path={checkpoint}")
    line = outcome.failure()
    assert line.startswith("no bag could be mapped: bag ")
    assert line.endswith("it has no coords, so nobody knows where its tiles lie")
    (maps,) = tmp_path.glob("logs/map/runs/*/maps")
    assert (maps / "index.html").read_text("utf-8").count("it has no coords") == 6
