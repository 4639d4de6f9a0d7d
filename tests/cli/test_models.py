"""A model that adds losses of its own, by the real commands."""

import json

TINY = ("data.train=8", "data.val=8", "data.test=8", "trainer.max_epochs=1")
QUIET = ("logger=none", "callbacks.figures=null")


def test_it_trains_and_is_measured_again_from_its_checkpoint(here):
    options = ("model=clam_mb", "model/encoder=mlp", "data=digits_grid", "loss.instances=0.5")
    done = here("train", *options, *TINY, *QUIET, "run=clam")
    assert done.returncode == 0, done.stderr
    run = done.folder / "logs/train/runs/clam"
    trained = json.loads((run / "summary.json").read_text())["metrics"]
    assert "test/inst_auroc" in trained
    done = here("evaluate", f"ckpt_path={run}/checkpoints/best.ckpt", *QUIET, "run=again")
    assert done.returncode == 0, done.stderr
    again = done.folder / "logs/evaluate/runs/again/summary.json"
    measured = json.loads(again.read_text())["metrics"]
    assert measured["test/loss"] == trained["test/loss"]
    assert measured["test/inst_auroc"] == trained["test/inst_auroc"]


def test_instances_of_a_model_without_attention_are_refused(here):
    options = ("model=mean_pool", "data=digits_grid", "loss.instances=0.5")
    done = here("train", *options, *TINY, *QUIET)
    assert "loss.instances: expected a model that attends" in done.failure()
