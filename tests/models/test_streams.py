"""Networks of bags with several streams of features."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import reference
from milforge.data import Bag, BagBatch, collate_bags
from milforge.functional import segment_softmax
from milforge.models import BagNetwork
from milforge.models.feature_network import entropy_penalty
from milforge.models.streams import mean_attention
from milforge.nn import (
    AttentionPool,
    ConcatStreams,
    IdentityEncoder,
    LeNetEncoder,
    MaxPool,
    MeanPool,
    MLPEncoder,
    SmAttentionPool,
    StreamFusion,
)

SHAPES = {"uni": (5,), "conch_v1.5": (3,), "image": (1, 2, 2)}
NAMES = ["conch_v1.5", "image", "uni"]
WEIGHTS = ("weight_conch_v1.5", "weight_image", "weight_uni")
MODES = ["scalar", "convex", "elementwise", "adaptive", "attention"]
FUSIONS = {mode: partial(StreamFusion, dim=6, mode=mode) for mode in MODES}
FUSIONS["concat"] = ConcatStreams
POOLS = {
    "mean": MeanPool(),
    "max": MaxPool(),
    "gated": partial(AttentionPool, att_dim=4, gated=True),
    "smooth": partial(SmAttentionPool, att_dim=4, sm_steps=3),
}

fusions = pytest.mark.parametrize("fusion", FUSIONS)
levels = pytest.mark.parametrize("fuse", ["instances", "bags"])


def make_network(fusion="adaptive", fuse="instances", pool="gated", outputs=1, **options):
    """In float64, with every parameter drawn at random, the ones that start at a constant too."""
    options = {"encoder": partial(MLPEncoder, hidden=(7, 4)), **options}
    torch.manual_seed(0)
    network = BagNetwork(
        SHAPES, outputs, pool=POOLS[pool], fusion=FUSIONS[fusion], fuse=fuse, **options
    ).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.5)
    return network.eval()


def make_bags(sizes=(3, 5, 2), seed=1):
    generator = torch.Generator().manual_seed(seed)
    bags = []
    for number, size in enumerate(sizes):
        x = {
            name: torch.randn(size, *shape, generator=generator, dtype=torch.float64)
            for name, shape in SHAPES.items()
        }
        adj = reference.make_graph((size,), seed=number).to_sparse_csr()
        bags.append(Bag(x, adj=adj, bag_id=str(number)))
    return bags


def assert_same(first, second):
    for a, b in zip(first[:2], second[:2], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b)
    assert first.details.keys() == second.details.keys()
    for name in first.details:
        assert_close(first.details[name], second.details[name])


def cat_outputs(outputs):
    logits = torch.cat([out.logits for out in outputs])
    scores = None if outputs[0].scores is None else torch.cat([out.scores for out in outputs])
    details = {n: torch.cat([out.details[n] for out in outputs]) for n in outputs[0].details}
    return outputs[0]._replace(logits=logits, scores=scores, details=details)


@levels
@fusions
@pytest.mark.parametrize("pool", POOLS)
def test_outputs_gradients_and_batch_invariance(fusion, fuse, pool):
    network = make_network(fusion, fuse, pool, outputs=3)
    bags = make_bags()
    out = network(collate_bags(bags))
    assert out.logits.shape == (3, 3)
    assert (out.scores is None) == (pool in ("mean", "max"))
    assert out.scores is None or out.scores.shape == (10,)
    if fusion == "concat":
        assert (out.details, network.logged) == ({}, ())
    else:
        assert tuple(out.details) == network.logged == WEIGHTS
        assert all(w.shape == (3,) for w in out.details.values())
        assert not any(w.requires_grad for w in out.details.values())
    assert_same(cat_outputs([network(collate_bags([bag])) for bag in bags]), out)
    out.logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    # Of each stream, not of the first alone.
    for name in NAMES:
        assert all(p.grad.any() for p in network.encoder[name].parameters())


@levels
@given(fusion=st.sampled_from(list(FUSIONS)), seed=st.integers(0, 2**20))
def test_neither_the_order_of_instances_nor_that_of_streams_counts(fuse, fusion, seed):
    network = make_network(fusion, fuse)
    (bag,) = make_bags((6,), seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    shuffled = Bag({name: bag.x[name][order] for name in reversed(bag.x)})
    first, second = (network(collate_bags([each])) for each in (Bag(bag.x), shuffled))
    assert_same(second, first._replace(scores=first.scores[order]))


@levels
@fusions
@pytest.mark.parametrize("pool", ["mean", "max", "gated"])
def test_what_stands_in_the_padding_does_not_matter(fusion, fuse, pool):
    network = make_network(fusion, fuse, pool)
    batch = collate_bags(make_bags())
    padded, mask, _ = batch.padded()
    encoded = []
    for name in NAMES:
        padded[name][~mask] = torch.nan
        encoded.append(network.encoder[name](padded[name].flatten(0, 1)).unflatten(0, mask.shape))
    if fuse == "bags":
        z = network.fusion([network.pool[n](x, mask) for n, x in zip(NAMES, encoded, strict=True)])
    else:
        z = network.pool(network.fusion(encoded), mask)
    assert_close(network.head(z), network(batch).logits)


@fusions
@pytest.mark.parametrize("encoder", [IdentityEncoder, partial(MLPEncoder, hidden=(4,))])
def test_at_the_level_of_instances_it_is_encode_fuse_pool_classify(fusion, encoder):
    shapes = {"b": (5,), "a.1": (3,)}
    network = BagNetwork(
        shapes, 2, encoder=encoder, pool=POOLS["gated"], fusion=FUSIONS[fusion]
    ).double()
    x = {n: reference.make_bags((3, 4), *shape)[0] for n, shape in shapes.items()}
    ptr = torch.tensor([0, 3, 7])
    out = network(BagBatch(x, ptr, None, None, None, None, ["", ""]))
    fused = network.fusion([network.encoder[name](x[name]) for name in ("a.1", "b")])
    z, f = network.pool(fused, ptr=ptr, return_att=True)
    assert_close(out.logits, network.head(z))
    assert_close(out.scores, f)


@fusions
@pytest.mark.parametrize("pool", ["gated", "smooth"])
def test_at_the_level_of_bags_every_stream_is_pooled_by_itself(fusion, pool):
    network = make_network(fusion, "bags", pool)
    batch = collate_bags(make_bags())
    out = network(batch)
    options = {"adj": batch.adj} if pool == "smooth" else {}
    pooled = []
    for name in NAMES:
        x = network.encoder[name](batch.x[name])
        pooled.append(network.pool[name](x, ptr=batch.ptr, return_att=True, **options))
    assert_close(out.logits, network.head(network.fusion([z for z, _ in pooled])))
    each = [reference.segment_softmax(f, batch.ptr) for _, f in pooled]
    # What figures and tables show is the mean over the streams.
    assert_close(reference.segment_softmax(out.scores, batch.ptr), sum(each) / 3)
    assert not torch.equal(pooled[0][1], pooled[1][1])


@levels
@pytest.mark.parametrize("mode", MODES)
def test_stream_weights_are_means_over_channels_and_instances(mode, fuse):
    network = make_network(mode, fuse)
    batch = collate_bags(make_bags())
    told = network(batch).details
    for b, (start, stop) in enumerate([(0, 3), (3, 8), (8, 10)]):
        x = [network.encoder[name](batch.x[name][start:stop]) for name in NAMES]
        if fuse == "bags":
            ptr = torch.tensor([0, stop - start])
            x = [network.pool[n](each, ptr=ptr) for n, each in zip(NAMES, x, strict=True)]
        _, weights = network.fusion(x, return_weights=True)
        for s, name in enumerate(NAMES):
            numbers = weights[s].flatten().tolist()
            assert float(told[f"weight_{name}"][b]) == pytest.approx(sum(numbers) / len(numbers))


@levels
@pytest.mark.parametrize("mode", ["convex", "attention"])
def test_stream_weights_that_sum_to_one_do_so_in_every_bag(mode, fuse):
    told = make_network(mode, fuse)(collate_bags(make_bags())).details
    assert_close(sum(told.values()), torch.ones(3, dtype=torch.float64))


@levels
@fusions
def test_a_batch_of_no_bags_has_a_loss_of_zero(fusion, fuse):
    """The share of a process that has no bag in a step."""
    network = make_network(fusion, fuse)
    out = network(collate_bags(make_bags()).without_bags())
    assert out.logits.shape == (0, 1)
    assert all(w.shape == (0,) for w in out.details.values())
    out.logits.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())


@levels
def test_every_pooling_has_weights_of_its_own_and_all_are_penalised(fuse):
    network = make_network("scalar", fuse, attention_l2=0.01)
    kernels = [p for p in network.pool.parameters() if p.ndim > 1]
    assert len(kernels) == (9 if fuse == "bags" else 3)
    penalty = network(collate_bags(make_bags())).penalty
    expected = 0.01 * sum(float(p.detach().square().sum()) for p in kernels)
    assert float(penalty.detach()) == pytest.approx(expected)


def test_a_pooling_module_is_copied_for_each_stream():
    pool = AttentionPool(4, att_dim=3)
    options = {"encoder": partial(MLPEncoder, hidden=(4,)), "fusion": FUSIONS["scalar"]}
    network = BagNetwork(SHAPES, 1, pool=pool, fuse="bags", **options)
    parameters = {id(p) for name in NAMES for p in network.pool[name].parameters()}
    assert len(parameters) == 9
    lazy = BagNetwork(SHAPES, 1, pool=AttentionPool(att_dim=3), fuse="bags", **options)
    batch = collate_bags([Bag({n: x.float() for n, x in b.x.items()}) for b in make_bags()])
    assert lazy(batch).logits.shape == (3, 1)


def test_state_dicts_load_with_the_streams_in_any_order():
    network = make_network()
    options = {"encoder": partial(MLPEncoder, hidden=(7, 4)), "pool": POOLS["gated"]}
    shapes = dict(reversed(SHAPES.items()))
    twin = BagNetwork(shapes, 1, fusion=FUSIONS["adaptive"], **options).double()
    twin.load_state_dict(network.state_dict())
    batch = collate_bags(make_bags())
    assert_same(twin(batch), network(batch))


def test_with_one_stream_nothing_is_fused():
    def refuse(in_dims):
        raise AssertionError("built")

    options = {"encoder": partial(MLPEncoder, hidden=(4,)), "pool": POOLS["gated"]}
    plain = {}
    for key, fusion in (("without", None), ("with", refuse)):
        torch.manual_seed(3)
        plain[key] = BagNetwork((5,), 1, fusion=fusion, fuse="bags", **options)
    assert plain["with"].logged == ()
    keys = ["encoder.1", "pool.fc1", "pool.fc_gated", "pool.fc2", "head"]
    weights = plain["with"].state_dict()
    assert list(dict.fromkeys(name.rpartition(".")[0] for name in weights)) == keys
    assert all(torch.equal(weights[k], v) for k, v in plain["without"].state_dict().items())
    torch.manual_seed(3)
    named = BagNetwork({"uni": (5,)}, 1, fusion=refuse, fuse="bags", **options)
    x = torch.randn(4, 5)
    first = plain["with"](collate_bags([Bag(x)]))
    second = named(collate_bags([Bag({"uni": x})]))
    assert_same(first, second)
    assert first.details == {}


class OwnFusion(nn.Module):
    """The fusion of a user, which need not give weights."""

    def __init__(self, in_dims):
        super().__init__()
        self.dim = in_dims[0]

    def forward(self, streams):
        return sum(streams)


@levels
def test_a_fusion_need_not_tell_its_weights(fuse):
    options = {"encoder": partial(MLPEncoder, hidden=(4,)), "pool": POOLS["gated"]}
    network = BagNetwork(SHAPES, 1, fusion=OwnFusion, fuse=fuse, **options).double()
    assert network.logged == ()
    assert network(collate_bags(make_bags())).details == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"fusion": None},
            r"^expected model/fusion, such as model/fusion=adaptive, for the streams "
            r"\['conch_v1.5', 'image', 'uni'\], got none; choose one, or read one stream by",
        ),
        ({"fuse": "bag"}, r"^expected model.fuse to be one of \('instances', 'bags'\), got 'bag'"),
        ({"encoder": LeNetEncoder}, r"^stream 'conch_v1.5': expected images"),
        ({"encoder": IdentityEncoder}, r"^stream 'image': expected feature vectors"),
    ],
)
def test_what_cannot_be_built_is_told(options, message):
    defaults = {"encoder": MLPEncoder, "pool": MeanPool(), "fusion": FUSIONS["scalar"]}
    with pytest.raises(ValueError, match=message) as caught:
        BagNetwork(SHAPES, 1, **{**defaults, **options})
    assert "\n" not in str(caught.value)


@levels
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 5), r"expected the streams .*'uni'\], .* of instances of shape \(5,\)$"),
        ({"uni": torch.zeros(3, 5)}, r"for which the network was built, got \['uni'\]"),
        (
            {n: torch.zeros(3, *shape, 1) for n, shape in SHAPES.items()},
            r"shape \(3,\) in stream 'conch_v1.5', for which the network was built, got \(3, 1\)",
        ),
    ],
)
def test_other_streams_are_refused(x, message, fuse):
    with pytest.raises(ValueError, match=message):
        make_network("scalar", fuse)(collate_bags([Bag(x)]))


@levels
def test_autocast_gives_weights_of_at_least_float32(fuse):
    network = make_network("adaptive", fuse).float()
    batch = collate_bags([Bag({n: x.float() for n, x in b.x.items()}) for b in make_bags()])
    with torch.autocast("cpu", torch.bfloat16):
        out = network(batch)
    for name, weights in network(batch).details.items():
        assert out.details[name].dtype == torch.float32
        assert_close(out.details[name], weights, rtol=0.05, atol=0.02)


@levels
@fusions
def test_covariates_beside_several_streams(fusion, fuse):
    network = make_network(fusion, fuse, outputs=2, covariates=True, num_covariates=2)
    generator = torch.Generator().manual_seed(2)
    bags = [
        replace(bag, covariates=torch.randn(2, generator=generator, dtype=torch.float64))
        for bag in make_bags()
    ]
    out = network(collate_bags(bags))
    assert_same(cat_outputs([network(collate_bags([bag])) for bag in bags]), out)
    zero = [replace(bag, covariates=torch.zeros(2, dtype=torch.float64)) for bag in bags]
    added = torch.stack([bag.covariates for bag in bags]) @ network.head.weight[:, -2:].T
    assert_close(out.logits, network(collate_bags(zero)).logits + added)


def test_weights_of_nothing_in_all_streams_have_finite_gradients():
    """Scores 200 apart, whose smaller weights float32 rounds to 0."""
    scores = [torch.tensor([0.0, 200.0]).requires_grad_(), torch.tensor([3.0, 210.0])]
    ptr = torch.tensor([0, 2])
    mean = mean_attention(scores, ptr)
    assert_close(segment_softmax(mean, ptr), torch.tensor([0.0, 1.0]))
    entropy_penalty(mean, ptr, 1.0).backward()
    assert_close(scores[0].grad, torch.zeros(2))
