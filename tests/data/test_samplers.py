"""Which bags make a batch: laws over any numbers of bags and processes."""

from itertools import chain

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from milforge.data import EvaluationBags, TrainBatches

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
    with pytest.raises(ValueError, match=r"data\.batch_size of at least 4.* got 3"):
        TrainBatches(20, 3, 0, 0, 4)


def test_a_loader_takes_them():
    loader = DataLoader(torch.arange(5), batch_sampler=TrainBatches(5, 2, 0))
    assert sorted(torch.cat(list(loader)).tolist()) == list(range(5))
    loader = DataLoader(torch.arange(5), sampler=EvaluationBags(5, 1, 2), batch_size=8)
    assert torch.cat(list(loader)).tolist() == [1, 3]
