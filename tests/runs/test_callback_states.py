"""What of a checkpoint's callbacks a run takes up."""

import lightning as L
import pytest
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
    there, here = (ModelCheckpoint(tmp_path / name, monitor="a") for name in ("there", "here"))
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
