import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

import published
from milforge.models import DSMIL


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("nonlinear", [False, True])
@pytest.mark.parametrize("project", [False, True])
def test_it_is_the_dual_stream_of_the_paper(outputs, nonlinear, project):
    options = {"nonlinear_query": nonlinear, "project_values": project}
    network = published.build(DSMIL, outputs, query_dim=5, **options)
    batch = published.batch_of()
    output = network(batch)
    logits, largest, scores = [], [], []
    for x in published.bags_of(batch):
        c = published.affine(network.instance_head, x)
        q = published.affine(network.query[0], x)
        if nonlinear:
            q = published.affine(network.query[2], q.clamp(min=0)).tanh()
        v = published.affine(network.value[1], x).clamp(min=0) if project else x
        table, rows = [], []
        for k in range(outputs):
            critical = max(range(len(x)), key=lambda i: c[i, k].item())
            rows.append(torch.stack([q[i] @ q[critical] / math.sqrt(5) for i in range(len(x))]))
            table.append(published.pooled(v, published.softmax(rows[-1])))
        kernel = network.head.weight.reshape(outputs, outputs, -1)
        out = F.conv1d(torch.stack(table)[None], kernel, network.head.bias)
        logits.append(out[0, :, 0])
        largest.append(torch.stack([max(c[:, k]) for k in range(outputs)]))
        scores.append(torch.stack(rows, dim=1))
    assert_close(output.logits, torch.stack(logits), rtol=1e-5, atol=1e-9)
    assert_close(output.scores, torch.cat(scores), rtol=1e-5, atol=1e-9)
    (auxiliary,) = output.auxiliary
    assert_close(auxiliary.logits, torch.stack(largest), rtol=1e-5, atol=1e-9)
    assert auxiliary.bag.tolist() == list(range(len(batch)))
    assert (auxiliary.weight, network.loss_weight) == (0.5, 0.5)
