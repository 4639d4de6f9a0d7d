"""A checkpoint that somebody made: nothing in it runs, reads the environment or chooses a file."""

import contextlib
import shutil

import pytest
import torch
from omegaconf import OmegaConf

import milforge
from thinned import thinned

TINY = ("data.train=16", "data.val=8", "data.test=8")
QUIET = ("logger=csv", "callbacks.figures=null")


@pytest.fixture
def crafted(checkpoint, tmp_path):
    """`crafted(change)`: the checkpoint after `change` has had its way with it."""

    def make(change, name="crafted.ckpt"):
        content = torch.load(checkpoint, weights_only=True)
        change(content)
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return make


@pytest.mark.parametrize(
    "group", thinned(["model", "data", "loader", "trainer", "split", "metrics"], every=2)
)
def test_nothing_that_a_checkpoint_names_is_run(crafted, here, tmp_path, group):
    shell = {"_target_": "torch.utils.collect_env.run", "command": f"touch {tmp_path}/ran"}

    def change(content):
        config = content["milforge"]["config"]
        config[group] = {**(config[group] or {}), "adjacency": [shell]}

    path = crafted(change)
    for command in ("evaluate", "predict"):
        error = here(command, f"ckpt_path={path}").error()
        assert f"at {group}.adjacency[0]._target_, which a checkpoint may not call" in error
        assert "trust=torch" in error
    if group in ("model", "loader"):
        with pytest.raises(ValueError, match="may not call"):
            milforge.load(path)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "logs").exists()


def test_the_members_of_an_ensemble_are_checked(crafted, here, tmp_path, checkpoint):
    shell = {"_target_": "lightning.pytorch.loggers.csv_logs.os.system", "command": "touch ran"}
    path = crafted(lambda content: content["milforge"]["config"]["model"].update(pool=shell))
    error = here("evaluate", f"ckpt_path=[{checkpoint},{path}]", *QUIET).error()
    assert f"ckpt_path: {path} names 'lightning.pytorch.loggers.csv_logs.os.system'" in error
    assert not (tmp_path / "ran").exists()


def test_a_group_that_is_typed_replaces_what_is_refused(crafted, here):
    node = {"_target_": "gone.data"}
    path = crafted(lambda content: content["milforge"]["config"].update(data=node))
    outcome = here("evaluate", f"ckpt_path={path}", *QUIET, "data=digits_bags", "data.test=4")
    assert outcome.returncode == 0, outcome.stderr


def test_a_package_is_trusted_by_who_types_the_command(crafted, here, tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text(
        "def loss(logits, y):\n    return (logits - y).square().mean(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "my_losses.loss", "_partial_": True}

    def change(content):
        content["milforge"]["config"].update(loss=node, trust="my_losses")

    path = crafted(change)
    assert "add trust=my_losses, or" in here("evaluate", f"ckpt_path={path}", *QUIET).error()
    for word in ("trust=my_losses", "trust=[other,my_losses]"):
        outcome = here("evaluate", f"ckpt_path={path}", *QUIET, word)
        assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_the_environment_is_not_read(crafted, here, tmp_path, monkeypatch, command):
    monkeypatch.setenv("MY_TOKEN", "s3cr3t")
    path = crafted(
        lambda content: content["milforge"]["config"].update(tags=["${oc.env:MY_TOKEN}"])
    )
    error = here(command, f"ckpt_path={path}", "run=e").error()
    assert "holds the interpolation '${oc.env:MY_TOKEN}' at tags[0] of its config" in error
    with pytest.raises(ValueError, match="holds the interpolation"):
        milforge.load(path)
    assert not any("s3cr3t" in each.read_text() for each in tmp_path.glob("logs/**/*.yaml"))


@pytest.mark.nightly
def test_what_a_user_refers_to_is_stored_resolved(train, here, monkeypatch):
    monkeypatch.setenv("MY_SAMPLING", "plain")
    outcome = train("data.sampling=${oc.env:MY_SAMPLING}", "trainer.max_epochs=1")
    best = outcome.run() / "checkpoints" / "best.ckpt"
    monkeypatch.delenv("MY_SAMPLING")
    stored = torch.load(best, weights_only=True)["milforge"]["config"]
    assert stored["data"]["sampling"] == "plain"
    assert here("evaluate", f"ckpt_path={best}", *QUIET).returncode == 0


def test_stored_places_are_not_written_to(crafted, here, tmp_path):
    elsewhere = str(tmp_path / "elsewhere")

    def change(content):
        config = content["milforge"]["config"]
        node = {"_target_": "milforge.graph.AdjacencyBuilder", "method": "feature_knn", "k": 2}
        config["graph"] = {**node, "cache": elsewhere}
        config["trainer"]["profiler"] = {
            "_target_": "lightning.pytorch.profilers.SimpleProfiler",
            "dirpath": elsewhere,
            "filename": "p",
        }
        config["trainer"]["default_root_dir"] = elsewhere
        config["trainer"]["logger"] = True
        config["paths"] = {"output_dir": elsewhere, "log_dir": elsewhere}
        config["run"] = "../../elsewhere"

    path = crafted(change)
    outcome = here("evaluate", f"ckpt_path={path}", *QUIET)
    assert outcome.returncode == 0, outcome.stderr
    assert not (tmp_path / "elsewhere").exists()
    config = OmegaConf.load(outcome.run("evaluate") / "config.yaml")
    assert config.graph.cache is None
    typed = here("evaluate", f"ckpt_path={path}", *QUIET, f"graph.cache={elsewhere}", "run=typed")
    assert typed.returncode == 0, typed.stderr
    assert (tmp_path / "elsewhere").is_dir()


def test_what_a_checkpoint_calls_the_best_is_not_removed(train):
    run = train("run=r", "trainer.max_epochs=1").run()
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    for key, state in content["callbacks"].items():
        if key.startswith("ModelCheckpoint"):
            paths = ("best_model_path", "kth_best_model_path", "last_model_path")
            state |= {**dict.fromkeys(paths, "x/.."), "best_k_models": {"x/..": torch.tensor(9.0)}}
    torch.save(content, last)
    (run / "summary.json").unlink()
    (run / "notes.txt").write_text("mine")
    outcome = train("run=r")
    assert outcome.returncode == 0, outcome.stderr
    assert (run / "notes.txt").read_text() == "mine"
    assert (run / "checkpoints" / "best.ckpt").is_file()


def flipped(path, kept):
    """A copy of a checkpoint in which a bit of the weights is turned over."""
    content = bytearray(path.read_bytes())
    weights = torch.load(path, weights_only=True)["state_dict"]
    at = content.index(max(weights.values(), key=torch.numel).numpy().tobytes())
    content[at + 3] ^= 0x04
    kept.write_bytes(content)
    torch.load(kept, weights_only=True)  # to which it is as good as any
    return kept


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_damaged_checkpoint_is_not_used(here, checkpoint, tmp_path, command):
    path = flipped(checkpoint, tmp_path / "damaged.ckpt")
    told = f"{path} cannot be read as a checkpoint: it is truncated or damaged"
    assert told in here(command, f"ckpt_path={path}").error()
    with pytest.raises(ValueError, match="truncated or damaged"):
        milforge.load(path)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(train):
    run = train("run=r").run()
    whole = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    last = run / "checkpoints" / "last.ckpt"
    flipped(last, last)
    (run / "summary.json").unlink()
    outcome = train("run=r")
    assert outcome.returncode == 0, outcome.stderr
    assert "last.ckpt is damaged, going on from previous.ckpt" in outcome.stdout + outcome.stderr
    again = torch.load(last, weights_only=True)["state_dict"]
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    thinned(
        [
            ("summary.json", "[" * 100_000, "summary.json is damaged"),
            ("summary.json", "[1]", "summary.json is damaged (expected names and values)"),
            ("config.yaml", "a: &a [1]\nb: *a\n", "config.yaml is damaged (expected no aliases"),
            ("config.yaml", "- 1", "config.yaml is damaged (expected keys and values)"),
        ],
        every=2,
    ),
)
def test_a_folder_with_damaged_files_does_not_go_on(here, tmp_path, name, content, told):
    folder = tmp_path / "logs" / "train" / "runs" / "r"
    folder.mkdir(parents=True)
    (folder / name).write_text(content)
    error = here("train", "run=r", *QUIET).failure()
    assert told in error
    assert "remove that file" in error
    assert (folder / name).read_text() == content


def put(*keys):
    """`put("milforge", "config", "data", "test", 3)` sets what stands there."""
    *path, last, value = keys

    def change(content):
        for key in path:
            content = content[key]
        if value is None and last in content:
            del content[last]
        else:
            content[last] = value

    return change


CONFIG = ("milforge", "config")
ABSURD = [
    (put(*CONFIG, "model", "encoder", "hidden", [2**18, 2**18]), "does not fit the model of"),
    (put(*CONFIG, "model", "encoder", "hidden", [2**40]), "does not fit the model of"),
    (put(*CONFIG, "model", "pool", "att_dim", 2**62), ""),
    (put(*CONFIG, "model", "pool", "att_dim", "many"), ""),
    (put(*CONFIG, "model", "pool", [1]), ""),
    (put(*CONFIG, "model", {}), "a config without 'model'"),
    (put(*CONFIG, "model", {"_target_": "torch.nn.Linear"}), ""),
    (put(*CONFIG, "data", "test", 10**9), "at most 1,000,000, got 1000000000"),
    (put(*CONFIG, "data", "test", 1e9), "expected a whole number, got 1000000000.0"),
    (put(*CONFIG, "data", "test", [1]), ""),
    (put(*CONFIG, "data", None), "a config without 'data'"),
    (put(*CONFIG, "trainer", 3), "a config without 'trainer'"),
    (put(*CONFIG, "trainer", "devices", "x"), ""),
    (put(*CONFIG, "loader", "batch_size", -1), ""),
    (put(*CONFIG, "task", [1]), ""),
    (put(*CONFIG, "loss", {"a": 1}), ""),
    (put(*CONFIG, "seed", "x"), ""),
    (put(*CONFIG, "tags", {"a": 1}), ""),
    (put(*CONFIG, "metrics", [1]), ""),
    (put("milforge", "task", {"kind": "binary"}), ""),
    (put("milforge", "task", "class_names", 3), ""),
    (put("milforge", "task", "weights", [[1], [2, 3]]), ""),
    (put("milforge", "instance_shape", [2**20]), "instances of shape"),
    (put("milforge", "history", None), "lacks the key 'milforge.history'"),
    (put("state_dict", {}), "does not fit the model of"),
]


@pytest.mark.parametrize(("change", "told"), thinned(ABSURD), ids=range(len(ABSURD)))
def test_odd_and_absurd_values_are_a_sentence(crafted, here, change, told):
    path = crafted(change)
    error = here("evaluate", f"ckpt_path={path}", *QUIET).failure()
    assert told in error
    with contextlib.suppress(ValueError):  # of the data nothing is asked here
        milforge.load(path)


RESUMED = [
    put("epoch", "x"),
    put("loops", None),
    put("loops", [1]),
    put("loops", "fit_loop", {}),
    put("optimizer_states", None),
    put("optimizer_states", [{"state": 3}]),
    put("optimizer_states", []),
    put("lr_schedulers", 3),
    put("callbacks", 3),
    put("pytorch-lightning_version", None),
    put("milforge", "seen", 3),
]


@pytest.mark.parametrize("change", thinned(RESUMED), ids=range(len(RESUMED)))
def test_odd_states_are_a_sentence_where_a_run_goes_on(crafted, here, change, tmp_path, trained):
    shutil.copytree(trained.run(), tmp_path / "logs" / "train" / "runs" / "r")
    run = tmp_path / "logs" / "train" / "runs" / "r"
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    change(content)
    torch.save(content, last)
    (run / "summary.json").unlink()
    outcome = here("train", *TINY, "seed=3", "run=r", *QUIET, "trainer.max_epochs=3")
    assert "Traceback" not in outcome.stderr
    if outcome.returncode:
        assert str(last) in outcome.failure() or "last.ckpt" in outcome.failure()
