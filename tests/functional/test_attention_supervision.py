import torch
from torch.testing import assert_close

import reference
from milforge.functional import attention_supervision


def test_bag_by_bag():
    scores, ptr = reference.make_bags((5, 1, 4, 3, 2), 2)
    labels = torch.tensor([1, 0, -1, 1, 0, 1, 0, 0, -1, 0, -1, -1, -1, 0, 1])
    found = attention_supervision(scores, labels, ptr)
    expected = []
    for f, y in zip(reference.split(scores, ptr), reference.split(labels, ptr), strict=True):
        if not (y == 1).any():
            expected.append(torch.zeros(()).double())
            continue
        each = [f[y == 1, k].exp().sum() / f[y >= 0, k].exp().sum() for k in range(2)]
        expected.append(-(each[0].log() + each[1].log()) / 2)
    assert_close(found, torch.stack(expected))
    alone = attention_supervision(scores[:, 0], labels, ptr)
    assert_close(attention_supervision(scores[:, :1], labels, ptr), alone)


def test_what_is_hidden_teaches_nothing():
    scores = torch.tensor([-torch.inf, 0.0, 1.0], requires_grad=True)
    loss = attention_supervision(scores, torch.tensor([1, 0, 0]), torch.tensor([0, 3]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert not scores.grad.any()


def test_no_bags():
    none = attention_supervision(torch.zeros(0, 2), torch.zeros(0).long(), torch.zeros(1).long())
    assert none.shape == (0,)
