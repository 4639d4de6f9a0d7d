import copy
import inspect
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

import reference
from milforge.functional import segment_softmax
from milforge.nn import AttentionPool

ACTS = ["tanh", "relu", "gelu"]
WIDTH = 5

sizes = st.lists(st.integers(0, 6), min_size=1, max_size=5)
seeds = st.integers(0, 2**31)


def make_pool(in_dim=WIDTH, *, seed=0, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    return AttentionPool(in_dim, **{"att_dim": 6, **options}).to(dtype)


def parameters_of(pool):
    parts = [pool.fc1.weight, pool.fc1.bias, pool.fc2.weight]
    return parts + ([pool.fc_gated.weight, pool.fc_gated.bias] if pool.gated else [])


def oracle(pool, x, ptr):
    f = reference.attention_scores(x, *parameters_of(pool), act=pool.act)
    return reference.attention_pool(x, f, ptr), f


def described(function):
    return [
        (p.name, p.kind.name, p.default) for p in inspect.signature(function).parameters.values()
    ]


def test_signature_is_the_documented_one():
    either, keyword, required = "POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY", inspect.Parameter.empty
    assert described(AttentionPool) == [
        ("in_dim", either, None),
        ("att_dim", either, 128),
        ("act", either, "tanh"),
        ("gated", either, False),
    ]
    assert described(AttentionPool(2).forward) == [
        ("X", either, required),
        ("mask", either, None),
        ("return_att", either, False),
        ("ptr", keyword, None),
    ]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bags", [(4, 0, 3), (1,), (0,), (2, 5)])
def test_packed_and_padded_agree_with_loops(act, gated, bags):
    pool = make_pool(act=act, gated=gated)
    x, ptr = reference.make_bags(bags, WIDTH)
    X, mask = reference.pad(x, ptr)
    expected_z, expected_f = oracle(pool, x, ptr)
    z, f = pool(x, ptr=ptr, return_att=True)
    assert_close(z, expected_z)
    assert_close(f, expected_f)
    z, f = pool(X, mask, True)
    assert_close(z, expected_z)
    assert_close(f, reference.pad(expected_f, ptr, fill=-torch.inf)[0])


def test_defaults_are_plain_tanh_attention_of_width_128():
    pool = AttentionPool(3)
    shapes = {key: tuple(value.shape) for key, value in pool.state_dict().items()}
    assert shapes == {"fc1.weight": (128, 3), "fc1.bias": (128,), "fc2.weight": (1, 128)}
    x, ptr = reference.make_bags((4, 2), 3)
    z = pool(x.float(), ptr=ptr)
    expected = reference.attention_pool(
        x, reference.attention_scores(x, *parameters_of(pool), act="tanh"), ptr
    )
    assert_close(z.double(), expected, rtol=1e-5, atol=1e-6)


def test_attention_is_returned_only_on_request_and_does_not_change_z():
    pool = make_pool()
    x, _ = reference.make_bags((4, 4), WIDTH)
    X = x.reshape(2, 4, WIDTH)
    z = pool(X)
    assert isinstance(z, torch.Tensor)
    assert torch.equal(pool(X, None, True)[0], z)
    assert torch.equal(pool(X, return_att=True)[0], z)
    assert pool(X, return_att=True)[1].isfinite().all()


@given(sizes=sizes, seed=seeds, gated=st.booleans())
def test_softmax_over_the_scores_gives_the_weights(sizes, seed, gated):
    pool = make_pool(gated=gated)
    x, ptr = reference.make_bags(sizes, WIDTH, seed)
    X, mask = reference.pad(x, ptr, longest=max(sizes) + 1)
    z, f = pool(X, mask, True)
    assert torch.isneginf(f).equal(~mask)
    weights = torch.softmax(f, 1)
    for b, size in enumerate(sizes):
        if size:
            assert_close(weights[b] @ X[b], z[b])
    f = pool(x, ptr=ptr, return_att=True)[1]
    assert_close(reference.segment_weighted_sum(x, segment_softmax(f, ptr), ptr), z)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bags", [(3, 0, 2), (1, 0)])
def test_gradients(gated, bags):
    pool = make_pool(3, att_dim=2, gated=gated)
    x, ptr = reference.make_bags(bags, 3)
    X, mask = reference.pad(x, ptr)

    def pooled(form, *parameters):
        names = [name for name, _ in pool.named_parameters()]
        arguments = (form, mask) if form.ndim == 3 else (form,)
        options = {"return_att": True} | ({"ptr": ptr} if form.ndim == 2 else {})
        z, f = torch.func.functional_call(
            pool, dict(zip(names, parameters, strict=True)), arguments, options
        )
        return z, f[mask] if form.ndim == 3 else f

    for form in (x, X):
        assert gradcheck(pooled, (form.requires_grad_(), *pool.parameters()))


@given(sizes=sizes, seed=seeds, gated=st.booleans())
def test_a_bag_does_not_feel_the_others(sizes, seed, gated):
    pool = make_pool(gated=gated)
    x, ptr = reference.make_bags(sizes, WIDTH, seed)
    bags = reference.split(x, ptr)
    alone = torch.cat([pool(bag, ptr=torch.tensor([0, len(bag)])) for bag in bags])
    assert_close(pool(x, ptr=ptr), alone)
    turned = torch.tensor([0, *sizes[::-1]]).cumsum(0)
    assert_close(pool(torch.cat(bags[::-1]), ptr=turned), alone.flip(0))


@given(sizes=sizes, seed=seeds, data=st.data())
def test_the_order_of_instances_is_of_no_account(sizes, seed, data):
    pool = make_pool(gated=True)
    x, ptr = reference.make_bags(sizes, WIDTH, seed)
    order = torch.tensor(
        [
            n
            for start, size in zip(ptr.tolist(), sizes, strict=False)
            for n in data.draw(st.permutations(range(start, start + size)))
        ],
        dtype=torch.int64,
    )
    z, f = pool(x, ptr=ptr, return_att=True)
    permuted_z, permuted_f = pool(x[order], ptr=ptr, return_att=True)
    assert_close(permuted_z, z)
    assert_close(permuted_f, f[order])


@given(
    sizes=sizes,
    seed=seeds,
    gated=st.booleans(),
    fill=st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e30]),
)
def test_padding_does_not_leak(sizes, seed, gated, fill):
    pool = make_pool(gated=gated)
    x, ptr = reference.make_bags(sizes, WIDTH, seed)
    X, mask = reference.pad(x, ptr, fill, longest=max(sizes) + 2)
    outputs, gradients = [], []
    for form, options in ((x, {"ptr": ptr}), (X, {"mask": mask})):
        pool.zero_grad()
        z, f = pool(form.requires_grad_(), return_att=True, **options)
        f = f if form is x else f[mask]
        (z.square().sum() + f.sin().sum()).backward()
        outputs.append((z, f))
        gradients.append([p.grad.clone() for p in pool.parameters()])
    assert_close(outputs[1], outputs[0], rtol=0, atol=0)
    assert_close(gradients[1], gradients[0], rtol=0, atol=0)
    assert torch.equal(X.grad[mask], x.grad)
    assert not X.grad[~mask].any()


@pytest.mark.parametrize("gated", [False, True])
def test_a_bag_of_one_is_its_instance(gated):
    pool = make_pool(gated=gated)
    x, ptr = reference.make_bags((1, 1, 1), WIDTH)
    assert torch.equal(pool(x, ptr=ptr), x)
    assert torch.equal(pool(x[:, None]), x)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("form", ["packed", "masked", "no rows"])
def test_bags_of_nothing_give_zero_and_finite_gradients(gated, form):
    pool = make_pool(gated=gated)
    X = torch.full((2, 3, WIDTH), torch.nan, dtype=torch.float64)
    if form == "packed":
        X = X.flatten(0, 1)[:0].requires_grad_()
        z, f = pool(X, ptr=torch.tensor([0, 0, 0]), return_att=True)
        assert f.shape == (0,)
    elif form == "masked":
        X.requires_grad_()
        z, f = pool(X, torch.zeros(2, 3, dtype=torch.bool), return_att=True)
        assert torch.isneginf(f).all()
    else:
        X = X[:, :0].requires_grad_()
        z, f = pool(X, return_att=True)
        assert f.shape == (2, 0)
    assert torch.equal(z, torch.zeros_like(z))
    z.sum().backward()
    assert not X.grad.any()
    for parameter in pool.parameters():
        assert not parameter.grad.any()


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_extreme_scores(act, scale):
    pool = make_pool(1, att_dim=1, act=act, dtype=torch.float32)
    with torch.no_grad():
        pool.fc1.weight.fill_(1.0)
        pool.fc1.bias.zero_()
        pool.fc2.weight.fill_(scale)
    x = torch.tensor([[1.0], [3.0], [-1.0], [2.0], [2.0]], requires_grad=True)
    largest = reference.ACTIVATIONS[act](torch.tensor(3.0))
    z, f = pool(x, ptr=torch.tensor([0, 3, 5]), return_att=True)
    assert float(f.detach().max() / scale) == pytest.approx(float(largest), rel=1e-4)
    # Two scores that should tie may differ by a rounding, which the scale blows up.
    assert_close(z, torch.tensor([[3.0], [2.0]]))
    z.sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_module(dtype):
    pool = make_pool(gated=True, dtype=dtype)
    x, ptr = reference.make_bags((3000, 20), WIDTH)
    x = x.to(dtype).requires_grad_()
    z, f = pool(x, ptr=ptr, return_att=True)
    assert (z.dtype, f.dtype) == (dtype, dtype)
    # Given the scores, only the rounding of the result is left.
    assert_close(z, reference.attention_pool(x, f, ptr).to(dtype))
    z.float().square().sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in pool.parameters())


def test_autocast_pools_in_float32():
    pool = make_pool(gated=True, dtype=torch.float32)
    x, ptr = reference.make_bags((100_000, 3), WIDTH)
    x = x.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, f = pool(x, ptr=ptr, return_att=True)
        weights = segment_softmax(f, ptr)
    assert (z.dtype, f.dtype, weights.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    assert float(weights[:100_000].detach().double().sum()) == pytest.approx(1, abs=1e-5)
    # The loop over 100,000 instances, as one product.
    exact = [torch.softmax(bag.double(), 0) for bag in reference.split(f, ptr)]
    expected = torch.stack(
        [w @ bag.double() for w, bag in zip(exact, reference.split(x, ptr), strict=True)]
    )
    assert_close(z.double(), expected, rtol=1e-4, atol=1e-6)
    z.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in pool.parameters())


def test_autocast_takes_half_precision_features():
    pool = make_pool(dtype=torch.float32)
    x, ptr = reference.make_bags((3, 2), WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pool(x.bfloat16(), ptr=ptr).dtype == torch.float32
        with pytest.raises(ValueError, match=r"X as torch.float32 .* got torch.float64"):
            pool(x, ptr=ptr)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("form", ["packed", "padded", "empty"])
def test_lazy_width_is_that_of_the_first_input(gated, form):
    lazy = make_pool(None, gated=gated)
    bags = (0,) if form == "empty" else (3, 2)
    x, ptr = reference.make_bags(bags, WIDTH)
    if form == "padded":
        lazy(*reference.pad(x, ptr))
    else:
        lazy(x, ptr=ptr)
    given = make_pool(gated=gated, seed=1)
    given.load_state_dict(lazy.state_dict())
    x, ptr = reference.make_bags((3, 2), WIDTH)
    assert torch.equal(lazy(x, ptr=ptr), given(x, ptr=ptr))
    assert all(p.dtype == torch.float64 for p in lazy.parameters())
    with pytest.raises(ValueError, match=r"of 5 features \(in_dim\), got 4"):
        lazy(x[:, :4], ptr=ptr)


@pytest.mark.parametrize("gated", [False, True])
def test_lazy_pool_takes_the_weights_of_a_given_one(gated):
    given, lazy = make_pool(gated=gated), make_pool(None, gated=gated, seed=1)
    lazy.load_state_dict(given.state_dict())
    x, ptr = reference.make_bags((3, 2), WIDTH)
    with pytest.raises(ValueError, match=r"of 5 features \(in_dim\), got 4"):
        lazy(x[:, :4], ptr=ptr)
    assert torch.equal(lazy(x, ptr=ptr), given(x, ptr=ptr))


def test_a_refused_input_does_not_decide_the_width():
    lazy = make_pool(None, dtype=torch.float32)
    with pytest.raises(ValueError, match="float64"):
        lazy(torch.zeros(1, 2, 9, dtype=torch.float64))
    assert lazy(torch.zeros(1, 2, 4)).shape == (1, 4)


@pytest.mark.parametrize("in_dim", [None, WIDTH])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("prefix", ["", "pool.", "module."])
def test_state_dicts_of_the_reference_load(in_dim, gated, prefix):
    generator = torch.Generator().manual_seed(3)
    shapes = {"fc1.module.weight": (6, WIDTH), "fc1.module.bias": (6,), "fc2.weight": (1, 6)}
    if gated:
        shapes |= {"fc_gated.module.weight": (6, WIDTH), "fc_gated.module.bias": (6,)}
    state = {
        prefix + key: torch.randn(shape, generator=generator, dtype=torch.float64)
        for key, shape in shapes.items()
    }
    keys = list(state)
    pool = make_pool(in_dim, gated=gated)
    whole = nn.ModuleDict({prefix[:-1]: pool}) if prefix else pool
    whole.load_state_dict(state)
    assert list(state) == keys
    for key in shapes:
        assert torch.equal(pool.get_parameter(key.replace(".module", "")), state[prefix + key])
    x, ptr = reference.make_bags((3, 2), WIDTH)
    assert_close(pool(x, ptr=ptr), oracle(pool, x, ptr)[0])


def test_foreign_keys_are_still_refused():
    pool = make_pool()
    state = pool.state_dict() | {"fc3.module.weight": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r"fc3\.weight"):
        pool.load_state_dict(state)
    with pytest.raises(RuntimeError, match="fc_gated"):
        make_pool(gated=True).load_state_dict(pool.state_dict())


@pytest.mark.parametrize("in_dim", [None, WIDTH])
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))], ids=["copy", "pickle"]
)
def test_copies(in_dim, copied):
    x, ptr = reference.make_bags((3, 2), WIDTH)
    x = x.float()  # torch forgets the dtype of pickled parameters that have no shape yet
    pool = make_pool(in_dim, gated=True, dtype=torch.float32)
    early = copied(pool)
    z = pool(x, ptr=ptr)
    late = copied(pool)
    assert torch.equal(late(x, ptr=ptr), z)
    # The load hook travels along.
    state = {
        key.replace("fc1.", "fc1.module.").replace("fc_gated.", "fc_gated.module."): value
        for key, value in pool.state_dict().items()
    }
    early.load_state_dict(state)
    assert torch.equal(early(x, ptr=ptr), z)
    with torch.no_grad():
        late.fc1.weight.zero_()
    assert torch.equal(pool(x, ptr=ptr), z)


X = torch.zeros(2, 3, WIDTH)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": X[..., :4]}, r"instances of 5 features \(in_dim\), got 4"),
        ({"X": X.double()}, "X as torch.float32 on cpu .* got torch.float64"),
        ({"X": X.bfloat16()}, "X as torch.float32 on cpu .* got torch.bfloat16"),
        ({"X": X.long()}, "floating dtype, got torch.int64"),
        ({"X": X.to("meta")}, "on cpu like the weights, got torch.float32 on meta"),
        ({"X": X[0]}, "no ptr"),
        ({"X": X, "mask": torch.ones(2, 3)}, "mask as bool"),
        ({"X": X[0], "ptr": torch.tensor([0, 2])}, r"to rise from 0 to 3, .* got \[0, 2\]"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_pool(dtype=torch.float32)(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": "sigmoid"}, r"one of \['gelu', 'relu', 'tanh'\], got 'sigmoid'"),
        ({"in_dim": 0}, "in_dim of at least 1, got 0"),
        ({"att_dim": 0}, "att_dim of at least 1, got 0"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionPool(**options)
