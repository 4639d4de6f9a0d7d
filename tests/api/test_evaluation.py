"""What an evaluation marks."""

from types import SimpleNamespace

from lightning.pytorch.loggers import CSVLogger

from milforge.api.evaluation import mark_seen


class Tracked:
    """A logger that keeps what it is told."""

    def __init__(self):
        self.told = {}

    def log_hyperparams(self, values):
        self.told |= values


def test_a_tracked_run_says_how_many_of_its_bags_were_trained_on(tmp_path):
    tracked = Tracked()
    trainer = SimpleNamespace(loggers=[CSVLogger(tmp_path), tracked])
    mark_seen(trainer, None)
    assert tracked.told == {}
    mark_seen(trainer, {"bags": 7, "of": 9, "checkpoints": {"a.ckpt": 7}})
    assert tracked.told == {"seen_in_training": 7}
    assert not list(tmp_path.rglob("hparams.yaml"))
