"""Laws of every model in configs/model, one of a fork's own included: it is in it by being there.

A model that depends on the order of the instances says so by `permutation = "order"`, one that
draws at random for each of them by `permutation = "random"`.
"""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import jaxtyping
import pytest
import torch
from omegaconf import OmegaConf
from torch.testing import assert_close

from every_model import MODELS, SIZES, WIDTH, config_of, make_bags, make_network
from every_task import KINDS, make_task, num_outputs
from milforge.api.build import build_network
from milforge.data import Bag, collate_bags
from milforge.functional import segment_softmax, segment_sum
from milforge.training.loss.step_loss import auxiliary_loss, bag_losses

# Several targets are grades, classes, numbers and times at once; the others wait for the night.
AT_ONCE = ("binary", "multiclass", "multi")
EACH_KIND = pytest.mark.parametrize(
    "kind",
    [kind if kind in AT_ONCE else pytest.param(kind, marks=pytest.mark.nightly) for kind in KINDS],
)


EACH_MODEL = pytest.mark.parametrize("model", MODELS)


def batch_of(bags):
    batch = collate_bags(bags)
    names = [int(name) + 1 for name in batch.bag_id]
    return replace(batch, seeds=torch.tensor(names, dtype=torch.int64) * 7919)


def step_losses(network, batch, task):
    """`(B,)`, all that a training step adds up over the bags."""
    output = network(batch)
    target = task.target(batch.y)
    losses = bag_losses(task.loss, task, output.logits, target)
    losses = losses * getattr(network, "loss_weight", 1.0)
    added = auxiliary_loss(network, task, task.loss, batch, output, target)
    losses = losses if added is None else losses + added
    # A mean over the bags, so that those of single bags sum to B times it.
    penalty = 0.0 if output.penalty is None else output.penalty
    return losses.sum() + penalty * len(batch)


def gradients(network):
    return {
        name: each.grad.clone()
        for name, each in network.named_parameters()
        if each.grad is not None
    }


@EACH_MODEL
def test_a_bag_does_not_feel_the_others(model):
    """In evaluation."""
    network, bags = make_network(model, 3).eval(), make_bags()
    together = network(batch_of(bags))
    alone = [network(batch_of([bag])) for bag in bags]
    assert_close(together.logits, torch.cat([each.logits for each in alone]))
    if together.scores is not None:
        assert_close(together.scores, torch.cat([each.scores for each in alone]))
    order = [3, 7, 0, 1, 6, 5, 4, 2]
    turned = network(batch_of([bags[i] for i in order]))
    assert_close(turned.logits, together.logits[order])


@EACH_MODEL
def test_a_bag_without_instances_is_predicted_and_not_felt(model):
    """Files of such bags are refused; bags of a data set of one's own may be."""
    network, bags = make_network(model, 3).eval(), make_bags((9, 4))
    with torch.no_grad():
        expected = network(batch_of(bags)).logits
        nothing = torch.zeros(0, 0, dtype=torch.float64).to_sparse_csr()
        first = bags[0]
        empty = Bag(first.x[:0], first.y, nothing, first.coords[:0], bag_id="2")
        for among in ([empty, *bags], [bags[0], empty, bags[1]], [*bags, empty]):
            logits = network(batch_of(among)).logits
            assert logits.isfinite().all()
            assert_close(logits[[i for i, bag in enumerate(among) if bag is not empty]], expected)
        assert_close(network(batch_of([empty])).logits, logits[-1:])
    step = make_network(model, 3).train()
    loss = step_losses(
        step, batch_of([replace(empty, y=torch.tensor(2))]), make_task("multiclass")[0]
    )
    loss.backward()
    assert loss.isfinite()


@EACH_MODEL
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_nor_does_its_gradient_in_training(model, kind):
    """All that is lost, and every gradient, is the sum of those of the bags alone."""
    bags = make_bags(kind=kind)
    together, alone = make_network(model, num_outputs(kind)), make_network(model, num_outputs(kind))
    task, _ = make_task(kind)
    loss = step_losses(together, batch_of(bags), task)
    loss.backward()
    total = 0.0
    for bag in bags:
        # A new one, because some remember a step: what each does is that of the first.
        each = make_network(model, num_outputs(kind))
        part = step_losses(each, batch_of([bag]), task)
        part.backward()
        total = total + part.detach()
        for mine, its in zip(alone.parameters(), each.parameters(), strict=True):
            if its.grad is not None:
                mine.grad = its.grad if mine.grad is None else mine.grad + its.grad
    assert_close(loss.detach(), total)
    found, expected = gradients(together), gradients(alone)
    assert found.keys() == expected.keys()
    for name in found:
        assert_close(found[name], expected[name], rtol=1e-6, atol=1e-9, msg=name)


def permuted(bag, order):
    adj = bag.adj.to_dense()[order][:, order].to_sparse_csr()
    return Bag(bag.x[order], bag.y, adj, bag.coords[order], bag_id=bag.bag_id)


@EACH_MODEL
def test_it_keeps_the_permutation_law_that_it_declares(model):
    """With adjacency and coords permuted alike. A small bag may be in one order whatever it is."""
    network, bags = make_network(model, 3).eval(), make_bags((*SIZES, 90))
    generator = torch.Generator().manual_seed(2)
    orders = [torch.randperm(len(bag), generator=generator) for bag in bags]
    turned = [permuted(bag, order) for bag, order in zip(bags, orders, strict=True)]
    before, after = network(batch_of(bags)), network(batch_of(turned))
    law = getattr(network, "permutation", "invariant")
    if law == "invariant":
        assert_close(after.logits, before.logits)
        if before.scores is not None:
            bounds = collate_bags(bags).ptr.tolist()
            parts = [before.scores[i:j] for i, j in pairwise(bounds)]
            expected = [part[order] for part, order in zip(parts, orders, strict=True)]
            assert_close(after.scores, torch.cat(expected))
    else:
        assert law in ("order", "random")
        assert not torch.allclose(after.logits, before.logits)


@EACH_MODEL
@EACH_KIND
def test_every_task_teaches_every_parameter(model, kind):
    """Or training on several processes waits for it; in small bags alone, too."""
    for sizes in (SIZES, (1,)):
        network, (task, _) = make_network(model, num_outputs(kind)).train(), make_task(kind)
        loss = step_losses(network, batch_of(make_bags(sizes, kind=kind)), task)
        loss.backward()
        assert loss.isfinite()
        for name, parameter in (*network.named_parameters(), *task.named_parameters()):
            if parameter.requires_grad:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name


@EACH_MODEL
def test_covariates_are_seen_by_the_logits_of_their_own_bag(model):
    """Where it has the option; every parameter still has a gradient."""
    config = config_of(model).model
    if "covariates" not in config:
        return
    config = OmegaConf.merge(config_of(model), {"model": {"covariates": True}})
    torch.manual_seed(0)
    network = build_network(config, (WIDTH,), 1, 3).double()
    batch, table = batch_of(make_bags()), torch.zeros(len(SIZES), 3, dtype=torch.float64)
    with_none = network.eval()(replace(batch, covariates=table)).logits
    table[2] = torch.tensor([1.0, -2.0, 0.5])
    seen = network(replace(batch, covariates=table)).logits
    others = [b for b in range(len(SIZES)) if b != 2]
    assert_close(seen[others], with_none[others])
    assert ((seen - with_none)[2].abs() > 1e-4).all()
    assert network.contributions(replace(batch, covariates=table)) is None
    with pytest.raises(ValueError, match=r"expected bags with 3 covariates.* got none"):
        network(batch)
    task, _ = make_task("binary")
    step_losses(network.train(), replace(batch, covariates=table), task).backward()
    missing = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing


@EACH_MODEL
@EACH_KIND
def test_every_task_predicts_by_it(model, kind):
    network, (task, _) = make_network(model, num_outputs(kind)).eval(), make_task(kind)
    logits = network(batch_of(make_bags(kind=kind))).logits
    columns = task.predict(logits)
    assert columns
    for name, values in columns.items():
        assert len(values) == len(SIZES)
        assert not values.isinf().any(), name
        assert "median_time" in name or not values.isnan().any(), name


@EACH_MODEL
def test_evaluation_draws_nothing(model):
    network = make_network(model).eval()
    bags = make_bags()
    assert torch.equal(network(batch_of(bags)).logits, network(batch_of(bags)).logits)
    unseeded = collate_bags(bags)
    assert torch.equal(network(unseeded).logits, network(unseeded).logits)


@EACH_MODEL
@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_a_batch_of_no_bags_is_lossless(model, kind):
    """It is the share of a process that has no bag in a step."""
    network = make_network(model, num_outputs(kind)).train()
    bags = make_bags((5,), kind=kind)
    batch = replace(collate_bags(bags).without_bags(), seeds=torch.zeros(0, dtype=torch.int64))
    output = network(batch)
    assert output.logits.shape == (0, num_outputs(kind))
    loss = step_losses(network, batch, make_task(kind)[0])
    assert loss == 0
    loss.backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name


@EACH_MODEL
def test_shapes_dtypes_and_half_precision(model):
    network = make_network(model, 3)
    output = network.eval()(batch_of(make_bags()))
    assert output.logits.dtype == torch.float64
    assert output.scores is None or len(output.scores) == sum(SIZES)
    network, batch = network.float().train(), batch_of(make_bags(dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        output = network(batch)
        assert output.logits.shape == (len(SIZES), 3)
        (output.logits.float().sum() + (output.penalty or 0.0)).backward()
    assert output.logits.isfinite().all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    half = network.eval()(batch).logits
    assert_close(
        half.double(),
        make_network(model, 3).eval()(batch_of(make_bags())).logits,
        rtol=1e-3,
        atol=1e-4,
    )


@EACH_MODEL
def test_attention_scores_are_of_the_instances_and_finite_where_not_hidden(model):
    network = make_network(model, 3).eval()
    batch = batch_of(make_bags())
    scores = network(batch).scores
    if scores is None:
        return
    assert not scores.isnan().any()
    table = scores.reshape(len(scores), -1)
    weights = torch.stack([segment_softmax(each, batch.ptr) for each in table.unbind(1)], 1)
    assert_close(segment_sum(weights, batch.ptr), torch.ones(len(batch), table.shape[1]).double())


@EACH_MODEL
@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_contributions_sum_to_the_logits(model, kind):
    """Where it has any. They are made of the attention that is returned, and of nothing else."""
    network, batch = make_network(model, num_outputs(kind)).eval(), batch_of(make_bags(kind=kind))
    if not hasattr(network, "contributions"):
        return
    each = network.contributions(batch)
    if each is None:  # it has them with other options
        return
    assert each.shape == (sum(SIZES), num_outputs(kind))
    size = segment_sum(each.abs(), batch.ptr)
    error = segment_sum(each, batch.ptr) + network.offset - network(batch).logits
    assert (error.abs() <= 1e-6 * size).all()


@pytest.fixture
def unchecked_shapes():
    """Shapes are checked in tests alone, by code that cannot be compiled."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


# Of the compiler itself: it asks for gradients between graphs, and makes an autograd function.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated")
@pytest.mark.nightly
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("model", ["gated_abmil", "clam_mb"])
def test_a_compiled_network_is_the_same(model):
    """As `compile=true` does it, of bags of other sizes too."""
    network, (task, _) = make_network(model, 3), make_task("multiclass")
    compiled = deepcopy(network)
    compiled.compile(dynamic=True, backend="aot_eager")
    for sizes in (SIZES, (4, 12)):
        batch = batch_of(make_bags(sizes, kind="multiclass"))
        for each in (network, compiled):
            each.zero_grad()
            step_losses(each, batch, task).backward()
        assert_close(compiled(batch).logits, network(batch).logits)
        found, expected = gradients(compiled), gradients(network)
        assert found.keys() == expected.keys()
        for name in found:
            assert_close(found[name], expected[name], msg=name)
