import math

import pytest
import torch
from torch.testing import assert_close

import published
from milforge.models import RRT


def regions_of(n, regions):
    """Of each instance its region and its place in it: a square of lines, cut into regions."""
    side = math.ceil(math.sqrt(n))
    side = math.ceil(side / regions) * regions
    width = side // regions
    where = []
    for i in range(n):
        line, column = divmod(i, side)
        region = (line // width, column // width)
        where.append((region, line % width * width + column % width))
    return where, width * width


def heads(layer, x):
    q, k, v = published.affine(layer.qkv, x).reshape(len(x), 3, layer.heads, -1).unbind(1)
    return q, k, v


def within(network, x, regions):
    y = network.norm1(x)
    q, k, v = heads(network.within, y)
    where, size = regions_of(len(x), regions)
    taps, out = network.conv.weight[:, 0, :, 0], torch.zeros_like(q).flatten(1)
    width = q.shape[2]
    for region in {r for r, _ in where}:
        here = {place: i for i, (r, place) in enumerate(where) if r == region}
        for place, i in here.items():
            for h in range(len(taps)):

                def logit(a, j, h=h, here=here):
                    return q[here[a], h] @ k[j, h] / width**0.5

                scores = []
                for j in here.values():
                    value = logit(place, j)
                    for t, tap in enumerate(taps[h]):
                        near = place + t - len(taps[h]) // 2
                        if 0 <= near < size and near in here:
                            value = value + tap * logit(near, j)
                    scores.append(value)
                weights = published.softmax(scores)
                out[i, width * h : width * h + width] = published.pooled(
                    v[[*here.values()], h], weights
                )
    return x + published.affine(network.within.out, out)


def across(network, x, regions):
    y = network.norm2(x)
    few = y @ network.phi
    where, _ = regions_of(len(x), regions)
    present = sorted({r for r, _ in where})
    handed = []
    for c in range(few.shape[1]):
        means = []
        for region in present:
            here = [i for i, (r, _) in enumerate(where) if r == region]
            means.append(published.pooled(y[here], published.softmax(few[here, c])))
        q, k, v = heads(network.across, torch.stack(means))
        rows = []
        for a in range(len(present)):
            parts = []
            for h in range(q.shape[1]):
                scores = [q[a, h] @ k[b, h] / q.shape[2] ** 0.5 for b in range(len(present))]
                parts.append(published.pooled(v[:, h], published.softmax(scores)))
            rows.append(published.affine(network.across.out, torch.cat(parts)))
        handed.append(dict(zip(present, rows, strict=True)))
    given = []
    for i, (region, _) in enumerate(where):
        shares = published.softmax(few[i])
        given.append(sum(s * handed[c][region] for c, s in enumerate(shares)))
    return x + torch.stack(given)


@pytest.mark.parametrize(("regions", "heads"), [(2, 2), (3, 2), (2, 4)])
def test_region_after_region(regions, heads):
    options = {"regions": regions, "heads": heads, "kernel": 3, "representatives": 2, "att_dim": 4}
    network, batch = published.build(RRT, **options), published.batch_of()
    output, logits, scores = network(batch), [], []
    with torch.no_grad():
        for x in published.bags_of(batch):
            rows = network.norm(across(network, within(network, x, regions), regions))
            shown = published.gated(network.attention, rows)
            z = published.pooled(rows, published.softmax(shown))
            logits.append(published.affine(network.head, z))
            scores += shown
        assert_close(output.logits, torch.stack(logits), rtol=1e-5, atol=1e-9)
        assert_close(output.scores, torch.stack(scores), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 7}, "heads of 1 to 6"),
        ({"kernel": 4}, r"an odd model\.kernel, got 4"),
        ({"regions": 0}, r"expected model\.regions of at least 1, got 0"),
        ({"order": "size"}, "got 'size'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        published.build(RRT, **{"heads": 2, **options})
