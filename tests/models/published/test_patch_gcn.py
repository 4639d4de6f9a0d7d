import pytest
import torch
from torch.testing import assert_close

import published
import reference
from milforge.models import PatchGCN


def layer_norm(norm, x):
    x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    return x * norm.weight + norm.bias


def convolved(convolution, x, adj):
    rows = []
    for i in range(len(x)):
        messages = [x[j].clamp(min=0) + 1e-7 for j in range(len(x)) if adj[i, j] != 0]
        near = torch.zeros_like(x[i])
        if messages:
            exps = [(convolution.beta * m).exp() for m in messages]
            near = sum(e / sum(exps) * m for e, m in zip(exps, messages, strict=True))
        first, norm, _, last = convolution.mlp
        hidden = layer_norm(norm, published.affine(first, x[i] + near)).clamp(min=0)
        rows.append(published.affine(last, hidden))
    return torch.stack(rows)


def test_neighbour_after_neighbour():
    network = published.build(PatchGCN, hidden=4, att_dim=3)
    with torch.no_grad():
        for convolution in network.convolutions:
            convolution.beta.fill_(0.7)
    adj = reference.make_graph(published.SIZES)
    batch = published.batch_of(adj=adj.to_sparse_csr())
    output, logits, scores, start = network(batch), [], [], 0
    for bag in published.bags_of(batch):
        within = slice(start, start + len(bag))
        x = published.affine(network.first[0], bag).clamp(min=0)
        said = [x]
        for i, convolution in enumerate(network.convolutions):
            out = convolved(convolution, x, adj[within, within])
            if i:
                norm = network.norms[i - 1]
                out = x + torch.stack([layer_norm(norm, row) for row in out]).clamp(min=0)
            x = out
            said.append(x)
        x = published.affine(network.phi[0], torch.cat(said, dim=1)).clamp(min=0)
        scores += published.gated(network.attention, x)
        z = published.pooled(x, published.softmax(scores[within]))
        z = published.affine(network.rho[0], z).clamp(min=0)
        logits.append(published.affine(network.head, z))
        start += len(bag)
    assert_close(output.logits, torch.stack(logits), rtol=1e-5, atol=1e-9)
    assert_close(output.scores, torch.stack(scores), rtol=1e-5, atol=1e-9)


def test_it_needs_a_graph():
    assert PatchGCN.needs_adjacency
    with pytest.raises(ValueError, match="an adjacency for PatchGCN, got none: choose graph="):
        published.build(PatchGCN)(published.batch_of())
