"""What of a checkpoint's callbacks a run takes up."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from milforge.runs.callback_states import adapt_states, is_own


@pytest.mark.parametrize(
    ("path", "own"),
    [("run/last.ckpt", True), ("other/last.ckpt", False), ("link/best.ckpt", True), (None, True)],
)
def test_a_checkpoint_is_of_the_run_that_writes_there(tmp_path, path, own):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    callbacks = [L.Callback(), ModelCheckpoint(tmp_path / "run")]
    assert is_own(None if path is None else tmp_path / path, callbacks) is own
    assert is_own(tmp_path / "other" / "a.ckpt", [L.Callback(), ModelCheckpoint()])


def test_the_states_are_of_this_folder_and_this_patience(tmp_path):
    there, here = (
        ModelCheckpoint(tmp_path / name, monitor="a", filename="best") for name in ("there", "here")
    )
    there.best_model_score, there.best_model_path = 0.5, str(tmp_path / "there" / "best.ckpt")
    there.best_k_models = {there.best_model_path: 0.5}
    there.kth_best_model_path = there.best_model_path
    stopping = EarlyStopping("a", patience=2)
    stopping.wait_count = 2
    states = {each.state_key: each.state_dict() for each in (there, stopping)}
    patient = EarlyStopping("a", patience=5)
    adapt_states(states, [L.Callback(), here, patient])
    here.load_state_dict(states[here.state_key])
    patient.load_state_dict(states[patient.state_key])
    assert here.best_model_score == 0.5
    best = str(tmp_path / "here" / "best.ckpt")
    assert here.best_model_path == here.kth_best_model_path == best
    assert here.best_k_models == {best: 0.5}
    assert here.last_model_path == ""
    assert (patient.patience, patient.wait_count) == (5, 2)


CRAFTED = ["x/..", "..", ".", "/", "/etc/passwd", "checkpoints", "notes.txt", "a/", "other.ckpt"]


@pytest.mark.parametrize("path", [*CRAFTED, "x/best.ckpt/..", "best.ckpt\n", "..\\best.ckpt"])
def test_a_path_of_a_file_decides_nothing(tmp_path, path):
    """Lightning removes what the state calls the best before."""
    callback = ModelCheckpoint(tmp_path, monitor="a", filename="best")
    state = callback.state_dict()
    state |= dict.fromkeys(["best_model_path", "kth_best_model_path", "last_model_path"], path)
    states = {callback.state_key: {**state, "best_k_models": {path: torch.tensor(1.0)}}}
    adapt_states(states, [callback])
    callback.load_state_dict(states[callback.state_key])
    kept = callback.best_model_path, callback.kth_best_model_path, callback.last_model_path
    assert kept == ("", "", "")
    assert callback.best_k_models == {}


def test_names_that_a_callback_makes_are_kept(tmp_path):
    callback = ModelCheckpoint(tmp_path, monitor="a", filename="e{epoch:02d}-{val_loss:.2f}")
    names = ["eepoch=03-val_loss=0.25.ckpt", "e03-0.25-v1.ckpt", "last.ckpt"]
    state = {**callback.state_dict(), "best_k_models": {f"/far/{n}": 1.0 for n in names}}
    states = {callback.state_key: state}
    adapt_states(states, [callback])
    kept = states[callback.state_key]["best_k_models"]
    assert kept == {str(tmp_path / name): 1.0 for name in names}


@pytest.mark.parametrize(
    ("callback", "change", "told"),
    [
        (ModelCheckpoint("a"), {"best_model_path": 3}, "ModelCheckpoint: expected best_model_path"),
        (ModelCheckpoint("a"), {"best_k_models": [1]}, "ModelCheckpoint: expected best_k_models"),
        (EarlyStopping("a"), {"wait_count": "x"}, "EarlyStopping: expected wait_count as int"),
    ],
)
def test_a_damaged_state_is_told(callback, change, told):
    for state in ({**callback.state_dict(), **change}, [], 3):
        with pytest.raises(ValueError, match="damaged state of"):
            adapt_states({callback.state_key: state}, [callback])
    with pytest.raises(ValueError, match=told):
        adapt_states({callback.state_key: {**callback.state_dict(), **change}}, [callback])
