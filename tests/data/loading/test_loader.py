"""How bags make batches: what can be asked for."""

from dataclasses import FrozenInstanceError, fields

import pytest

from milforge.data import Loader

LEAST = {
    "batch_size": 1,
    "max_instances": 1,
    "eval_batch_size": 1,
    "num_workers": 0,
    "threads": 1,
}


def test_one_bag_at_a_time_in_this_process_unless_more_is_asked_for():
    loader = Loader()
    assert (loader.batch_size, loader.max_instances, loader.eval_batch_size) == (1, None, None)
    assert (loader.balanced, loader.num_workers) == (False, 0)
    with pytest.raises(FrozenInstanceError):
        loader.batch_size = 2


@pytest.mark.parametrize("name", sorted(LEAST))
def test_numbers_out_of_range_are_refused_by_name(name):
    least = LEAST[name]
    assert getattr(Loader(**{name: least}), name) == least
    with pytest.raises(
        ValueError, match=rf"^expected loader\.{name} of at least {least}, got {least - 1}$"
    ):
        Loader(**{name: least - 1})


def test_more_workers_than_any_machine_runs_are_refused():
    assert Loader(num_workers=1024).num_workers == 1024
    with pytest.raises(ValueError, match=r"loader\.num_workers of at most 1024, got 1025"):
        Loader(num_workers=1025)


def test_what_changes_nothing_is_among_the_options():
    """A run that goes on may be read by more processes or threads, not be dealt other batches."""
    assert set(Loader.changes_nothing) <= {field.name for field in fields(Loader)}
    assert set(Loader.changes_nothing) == {"eval_batch_size", "num_workers", "threads", "keep"}


def test_where_bags_are_kept():
    assert [Loader(keep=keep).keep for keep in (None, "memory", "device")]
    with pytest.raises(ValueError, match=r"^expected loader\.keep to be memory, device or null"):
        Loader(keep="gpu")
    with pytest.raises(ValueError, match=r"^expected loader\.num_workers=0 with loader\.keep"):
        Loader(keep="memory", num_workers=1)
