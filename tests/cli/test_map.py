"""`milforge-map`: from a run to its maps."""

import gzip
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from milforge.callbacks import MapWriter

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
    outcome = here("map", f"ckpt_path={run}", wanted, "top=2", "run=named", folder=grid)
    assert outcome.returncode == 0, outcome.stderr
    maps = grid / "logs" / "map" / "runs" / "named" / "maps"
    assert {each.name for each in maps.iterdir()} == {first, second, "index.html"}
    index = (maps / "index.html").read_text("utf-8")
    assert "<b>no such</b>: there is no such bag among the 8 that were predicted" in index
    assert index.index(second) < index.index(first)
    geojson = gzip.decompress((maps / first / "map.geojson.gz").read_bytes())
    assert len(json.loads(geojson)["features"]) == 2


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


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("top=0", "expected top of at least 1, or null for all tiles, got 0"),
        ("tile_size=-1", "expected tile_size above 0, got -1.0"),
    ],
)
def test_bad_numbers_are_refused(argument, message):
    key, value = argument.split("=")
    with pytest.raises(ValueError, match=message):
        MapWriter("maps", "a.ckpt", **{key: float(value) if key == "tile_size" else int(value)})


def test_bags_without_coords_are_no_maps(here, checkpoint, tmp_path):
    outcome = here("map", f"ckpt_path={checkpoint}")
    line = outcome.failure()
    assert line.startswith("no bag could be mapped: bag ")
    assert line.endswith("it has no coords, so nobody knows where its tiles lie")
    (maps,) = tmp_path.glob("logs/map/runs/*/maps")
    assert (maps / "index.html").read_text("utf-8").count("it has no coords") == 6


def test_a_model_that_says_nothing_of_its_tiles(train, here, tmp_path):
    trained = train(*GRID, "model=max_pool", "trainer.max_epochs=1", "run=a")
    assert trained.returncode == 0, trained.stderr
    outcome = here("map", "ckpt_path=logs/train/runs/a")
    assert "the model has neither attention nor contributions" in outcome.failure()
