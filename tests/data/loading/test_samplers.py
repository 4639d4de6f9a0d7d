"""Which bags make a batch: laws over any numbers of bags and processes."""

import pickle
from functools import partial
from itertools import chain, pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch.utils.data import DataLoader

from milforge.data import Bag, EvaluationBags, TrainBatches, collate_bags
from milforge.data.loading.samplers import cut_batches, deal, draw_balanced
from milforge.training.data.data_loaders import collate_share

numbers = st.integers(1, 60)
worlds = st.integers(1, 6)
seeds = st.integers(0, 5)


def batches_of_all(num_bags, batch_size, seed, world_size, epoch=0):
    """For each process its batches."""
    shards = []
    for rank in range(world_size):
        sampler = TrainBatches(num_bags, batch_size, seed, rank, world_size)
        sampler.set_epoch(epoch)
        shards.append(list(sampler))
        assert len(sampler) == len(shards[-1])
    return shards


def joined(shards):
    """The global batches, in the order before they were dealt out."""
    steps = []
    for parts in zip(*shards, strict=True):
        longest = max(map(len, parts))
        dealt = [part[i] for i in range(longest) for part in parts if i < len(part)]
        steps.append(dealt)
    return steps


@given(numbers, numbers, seeds, worlds)
def test_every_bag_is_in_one_batch_of_one_process(num_bags, batch_size, seed, world_size):
    assume(num_bags >= world_size <= batch_size)
    shards = batches_of_all(num_bags, batch_size, seed, world_size)
    assert len({len(shard) for shard in shards}) == 1  # as many steps on every process
    assert all(batch for shard in shards for batch in shard)
    assert sorted(chain.from_iterable(chain.from_iterable(shards))) == list(range(num_bags))


@given(numbers, numbers, seeds, worlds)
def test_a_global_batch_is_of_the_size_asked_for(num_bags, batch_size, seed, world_size):
    assume(num_bags >= world_size <= batch_size)
    *full, last = joined(batches_of_all(num_bags, batch_size, seed, world_size))
    assert all(len(batch) == batch_size for batch in full)
    assert world_size <= len(last) < batch_size + world_size
    for parts in zip(*batches_of_all(num_bags, batch_size, seed, world_size), strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(numbers, numbers, seeds, worlds)
def test_the_global_order_does_not_depend_on_the_processes(num_bags, batch_size, seed, world_size):
    assume(num_bags >= world_size <= batch_size)
    one = joined(batches_of_all(num_bags, batch_size, seed, 1))
    many = joined(batches_of_all(num_bags, batch_size, seed, world_size))
    assert list(chain.from_iterable(one)) == list(chain.from_iterable(many))
    # ... nor on the size of a batch
    other = joined(batches_of_all(num_bags, num_bags + 7, seed, 1))
    assert list(chain.from_iterable(one)) == other[0]


@given(st.integers(8, 60), seeds, st.integers(0, 50))
def test_the_order_is_that_of_seed_and_epoch(num_bags, seed, epoch):
    order = batches_of_all(num_bags, 4, seed, 1, epoch)
    assert order == batches_of_all(num_bags, 4, seed, 1, epoch)
    assert order != batches_of_all(num_bags, 4, seed, 1, epoch + 1)
    assert order != batches_of_all(num_bags, 4, seed + 1, 1, epoch)


def test_a_sampler_begins_anew_each_time():
    sampler = TrainBatches(7, 2, 0)
    assert list(sampler) == list(sampler)
    assert sampler.sampler is sampler


def test_a_short_last_batch_is_joined_where_a_process_would_have_none():
    assert [len(batch) for batch in TrainBatches(7, 3, 0)] == [3, 3, 1]
    sizes = [[len(batch) for batch in shard] for shard in batches_of_all(7, 3, 0, 2)]
    assert sizes == [[2, 2], [1, 2]]


@given(numbers, worlds)
def test_evaluation_is_an_exact_partition(num_bags, world_size):
    assume(num_bags >= world_size)
    shards = [list(EvaluationBags(num_bags, rank, world_size)) for rank in range(world_size)]
    assert [len(EvaluationBags(num_bags, r, world_size)) for r in range(world_size)] == [
        len(shard) for shard in shards
    ]
    assert sorted(chain.from_iterable(shards)) == list(range(num_bags))
    assert all(shard == sorted(shard) and shard for shard in shards)


@given(st.integers(0, 5), st.integers(1, 3), st.data())
def test_processes_without_a_bag_are_refused(num_bags, missing, data):
    world_size = num_bags + missing
    rank = data.draw(st.integers(0, world_size - 1))
    with pytest.raises(ValueError, match=f"{num_bags} bags for {world_size} processes"):
        EvaluationBags(num_bags, rank, world_size)
    with pytest.raises(ValueError, match=f"got {num_bags} for {world_size}"):
        TrainBatches(num_bags, 60, 0, rank, world_size)


def test_a_batch_of_less_than_a_bag_a_process_is_refused():
    with pytest.raises(ValueError, match=r"loader\.batch_size of at least 4.* got 3"):
        TrainBatches(20, 3, 0, 0, 4)


def test_a_loader_takes_them():
    loader = DataLoader(torch.arange(5), batch_sampler=TrainBatches(5, 2, 0))
    assert sorted(torch.cat(list(loader)).tolist()) == list(range(5))
    loader = DataLoader(torch.arange(5), sampler=EvaluationBags(5, 1, 2), batch_size=8)
    assert torch.cat(list(loader)).tolist() == [1, 3]


# --- batches by a budget of instances, and the elastic sequence -----------------------------------


@st.composite
def budgets(draw):
    """Sizes of bags, most bags and most instances of a batch, and an epoch, as keywords."""
    sizes = draw(st.lists(st.integers(1, 30), min_size=5, max_size=40))
    return {
        "num_bags": len(sizes),
        "batch_size": draw(st.integers(5, 12)),
        "seed": draw(seeds),
        "sizes": sizes,
        "max_instances": draw(st.none() | st.integers(1, 80)),
        "balanced_by": draw(st.none() | st.just([i % 3 == 0 for i in range(len(sizes))])),
    }


def ranks_of(options, world_size, epoch=0, state=None):
    """For each process its batches."""
    shards = []
    for rank in range(world_size):
        sampler = TrainBatches(**options, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        if state is not None:
            sampler.load_state_dict(state)
        shards.append(list(sampler))
    return shards


def steps_of(shards):
    """The bags of each step, sorted; as many steps on every process, or this fails."""
    return [sorted(chain.from_iterable(parts)) for parts in zip(*shards, strict=True)]


@given(budgets(), st.integers(0, 9))
def test_every_number_of_processes_goes_through_the_same_global_batches(options, epoch):
    sampler = TrainBatches(**options)
    sampler.set_epoch(epoch)
    expected = sampler.global_batches()
    assert list(sampler) == expected
    for world_size in range(1, 6):
        shards = ranks_of(options, world_size, epoch)
        assert steps_of(shards) == [sorted(batch) for batch in expected]
        for parts, batch in zip(zip(*shards, strict=True), expected, strict=True):
            assert sum(map(bool, parts)) == min(world_size, len(batch))


@given(budgets(), st.integers(0, 9))
def test_each_bag_is_seen_once_an_epoch_or_as_many_are_drawn(options, epoch):
    sampler = TrainBatches(**options)
    sampler.set_epoch(epoch)
    bags = list(chain.from_iterable(sampler))
    if options["balanced_by"] is None:
        assert sorted(bags) == list(range(options["num_bags"]))
    else:
        assert len(bags) == options["num_bags"]


@given(budgets())
def test_a_batch_is_within_its_bounds_and_no_smaller_than_they_ask_for(options):
    sizes, most, budget = (options[key] for key in ("sizes", "batch_size", "max_instances"))
    budget = np.inf if budget is None else budget
    batches = TrainBatches(**options).global_batches()
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len(batch) == 1 or sum(sizes[bag] for bag in batch) <= budget
    for batch, following in pairwise(batches):
        held = sum(sizes[bag] for bag in batch)
        assert len(batch) == most or held + sizes[following[0]] > budget


@given(budgets())
def test_the_order_is_that_without_a_budget(options):
    """Sizes decide where the sequence is cut, not what comes when."""
    free = TrainBatches(options["num_bags"], 5, options["seed"], balanced_by=options["balanced_by"])
    assert list(chain.from_iterable(TrainBatches(**options))) == list(chain.from_iterable(free))


@given(budgets(), st.integers(0, 9), st.data())
def test_a_run_goes_on_anywhere_on_any_number_of_processes(options, epoch, data):
    before, after = (data.draw(st.integers(1, 5)) for _ in range(2))
    sampler = TrainBatches(**options, rank=before - 1, world_size=before)
    sampler.set_epoch(epoch)
    whole = sampler.global_batches()
    done = data.draw(st.integers(0, len(whole) - 1))
    state = pickle.loads(pickle.dumps(sampler.state_dict(done)))
    rest = [sorted(batch) for batch in whole[done:]]
    assert steps_of(ranks_of(options, after, 0, state)) == rest


def test_the_next_epoch_begins_at_its_beginning():
    state = TrainBatches(20, 3, 0, sizes=[1] * 20).state_dict(4)
    sampler = TrainBatches(20, 3, 0, sizes=[1] * 20)
    sampler.load_state_dict(state)
    assert len(list(sampler)) == 3
    assert len(sampler) == 7  # of the whole epoch, which is what a trainer counts in
    sampler.set_epoch(0)  # as Lightning does again
    assert len(list(sampler)) == 3
    sampler.set_epoch(1)
    assert len(list(sampler)) == 7
    assert list(sampler) == sampler.global_batches()


RUN = {"num_bags": 20, "batch_size": 3, "seed": 0, "sizes": [3] * 20, "max_instances": 9}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"batch_size": 2},
        {"max_instances": 8},
        {"num_bags": 19, "sizes": [3] * 19},
        {"sizes": [3] * 19 + [4]},
        {"balanced_by": [0, 1] * 10},
    ],
)
def test_an_epoch_does_not_go_on_with_other_batches(change):
    state = TrainBatches(**RUN).state_dict(2)
    sampler = TrainBatches(**{**RUN, **change})
    sampler.set_epoch(7)
    with pytest.raises(ValueError, match=r"inside epoch 0.* seed, loader\.batch_size"):
        sampler.load_state_dict(state)
    assert (sampler.epoch, sampler.start) == (7, 0)
    # Between epochs there is nothing that must be the same.
    sampler.load_state_dict({**state, "epoch": 5, "batch": 0})
    assert (sampler.epoch, sampler.start) == (5, 0)


def test_an_epoch_goes_on_where_another_budget_makes_the_same_batches():
    sampler = TrainBatches(**{**RUN, "max_instances": 11})
    sampler.load_state_dict(TrainBatches(**RUN).state_dict(2))
    assert list(sampler) == TrainBatches(**RUN).global_batches()[2:]


def test_batches_by_a_budget_have_no_length():
    """Their number differs between epochs, and Lightning would cut all to that of the first."""
    sampler = TrainBatches(40, 8, 0, sizes=list(range(1, 41)), max_instances=60)
    counts = set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        counts.add(len(list(sampler)))
    assert len(counts) > 1
    with pytest.raises(TypeError, match="no length"):
        len(sampler)


@given(st.lists(st.integers(1, 99), min_size=1, max_size=7), st.integers(1, 3))
def test_the_bags_of_a_batch_are_dealt_evenly(sizes, world_size):
    hands = deal(range(len(sizes)), sizes, world_size)
    loads = [sum(sizes[bag] for bag in hand) for hand in hands]
    assert sorted(chain.from_iterable(hands)) == list(range(len(sizes)))
    assert all(hand == sorted(hand) for hand in hands)
    assert max(loads) - min(loads) <= max(sizes)
    best = min(
        max(np.bincount(ranks, sizes, minlength=world_size))
        for ranks in product(range(world_size), repeat=len(sizes))
    )
    assert max(loads) <= (4 / 3 - 1 / (3 * world_size)) * best + 1e-9  # Graham 1969


def test_bags_of_one_size_are_dealt_in_turn():
    batch = [7, 3, 9, 4, 1]
    assert deal(batch, [6] * 10, 2) == [batch[0::2], batch[1::2]]
    assert deal(batch, [6] * 10, 7) == [[7], [3], [9], [4], [1], [], []]


def test_a_bag_beyond_the_budget_is_alone():
    assert cut_batches([2, 0, 1, 3], [4, 99, 5, 1], 8, 10) == [[2, 0], [1], [3]]
    assert cut_batches([1, 0], [4, 99], 8, 10) == [[1], [0]]
    assert cut_batches([0, 1, 2], [5, 5, 5], 8, 10) == [[0, 1], [2]]
    assert cut_batches([0, 1, 2], [5, 5, 5], 2, None) == [[0, 1], [2]]


def test_classes_are_drawn_equally_often_and_so_are_the_bags_of_one():
    labels = torch.tensor([0] * 90 + [1] * 8 + [2] * 2)
    sampler = TrainBatches(100, 10, 3, balanced_by=labels)
    counts = np.zeros(100)
    for epoch in range(200):
        sampler.set_epoch(epoch)
        counts += np.bincount(list(chain.from_iterable(sampler)), minlength=100)
    assert counts.sum() == 100 * 200
    assert chisquare(np.bincount(labels, counts)).pvalue > 1e-3
    for label in range(3):
        assert chisquare(counts[labels == label]).pvalue > 1e-3


def test_combinations_of_labels_are_drawn_equally_often():
    labels = np.array([[0, 0]] * 70 + [[1, 0]] * 20 + [[1, 1]] * 10)
    drawn = np.concatenate([draw_balanced(labels, np.random.default_rng(i)) for i in range(50)])
    assert chisquare(np.bincount(labels[drawn].sum(1))).pvalue > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_instances": 5}, r"the sizes of the bags with loader\.max_instances=5, got none"),
        ({"max_instances": 0, "sizes": [1] * 6}, r"loader\.max_instances of at least 1, got 0"),
        ({"sizes": [1] * 5}, r"sizes of 6 bags as whole numbers, got int64 of shape \(5,\)"),
        ({"sizes": [1.0] * 6}, "whole numbers, got float64"),
        ({"sizes": [1, 2, 0, 1, 1, 1]}, "at least one instance, got 0 for bag number 2"),
        ({"balanced_by": [0, 1]}, r"labels of 6 bags.*shape \(2,\)"),
    ],
)
def test_sizes_and_labels_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainBatches(6, 2, 0, **options)


def test_where_an_epoch_was_done_the_next_one_follows():
    expected = TrainBatches(**RUN)
    expected.set_epoch(1)
    sampler = TrainBatches(**RUN)
    sampler.load_state_dict(sampler.state_dict(len(sampler.global_batches())))
    assert list(sampler) == list(expected)
    sampler.set_epoch(1)
    assert list(sampler) == list(expected)


@pytest.mark.parametrize("streams", [False, True])
def test_a_process_without_a_bag_gets_a_batch_without_bags(streams):
    x = torch.ones(3, 5, dtype=torch.float16)
    bag = Bag(
        {"a": x, "b": torch.ones(3, 2)} if streams else x,
        y=torch.tensor([0, 1]),
        adj=torch.eye(3).to_sparse_csr(),
        coords=torch.ones(3, 2),
        y_inst=torch.ones(3, dtype=torch.int64),
        bag_id="a",
        covariates=torch.ones(2),
    )
    empty = collate_bags([bag]).without_bags()
    collate = pickle.loads(pickle.dumps(partial(collate_share, empty=empty)))
    batches = TrainBatches(3, 2, 0, rank=1, world_size=2, sizes=[3] * 3)
    full, none = DataLoader([bag] * 3, batch_sampler=batches, collate_fn=collate)
    assert (len(full), len(none), none.num_instances) == (1, 0, 0)
    assert none.ptr.tolist() == [0]
    assert none.bag_id == []
    for name in ("y", "y_inst", "coords", "adj", "covariates", *(() if streams else ("x",))):
        part, like = getattr(none, name), getattr(full, name)
        assert (part.dtype, part.layout) == (like.dtype, like.layout)
        assert part.shape[0] == 0
        assert part.layout == torch.sparse_csr or part.shape[1:] == like.shape[1:]
    if streams:
        assert {key: tuple(part.shape) for key, part in none.x.items()} == {
            "a": (0, 5),
            "b": (0, 2),
        }
    assert none.to("cpu").padded()[0] is not None


def test_an_empty_batch_keeps_nothing_of_the_bag_it_was_made_from():
    empty = collate_bags([Bag(torch.zeros(10**6, 1), y=1)]).without_bags()
    assert len(pickle.dumps(empty)) < 10_000
    assert empty.adj is empty.coords is empty.y_inst is None
    with pytest.raises(ValueError, match="at least one bag"):
        collate_bags([])


def test_bags_are_told_of_the_epoch():
    told = []
    batches = TrainBatches(5, 2, seed=0, on_epoch=told.append)
    batches.sampler.set_epoch(3)
    batches.set_epoch(3)
    state = batches.state_dict(1)
    TrainBatches(5, 2, seed=0, on_epoch=told.append).load_state_dict(state)
    done = batches.state_dict(3)
    TrainBatches(5, 2, seed=0, on_epoch=told.append).load_state_dict(done)
    assert told == [3, 3, 3, 3, 4]
