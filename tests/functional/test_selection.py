import torch

import reference
from milforge.functional import segment_argmax, segment_rank


def test_ranks_by_counting():
    x, ptr = reference.make_bags((5, 1, 0, 12), 2)
    x = (2 * x).round()  # there are ties
    ranks = segment_rank(x, ptr)
    for found, bag in zip(reference.split(ranks, ptr), reference.split(x, ptr), strict=True):
        for k in range(2):
            for i in range(len(bag)):
                higher = sum(bag[j, k] > bag[i, k] for j in range(len(bag)))
                former = sum(bag[j, k] == bag[i, k] for j in range(i))
                assert found[i, k] == higher + former
    assert torch.equal(segment_rank(x[:, 1], ptr), ranks[:, 1])


def test_the_first_of_the_highest():
    x, ptr = reference.make_bags((5, 1, 12), 2)
    x = x.round()
    found = segment_argmax(x, ptr)
    for b, start in enumerate(ptr[:-1].tolist()):
        bag = x[start : ptr[b + 1]]
        for k in range(2):
            best = max(range(len(bag)), key=lambda i: float(bag[i, k]))
            assert found[b, k] == start + best
    assert torch.equal(segment_argmax(x[:, 0], ptr), found[:, 0])


def test_of_no_instance():
    ptr = torch.tensor([0, 0])
    assert segment_argmax(torch.zeros(0), ptr).tolist() == [0]
    assert segment_rank(torch.zeros(0, 3), ptr).shape == (0, 3)
