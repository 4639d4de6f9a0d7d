"""`milforge-map` of a cross-validation with several classes, and of log-risks."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from bag_folders import plain_folder, write_labels

RUN = (
    "data=feature_bags",
    "data.root=bags",
    "data.labels=labels.csv",
    "split=kfold",
    "split.folds=2",
    "split.stratify=false",
    "loader.num_workers=0",
    "model.encoder.hidden=[8]",
    "trainer.max_epochs=1",
    "logger=csv",
    "callbacks.figures=null",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    plain_folder(folder / "bags", [12 + n for n in range(16)], attributes={
        "coords": {"patch_size_level0": 256}})  # fmt: skip
    rows = [(f"b{n}", "abc"[n % 3], 3 + n * n % 17, n % 4 > 0) for n in range(16)]
    write_labels(
        folder / "labels.csv", [(i, c, t, int(not e)) for i, c, t, e in rows],
        "slide_id,kind,months,censored",
    )  # fmt: skip
    return folder


@pytest.mark.slow
def test_each_bag_is_mapped_by_the_fold_that_did_not_see_it(here, project):
    sweep = here(
        "train", "-m", *RUN, "data.label_column=kind", "split.fold=0,1", "sweep=cv", folder=project
    )
    assert sweep.returncode == 0, sweep.stderr
    outcome = here(
        "map", "ckpt_path=logs/train/multiruns/cv", "out_of_fold=true", "bags=b3,b4", "run=m",
        folder=project,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    maps = project / "logs" / "map" / "runs" / "m" / "maps"
    for name in ("b3", "b4"):
        names = pq.read_table(maps / name / "tiles.parquet").column_names
        assert {f"contribution_{kind}" for kind in "abc"} <= set(names)
        page = (maps / name / "map.html").read_text("utf-8")
        assert "Its prediction is the one in predictions/bags.parquet of the run." in page
        assert "tiles of 256 pixels" in page
        assert 'id="model"' not in page  # one fold alone has not seen it


@pytest.mark.slow
def test_log_risks_are_mapped(here, project):
    columns = ("data.label_column=months", "data.censorship_column=censored")
    trained = here("train", *RUN, *columns, "task=cox", "run=risk", folder=project)
    assert trained.returncode == 0, trained.stderr
    outcome = here(
        "map", "ckpt_path=logs/train/runs/risk", "faithfulness=true", "run=risk", folder=project
    )
    assert outcome.returncode == 0, outcome.stderr
    folder = project / "logs" / "map" / "runs" / "risk"
    rows = pq.read_table(folder / "maps" / "faithfulness.parquet").to_pylist()
    bags = {
        row["bag_id"]: row
        for row in pq.read_table(folder / "predictions" / "bags.parquet").to_pylist()
    }
    for row in rows:
        if row["share"] == 1:
            np.testing.assert_allclose(row["logit"], bags[row["bag_id"]]["logit_0"], rtol=1e-4)
