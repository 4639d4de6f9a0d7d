from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

import reference
from milforge.data import Bag, BagBatch, collate_bags
from milforge.models import BagNetwork, BagOutput
from milforge.nn import (
    AttentionPool,
    IdentityEncoder,
    LeNetEncoder,
    MaxPool,
    MeanPool,
    MLPEncoder,
    SmAttentionPool,
)

ENCODERS = {
    "identity": (IdentityEncoder, (12,)),
    "mlp": (partial(MLPEncoder, hidden=(9, 7)), (1, 8, 8)),
    "lenet": (LeNetEncoder, (1, 16, 16)),
}
POOLS = {
    "mean": MeanPool,
    "max": MaxPool,
    "attention": lambda: partial(AttentionPool, att_dim=6),
    "gated": lambda: partial(AttentionPool, att_dim=6, gated=True),
    "lazy": lambda: AttentionPool(att_dim=6, gated=True),
}


def make_network(encoder="mlp", pool="gated", num_outputs=1, **options):
    torch.manual_seed(0)
    build, shape = ENCODERS[encoder]
    return BagNetwork(shape, num_outputs, encoder=build, pool=POOLS[pool](), **options)


def make_batch(encoder="mlp", sizes=(3, 5, 2)):
    shape = ENCODERS[encoder][1]
    generator = torch.Generator().manual_seed(1)
    return collate_bags([Bag(torch.randn(n, *shape, generator=generator)) for n in sizes])


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("num_outputs", [1, 2, 4])
def test_outputs_and_gradients(encoder, pool, num_outputs):
    network = make_network(encoder, pool, num_outputs)
    out = network(make_batch(encoder))
    assert isinstance(out, BagOutput)
    assert out.logits.shape == (3, num_outputs)
    assert (out.auxiliary, out.details, network.logged) == ((), {}, ())
    assert out.penalty is None
    if pool in ("mean", "max"):
        assert out.scores is None
    else:
        assert out.scores.shape == (10,)
    out.logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("gated", [False, True])
def test_it_is_encoder_then_pool_then_head(gated):
    network = make_network("identity", "gated" if gated else "attention", 3).double()
    x, ptr = reference.make_bags((3, 0, 4), 12)
    out = network(BagBatch(x, ptr, None, None, None, None, ["", "", ""]))
    pool = network.pool
    parts = [pool.fc1.weight, pool.fc1.bias, pool.fc2.weight]
    parts += [pool.fc_gated.weight, pool.fc_gated.bias] if gated else []
    f = reference.attention_scores(x, *parts)
    z = reference.attention_pool(x, f, ptr)
    assert_close(out.scores, f)
    assert_close(out.logits, z @ network.head.weight.T + network.head.bias)


@pytest.mark.parametrize("pool", POOLS)
def test_a_bag_does_not_feel_the_others(pool):
    network = make_network("mlp", pool, 2, dropout=0.5).eval()
    batch = make_batch("mlp", (3, 1, 5))
    ends = batch.ptr.tolist()
    alone = [
        network(collate_bags([Bag(batch.x[start:stop])])).logits for start, stop in pairwise(ends)
    ]
    assert_close(network(batch).logits, torch.cat(alone))


def test_dropout_acts_on_pooled_bags_while_training():
    network = make_network("mlp", "gated", 1, dropout=0.5)
    batch = make_batch("mlp", (3,) * 20)
    first, second = network(batch), network(batch)
    assert not torch.equal(first.logits, second.logits)
    assert torch.equal(first.scores, second.scores)
    network.eval()
    assert torch.equal(network(batch).logits, network(batch).logits)


@pytest.mark.parametrize("pool", ["attention", "gated", "lazy"])
def test_penalty_is_of_the_kernels_of_the_pool(pool):
    network = make_network("mlp", pool, attention_l2=0.01)
    penalty = network(make_batch()).penalty
    layers = [network.pool.fc1, network.pool.fc2]
    layers += [] if pool == "attention" else [network.pool.fc_gated]
    expected = sum(float(layer.weight.detach().double().square().sum()) for layer in layers)
    assert penalty.shape == ()
    assert float(penalty.detach()) == pytest.approx(0.01 * expected)
    penalty.backward()
    kernels = {id(layer.weight) for layer in layers}
    for name, parameter in network.named_parameters():
        if id(parameter) in kernels:
            assert_close(parameter.grad, 0.02 * parameter.detach(), msg=name)
        else:
            assert parameter.grad is None, name


def test_penalty_of_a_pool_without_parameters_is_zero():
    penalty = make_network("mlp", "mean", attention_l2=0.01)(make_batch()).penalty
    assert penalty.item() == 0


def test_state_dict_round_trip():
    network, twin = make_network(num_outputs=3), make_network(num_outputs=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    batch = make_batch()
    assert not torch.equal(twin(batch).logits, network(batch).logits)
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin(batch).logits, network(batch).logits)


@pytest.mark.parametrize(
    ("encoder", "shape", "message"),
    [
        (IdentityEncoder, (1, 8, 8), r"feature vectors, got instances of shape \(1, 8, 8\)"),
        (LeNetEncoder, (64,), r"images of shape .* got instances of shape \(64,\)"),
        (LeNetEncoder, (1, 8, 8), r"at least 16, got instances of shape \(1, 8, 8\)"),
    ],
)
def test_an_encoder_that_does_not_fit_the_data_is_refused(encoder, shape, message):
    with pytest.raises(ValueError, match=message):
        BagNetwork(shape, 1, encoder=encoder, pool=MeanPool())


@pytest.mark.parametrize("pool", ["mean", "attention"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 5), r"of shape \(12,\), for which the network was built, got \(5,\)"),
        (torch.zeros(3, 12, 1), r"got \(12, 1\)"),
        ({"b": torch.zeros(3, 12), "a": torch.zeros(3, 2)}, r"got the streams \['a', 'b'\]"),
    ],
)
def test_instances_of_another_shape_are_refused(pool, x, message):
    with pytest.raises(ValueError, match=message):
        make_network("identity", pool)(collate_bags([Bag(x)]))


def test_a_pool_of_another_width_is_refused():
    network = BagNetwork((12,), 1, encoder=IdentityEncoder, pool=AttentionPool(7))
    with pytest.raises(ValueError, match=r"of 7 features \(in_dim\), got 12"):
        network(make_batch("identity"))


@pytest.mark.parametrize("where", ["early", "mid", "late", "none"])
def test_a_pool_that_smooths_is_given_the_adjacency(where):
    torch.manual_seed(0)
    pool = partial(SmAttentionPool, sm_where=where, sm_steps=3)
    network = BagNetwork((12,), 1, encoder=IdentityEncoder, pool=pool).double()
    assert network.needs_adjacency
    x, ptr = reference.make_bags((3, 1, 4), 12)
    adj = reference.make_graph((3, 1, 4)).to_sparse_csr()
    out = network(BagBatch(x, ptr, adj, None, None, None, ["", "", ""]))
    z, f = network.pool(x, adj, ptr=ptr, return_att=True)
    assert_close(out.scores, f)
    assert_close(out.logits, network.head(z))


def test_a_pool_that_smooths_needs_an_adjacency():
    network = BagNetwork((12,), 1, encoder=IdentityEncoder, pool=SmAttentionPool(12))
    with pytest.raises(ValueError, match="bags with an adjacency for SmAttentionPool, got none"):
        network(make_batch("identity"))
    assert not make_network("identity").needs_adjacency


def with_covariates(batch, covariates):
    return replace(batch, covariates=torch.as_tensor(covariates))


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("num_outputs", [1, 3])
def test_covariates_stand_beside_the_pooled_bag(pool, num_outputs):
    """The head is linear: they add a term of their own to the logits."""
    network = make_network("mlp", pool, num_outputs, covariates=True, num_covariates=2).eval()
    batch, covariates = make_batch(), torch.tensor([[1.0, 2.0], [0.0, 0.0], [-3.0, 0.5]])
    out = network(with_covariates(batch, covariates))
    without = network(with_covariates(batch, torch.zeros(3, 2)))
    weight = network.head.weight[:, -2:]
    assert network.head.weight.shape == (num_outputs, 7 + 2)
    assert_close(out.logits, without.logits + covariates @ weight.T)
    if out.scores is not None:
        assert torch.equal(out.scores, without.scores)  # nothing else sees them
    out.logits.square().sum().backward()
    assert network.head.weight.grad[:, -2:].any()


@pytest.mark.parametrize("pool", POOLS)
def test_a_bag_with_covariates_does_not_feel_the_others(pool):
    network = make_network("mlp", pool, 2, covariates=True, num_covariates=3).eval()
    generator = torch.Generator().manual_seed(4)
    batch = with_covariates(make_batch("mlp", (3, 1, 5)), torch.randn(3, 3, generator=generator))
    bags = [
        Bag(batch.x[start:stop], covariates=batch.covariates[b])
        for b, (start, stop) in enumerate(pairwise(batch.ptr.tolist()))
    ]
    together = network(batch).logits
    assert_close(together, torch.cat([network(collate_bags([bag])).logits for bag in bags]))
    # Nor does their order count, nor that of the instances.
    assert_close(network(collate_bags(bags[::-1])).logits, together.flip(0))
    turned = [Bag(bag.x.flip(0), covariates=bag.covariates) for bag in bags]
    assert_close(network(collate_bags(turned)).logits, together)


def test_padded_bags_with_covariates_give_the_same():
    network = make_network("mlp", "gated", 2, covariates=True, num_covariates=1).eval()
    batch = with_covariates(make_batch(), [[1.0], [2.0], [3.0]])
    x, mask, _ = batch.padded()
    x[~mask] = torch.nan
    encoded = network.encoder(x.flatten(0, 1)).unflatten(0, mask.shape)
    z = torch.cat([network.pool(encoded, mask), batch.covariates], dim=1)
    assert_close(network.head(z), network(batch).logits)


def test_dropout_spares_the_covariates():
    network = make_network("mlp", "mean", 1, dropout=0.999, covariates=True, num_covariates=1)
    with torch.no_grad():
        network.head.weight[:, :-1] = 0
    batch = with_covariates(make_batch("mlp", (1,) * 50), torch.ones(50, 1))
    expected = network.head.weight[0, -1] + network.head.bias[0]
    assert_close(network.train()(batch).logits, expected.expand(50, 1))


def test_covariates_under_autocast_and_without_bags():
    network = make_network("mlp", "gated", 1, covariates=True, num_covariates=2)
    batch = with_covariates(make_batch(), torch.ones(3, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert network(batch).logits.isfinite().all()
    none = network(batch.without_bags()).logits
    assert none.shape == (0, 1)
    none.sum().backward()
    assert not network.head.weight.grad.any()


def test_covariates_that_were_not_asked_for_do_not_count():
    network, batch = make_network("mlp", "gated", 1, num_covariates=2).eval(), make_batch()
    assert network.head.in_features == 7
    assert torch.equal(
        network(with_covariates(batch, torch.ones(3, 2))).logits, network(batch).logits
    )


def test_a_head_that_is_to_see_covariates_needs_some():
    with pytest.raises(
        ValueError, match=r"model\.covariates=true, got none: give data\.covariates"
    ):
        make_network(covariates=True)


@pytest.mark.parametrize(("covariates", "got"), [(None, "none"), (torch.zeros(3, 1), "1")])
def test_bags_with_other_covariates_are_refused(covariates, got):
    network = make_network("mlp", "mean", covariates=True, num_covariates=2)
    message = f"bags with 2 covariates, for which the network was built, got {got}$"
    with pytest.raises(ValueError, match=message):
        network(replace(make_batch(), covariates=covariates))
