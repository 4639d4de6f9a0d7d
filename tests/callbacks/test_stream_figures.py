"""The figure of the weights of streams, and the learning curves beside it."""

from types import SimpleNamespace

from milforge.callbacks import FigureWriter

HISTORY = {"val/loss": [(0, 0.5), (1, 0.25)], "val/weight_uni": [(0, 0.5), (1, 0.75)]}


def draw(folder, monkeypatch, history):
    """What was drawn of which metrics."""
    drawn = {}
    trainer = SimpleNamespace(checkpoint_callback=None, loggers=[], is_global_zero=True)

    def write(_, where, name, plot):
        assert where == folder
        drawn[name] = set(plot.args[0])
        assert plot().axes

    monkeypatch.setattr("milforge.callbacks.figures.write_figure", write)
    FigureWriter(folder).on_fit_end(trainer, SimpleNamespace(history=history))
    return drawn


def test_weights_of_streams_have_a_figure_of_their_own(tmp_path, monkeypatch):
    assert draw(tmp_path, monkeypatch, HISTORY) == {
        "learning_curves": {"val/loss"},
        "stream_weights": {"val/weight_uni"},
    }


def test_it_is_drawn_only_where_there_are_weights(tmp_path, monkeypatch):
    history = {"val/loss": HISTORY["val/loss"]}
    assert draw(tmp_path, monkeypatch, history) == {"learning_curves": {"val/loss"}}
