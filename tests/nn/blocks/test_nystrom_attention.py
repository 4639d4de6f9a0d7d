import torch
from torch.testing import assert_close

import reference
from milforge.nn.blocks.nystrom_attention import NystromAttention, pseudo_inverse


def make(landmarks=4, **options):
    torch.manual_seed(0)
    return NystromAttention(6, 2, 3, landmarks, **options).double().eval()


def heads_of(layer, x):
    rows = (x @ layer.qkv.weight.T).reshape(len(x), 3, 2, 3)
    return [rows[:, i].transpose(0, 1) for i in range(3)]  # (H, n, d)


def by_hand(layer, x):
    """One bag, head after head, row after row; each head of the bag shares the scale."""
    n, m = len(x), layer.landmarks
    fill = (m - n % m) % m
    q, k, v = (
        torch.cat([torch.zeros(2, fill, 3).double(), each], dim=1) for each in heads_of(layer, x)
    )
    q = q / 3**0.5
    length = (n + fill) // m
    q_few = torch.stack([q[:, i * length : (i + 1) * length].mean(1) for i in range(m)], dim=1)
    k_few = torch.stack([k[:, i * length : (i + 1) * length].mean(1) for i in range(m)], dim=1)
    middle = (q_few @ k_few.transpose(1, 2)).softmax(-1)
    scale = max(middle[h].sum(1).max().item() for h in range(2))
    scale *= max(middle[h].sum(0).max().item() for h in range(2))
    outs, weights = [], []
    for h in range(2):
        a, z = middle[h], middle[h].T / scale
        one = torch.eye(m).double()
        for _ in range(layer.iterations):
            az = a @ z
            z = 0.25 * z @ (13 * one - az @ (15 * one - az @ (7 * one - az)))
        matrix = (q[h] @ k_few[h].T).softmax(-1) @ z @ (q_few[h] @ k[h].T).softmax(-1)
        out = matrix @ v[h]
        if layer.conv is not None:
            taps = layer.conv.weight[h, 0]
            for t in range(len(out)):
                for j, tap in enumerate(taps):
                    row = t + j - len(taps) // 2
                    if 0 <= row < len(out):
                        out[t] = out[t] + tap * v[h, row]
        outs.append(out[fill:])
        weights.append(matrix[fill, fill:])
    joined = torch.cat(outs, dim=1) @ layer.out.weight.T + layer.out.bias
    return joined, sum(weights) / 2


def test_bag_by_bag():
    x, ptr = reference.make_bags((9, 1, 4, 11, 33, 50), 6)
    for kernel, landmarks in ((0, 4), (5, 4), (5, 40)):
        layer = make(landmarks, kernel=kernel)
        out, first = layer(x, ptr)
        each = [by_hand(layer, bag) for bag in reference.split(x, ptr)]
        assert_close(out, torch.cat([y for y, _ in each]), rtol=1e-5, atol=1e-9)
        assert_close(first, torch.cat([w for _, w in each]), rtol=1e-5, atol=1e-9)


def test_as_many_landmarks_as_rows_give_exact_attention():
    layer = make(landmarks=8, kernel=0, iterations=40)
    x, ptr = reference.make_bags((8,), 6)
    q, k, v = heads_of(layer, x)
    exact = (q @ k.transpose(1, 2) / 3**0.5).softmax(-1)
    out, first = layer(x, ptr)
    expected = torch.cat(list(exact @ v), dim=1) @ layer.out.weight.T + layer.out.bias
    assert_close(out, expected, rtol=1e-5, atol=1e-8)
    assert_close(first, exact[:, 0].mean(0), rtol=1e-5, atol=1e-8)


def test_the_pseudo_inverse_of_torch():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 2, 5, 5, generator=generator, dtype=torch.float64)
    matrices = logits.softmax(-1)
    scale = matrices.sum(-2).amax((1, 2))
    assert_close(
        pseudo_inverse(matrices, scale, 40), torch.linalg.pinv(matrices), rtol=1e-6, atol=1e-8
    )


def test_a_bag_of_other_scale_beside_it_changes_nothing():
    layer = make()
    x, ptr = reference.make_bags((9, 9), 6)
    alone = layer(x[:9], ptr[:2])[0]
    x[9:] *= 50
    assert_close(layer(x, ptr)[0][:9], alone, rtol=1e-12, atol=1e-12)
