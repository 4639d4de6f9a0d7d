import copy
import inspect
import math
import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.nn.utils.parametrize import is_parametrized
from torch.testing import assert_close

import reference
from milforge.functional import segment_softmax
from milforge.nn import AttentionPool, SmAttentionPool
from thinned import thinned

WIDTH = 5
ACTS = ["tanh", "relu", "gelu"]
PLACES = ["early", "mid", "late", "none"]
SMOOTHED = PLACES[:3]
MODES = ["approx", "exact"]

sizes = st.lists(st.integers(0, 6), min_size=1, max_size=4)
seeds = st.integers(0, 2**31)
places = st.sampled_from(PLACES)
modes = st.sampled_from(MODES)


def make_pool(in_dim=WIDTH, *, seed=0, dtype=torch.float64, logit=0.4, **options):
    torch.manual_seed(seed)
    pool = SmAttentionPool(in_dim, **{"att_dim": 6, "sm_steps": 4, **options}).to(dtype)
    if pool.sm is not None and pool.sm.alpha_logit is not None:
        with torch.no_grad():
            pool.sm.alpha_logit.fill_(logit)
    return pool


def make_case(bags=(4, 0, 1, 6), seed=0, how="sym", width=WIDTH):
    x, ptr = reference.make_bags(bags, width, seed)
    return x, reference.make_graph(bags, seed, how), ptr


def oracle(pool, x, adj, ptr):
    def smooth(u, graph):
        if pool.sm.identity:
            return u
        return reference.sm(u, graph, pool.sm.alpha, pool.sm.num_steps, pool.sm.mode)

    gate = pool.proj_gated
    return reference.sm_attention_pool(
        x,
        adj,
        ptr,
        pool.proj1.weight,
        pool.proj1.bias,
        pool.proj2.weight,
        None if gate is None else gate.weight,
        None if gate is None else gate.bias,
        pool.act,
        pool.sm_where,
        smooth,
    )


def results_of(pool, x, function):
    """Values of z and f, and the gradients of all that is trained and of the instances."""
    pool.zero_grad()
    x = x.clone().requires_grad_()
    z, f = function(x)
    (z.square().sum() + f.sin().sum()).backward()
    gradients = {name: p.grad.clone() for name, p in pool.named_parameters()}
    return {"z": z, "f": f, "x": x.grad, **gradients}


def described(function):
    return [
        (p.name, p.kind.name, p.default) for p in inspect.signature(function).parameters.values()
    ]


def test_signature_is_the_documented_one():
    either, keyword, required = "POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY", inspect.Parameter.empty
    assert described(SmAttentionPool) == [
        ("in_dim", either, required),
        ("att_dim", either, 128),
        ("act", either, "gelu"),
        ("sm_mode", either, "approx"),
        ("sm_alpha", either, "trainable"),
        ("sm_steps", either, 10),
        ("sm_where", either, "early"),
        ("spectral_norm", either, False),
        ("gated", keyword, False),
    ]
    assert described(SmAttentionPool(2).forward) == [
        ("X", either, required),
        ("adj", either, required),
        ("mask", either, None),
        ("return_att", either, False),
        ("ptr", keyword, None),
    ]


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("how", ["sym", "rw"])
@pytest.mark.parametrize("alpha", ["trainable", 0.3])
def test_values_and_gradients_are_those_of_the_plain_definition(where, mode, gated, how, alpha):
    pool = make_pool(sm_where=where, sm_mode=mode, gated=gated, sm_alpha=alpha)
    x, adj, ptr = make_case(how=how)
    ours = results_of(pool, x, lambda x: pool(x, adj.to_sparse_csr(), ptr=ptr, return_att=True))
    plain = results_of(pool, x, lambda x: oracle(pool, x, adj, ptr))
    assert ("sm.alpha_logit" in ours) == (alpha == "trainable" and where != "none")
    for name, value in plain.items():
        assert_close(ours[name], value, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("act", ACTS)
def test_activations(where, act):
    pool = make_pool(sm_where=where, act=act)
    x, adj, ptr = make_case()
    got = pool(x, adj.to_sparse_csr(), ptr=ptr, return_att=True)
    assert_close(got, oracle(pool, x, adj, ptr), rtol=0, atol=1e-10)


@pytest.mark.parametrize("where", PLACES)
def test_defaults(where):
    pool = SmAttentionPool(3, sm_where=where)
    shapes = {key: tuple(value.shape) for key, value in pool.state_dict().items()}
    expected = {"proj1.weight": (128, 3), "proj1.bias": (128,), "proj2.weight": (1, 128)}
    assert shapes == expected | ({} if where == "none" else {"sm.alpha_logit": ()})
    x, adj, ptr = make_case((4, 2), width=3)
    z = pool(x.float(), adj.float().to_sparse_csr(), ptr=ptr)
    double = copy.deepcopy(pool).double()
    assert_close(z.double(), oracle(double, x, adj, ptr)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", thinned(["sym", "rw"]))
def test_gradients(where, mode, how):
    pool = make_pool(3, att_dim=2, sm_where=where, sm_mode=mode, gated=True, sm_steps=2)
    x, dense, ptr = make_case((3, 0, 1, 2), how=how, width=3)
    X, mask = reference.pad(x, ptr)
    names = [name for name, _ in pool.named_parameters()]

    def pooled(form, *parameters):
        padded = form.ndim == 3
        adj = reference.pad_adjacency(dense, ptr) if padded else dense.to_sparse_csr()
        options = {"mask": mask} if padded else {"ptr": ptr}
        z, f = torch.func.functional_call(
            pool,
            dict(zip(names, parameters, strict=True)),
            (form, adj),
            {"return_att": True, **options},
        )
        return z, f[mask] if padded else f

    for form in (x, X):
        assert gradcheck(pooled, (form.requires_grad_(), *pool.parameters()))


@pytest.mark.parametrize(
    "options",
    [
        {"sm_alpha": 0},
        {"sm_alpha": 0.0, "sm_mode": "exact"},
        {"sm_steps": 0},
        {"sm_where": "none"},
    ],
)
@pytest.mark.parametrize("where", SMOOTHED)
@pytest.mark.parametrize("gated", [False, True])
def test_without_smoothing_it_is_plain_attention(options, where, gated):
    pool = make_pool(gated=gated, **{"sm_where": where, **options})
    plain = AttentionPool(WIDTH, 6, act="gelu", gated=gated).double()
    plain.load_state_dict(
        {
            key.replace("proj_gated", "fc_gated").replace("proj", "fc"): value
            for key, value in pool.state_dict().items()
        }
    )
    x, adj, ptr = make_case()
    got = pool(x, adj.to_sparse_csr(), ptr=ptr, return_att=True)
    assert_close(got, plain(x, ptr=ptr, return_att=True), rtol=0, atol=1e-14)


def test_none_does_not_look_at_the_graph():
    pool = make_pool(sm_where="none")
    x, _, ptr = make_case()
    assert pool(x, None, ptr=ptr).shape == (4, WIDTH)


@pytest.mark.parametrize("mode", MODES)
def test_alpha_is_one_number_that_starts_at_a_half(mode):
    for where in SMOOTHED:
        pool = SmAttentionPool(4, sm_where=where, sm_mode=mode)
        numbers = [name for name, p in pool.named_parameters() if p.ndim == 0]
        assert numbers == ["sm.alpha_logit"]
        assert float(pool.sm.alpha.detach()) == 0.5


def test_attention_is_returned_only_on_request_and_does_not_change_z():
    pool = make_pool()
    x, adj, ptr = make_case((4, 4))
    X, graph = x.reshape(2, 4, WIDTH), reference.pad_adjacency(adj, ptr)
    z = pool(X, graph)
    assert isinstance(z, torch.Tensor)
    assert torch.equal(pool(X, graph, None, True)[0], z)
    assert pool(X, graph, return_att=True)[1].isfinite().all()


@given(sizes=sizes, seed=seeds, where=places, mode=modes, coo=st.booleans())
def test_padded_agrees_with_packed(sizes, seed, where, mode, coo):
    pool = make_pool(sm_where=where, sm_mode=mode, gated=True)
    x, adj, ptr = make_case(sizes, seed, "rw")
    longest = max(sizes) + 1
    X, mask = reference.pad(x, ptr, longest=longest)
    graph = reference.pad_adjacency(adj, ptr, longest=longest)
    z, f = pool(X, graph.to_sparse() if coo else graph, mask, True)
    packed_z, packed_f = pool(x, adj.to_sparse_csr(), ptr=ptr, return_att=True)
    assert_close(z, packed_z)
    assert_close(f[mask], packed_f)
    assert torch.isneginf(f).equal(~mask)


@given(
    sizes=sizes,
    seed=seeds,
    where=places,
    mode=modes,
    coo=st.booleans(),
    fill=st.sampled_from([torch.nan, torch.inf, -torch.inf, 1e30]),
)
def test_padding_does_not_leak(sizes, seed, where, mode, coo, fill):
    pool = make_pool(sm_where=where, sm_mode=mode, gated=True)
    x, adj, ptr = make_case(sizes, seed)
    longest = max(sizes) + 2
    X, mask = reference.pad(x, ptr, fill, longest)
    graph = reference.pad_adjacency(adj, ptr, fill, longest)
    graph = graph.to_sparse() if coo else graph

    def padded(X):
        z, f = pool(X, graph, mask, True)
        return z, f[mask]

    packed = results_of(pool, x, lambda x: pool(x, adj.to_sparse_csr(), ptr=ptr, return_att=True))
    leaked = results_of(pool, X, padded)
    assert not leaked["x"][~mask].any()
    leaked["x"] = leaked["x"][mask]
    for name, value in packed.items():
        assert_close(leaked[name], value, rtol=0, atol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_instances_may_stand_anywhere_in_a_padded_bag():
    pool = make_pool()
    x, adj, ptr = make_case((4,))
    places = torch.tensor([1, 2, 4, 6])
    X = torch.full((1, 7, WIDTH), torch.nan, dtype=torch.float64)
    graph = torch.full((1, 7, 7), torch.nan, dtype=torch.float64)
    X[0, places] = x
    graph[0, places[:, None], places] = adj
    mask = torch.zeros(1, 7, dtype=torch.bool)
    mask[0, places] = True
    assert_close(pool(X, graph, mask), pool(x, adj.to_sparse_csr(), ptr=ptr))


@given(sizes=sizes, seed=seeds, where=places, mode=modes)
def test_a_bag_does_not_feel_the_others(sizes, seed, where, mode):
    pool = make_pool(sm_where=where, sm_mode=mode, gated=True)
    x, adj, ptr = make_case(sizes, seed, "rw")
    together = pool(x, adj.to_sparse_csr(), ptr=ptr)
    for b, (start, stop) in enumerate(pairwise(ptr.tolist())):
        graph = adj[start:stop, start:stop].to_sparse_csr()
        alone = pool(x[start:stop], graph, ptr=torch.tensor([0, stop - start]))
        assert_close(together[b : b + 1], alone)


@given(sizes=sizes, seed=seeds, where=places, mode=modes, data=st.data())
def test_the_order_of_instances_is_of_no_account(sizes, seed, where, mode, data):
    pool = make_pool(sm_where=where, sm_mode=mode, gated=True)
    x, adj, ptr = make_case(sizes, seed)
    order = torch.tensor(
        [
            n
            for start, size in zip(ptr.tolist(), sizes, strict=False)
            for n in data.draw(st.permutations(range(start, start + size)))
        ],
        dtype=torch.int64,
    )
    z, f = pool(x, adj.to_sparse_csr(), ptr=ptr, return_att=True)
    turned = adj[order][:, order].to_sparse_csr()
    permuted_z, permuted_f = pool(x[order], turned, ptr=ptr, return_att=True)
    assert_close(permuted_z, z)
    assert_close(permuted_f, f[order])


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("mode", MODES)
def test_a_bag_of_one_is_its_instance(where, mode):
    pool = make_pool(sm_where=where, sm_mode=mode)
    x, adj, ptr = make_case((1, 1, 1))
    assert_close(pool(x, adj.to_sparse_csr(), ptr=ptr), x, rtol=0, atol=1e-11)
    assert_close(pool(x[:, None], adj.diagonal()[:, None, None]), x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["packed", "masked", "no rows"])
def test_bags_of_nothing_give_zero_and_finite_gradients(where, mode, form):
    pool = make_pool(sm_where=where, sm_mode=mode, gated=True)
    X = torch.full((2, 3, WIDTH), torch.nan, dtype=torch.float64)
    adj = torch.full((2, 3, 3), torch.nan, dtype=torch.float64)
    if form == "packed":
        X = X.flatten(0, 1)[:0].requires_grad_()
        empty = torch.zeros(0, 0, dtype=torch.float64).to_sparse_csr()
        z, f = pool(X, empty, ptr=torch.tensor([0, 0, 0]), return_att=True)
        assert f.shape == (0,)
    elif form == "masked":
        X.requires_grad_()
        z, f = pool(X, adj, torch.zeros(2, 3, dtype=torch.bool), return_att=True)
        assert torch.isneginf(f).all()
    else:
        X = X[:, :0].requires_grad_()
        z, f = pool(X, adj[:, :0, :0], return_att=True)
        assert f.shape == (2, 0)
    assert torch.equal(z, torch.zeros_like(z))
    z.sum().backward()
    assert not X.grad.any()
    for parameter in pool.parameters():
        assert not parameter.grad.any()


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("gated", [False, True])
def test_spectral_norm_is_placed_after_sm(where, gated):
    pool = make_pool(sm_where=where, spectral_norm=True, gated=gated)
    first = where in ("early", "none")
    assert is_parametrized(pool.proj1) == first
    assert gated is (pool.proj_gated is not None)
    assert not gated or is_parametrized(pool.proj_gated) == first
    assert is_parametrized(pool.proj2) == (where != "late")
    x, adj, ptr = make_case()
    for _ in range(60):  # a forward pass in training is a step of power iteration
        pool(x, adj.to_sparse_csr(), ptr=ptr)
    pool.eval()
    for linear in (pool.proj1, pool.proj2, pool.proj_gated):
        if linear is not None and is_parametrized(linear):
            assert float(torch.linalg.matrix_norm(linear.weight.detach(), 2)) == pytest.approx(
                1, rel=1e-3
            )
    got = pool(x, adj.to_sparse_csr(), ptr=ptr, return_att=True)
    assert_close(got, oracle(pool, x, adj, ptr), rtol=0, atol=1e-10)


@pytest.mark.parametrize("gated", [False, True])
def test_a_forward_pass_is_one_step_of_power_iteration(gated):
    pool = make_pool(spectral_norm=True, gated=gated)
    twin = copy.deepcopy(pool)
    x, adj, ptr = make_case()
    pool(x, adj.to_sparse_csr(), ptr=ptr)
    for linear in (twin.proj1, twin.proj2, *([twin.proj_gated] if gated else [])):
        linear.weight  # noqa: B018
    for name, value in twin.state_dict().items():
        assert torch.equal(pool.state_dict()[name], value), name


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("gated", [False, True])
def test_half_precision_module(where, mode, dtype, gated):
    pool = make_pool(dtype=dtype, sm_where=where, sm_mode=mode, gated=gated)
    x, adj, ptr = make_case((30, 10))
    x = x.to(dtype)
    z, f = pool(x, adj.float().to_sparse_csr(), ptr=ptr, return_att=True)
    assert z.dtype == dtype
    assert f.dtype == (torch.float32 if where == "late" else dtype)
    exact = copy.deepcopy(pool).double()
    expected_f = oracle(exact, x.double(), adj, ptr)[1]
    step = torch.finfo(dtype).eps
    assert_close(f.double(), expected_f, rtol=4 * step, atol=4 * step)
    # Given the scores, only the rounding of the result is left: Sm, softmax, sum are in float32.
    features = x.double()
    if where == "early":
        features = reference.sm(features, adj, exact.sm.alpha, 4, mode)
    assert_close(z, reference.attention_pool(features, f, ptr).to(dtype), rtol=step, atol=step / 8)
    z.float().square().sum().backward()
    assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in pool.parameters())


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("features", [torch.float32, torch.bfloat16])
def test_autocast_smooths_and_pools_in_float32(where, mode, features):
    pool = make_pool(dtype=torch.float32, sm_where=where, sm_mode=mode, gated=True)
    x, adj, ptr = make_case((60, 3))
    x, graph = x.to(features), adj.float().to_sparse_csr()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, f = pool(x, graph, ptr=ptr, return_att=True)
    assert z.dtype == torch.float32
    assert f.dtype == (torch.float32 if where == "late" else torch.bfloat16)
    assert float(segment_softmax(f, ptr)[:60].double().sum().detach()) == pytest.approx(1, abs=1e-6)
    pooled = x.double()
    if where == "early":
        pooled = reference.sm(pooled, adj, pool.sm.alpha.double(), 4, mode)
    expected = reference.attention_pool(pooled, f, ptr)
    assert_close(z.double(), expected, rtol=1e-5, atol=1e-5)
    z.sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in pool.parameters())


@pytest.mark.parametrize("where", SMOOTHED)
def test_what_is_saved_does_not_grow_with_the_steps(where):
    x, adj, ptr = make_case((40,), width=64)
    adj = adj.to_sparse_csr()

    def bytes_saved(steps):
        pool = make_pool(64, att_dim=32, sm_where=where, sm_steps=steps)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: saved.append(t.values().nbytes if t.is_sparse_csr else t.nbytes) or t,
            lambda t: t,
        ):
            pool(x, adj, ptr=ptr)
        return sum(saved)

    assert bytes_saved(1) == bytes_saved(10) == bytes_saved(50)


@pytest.mark.parametrize("prefix", ["", "pool.", "a.b."])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_state_dicts_of_the_reference_load(prefix, mode, where, spectral_norm):
    generator = torch.Generator().manual_seed(3)

    def numbers(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    state = {"proj1.bias": numbers(6)}
    for name, shape in {"proj1": (6, WIDTH), "proj2": (1, 6)}.items():
        normalised = spectral_norm and (
            where in ("early", "none") or (where, name) == ("mid", "proj2")
        )
        if normalised:
            state[f"{name}.parametrizations.weight.original"] = numbers(*shape)
            for side, size in zip(("_u", "_v"), shape, strict=True):
                unit = nn.functional.normalize(numbers(size), dim=0)
                state[f"{name}.parametrizations.weight.0.{side}"] = unit
        else:
            state[f"{name}.weight"] = numbers(*shape)
    if where != "none":
        state["sm.sm.coef"] = torch.tensor(3.0, dtype=torch.float64)
    state = {prefix + key: value for key, value in state.items()}
    keys = list(state)

    pool = make_pool(sm_where=where, sm_mode=mode, spectral_norm=spectral_norm)
    whole = pool
    for name in reversed(prefix.split(".")[:-1]):
        whole = nn.ModuleDict({name: whole})
    whole.load_state_dict(state)
    assert list(state) == keys
    own = whole.state_dict()
    for key in keys:
        if not key.endswith("coef"):
            assert torch.equal(own[key], state[key])
    if where != "none":
        alpha = 1 / 4 if mode == "approx" else 3 / 4
        assert float(pool.sm.alpha.detach()) == pytest.approx(alpha, abs=1e-15)
    pool.eval()
    x, adj, ptr = make_case()
    got = pool(x, adj.to_sparse_csr(), ptr=ptr)
    assert_close(got, oracle(pool, x, adj, ptr)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("coefficient", [0.0, -2.0, math.nan])
def test_coefficients_without_an_alpha_are_refused(coefficient):
    pool = make_pool()
    state = pool.state_dict()
    del state["sm.alpha_logit"]
    state["sm.sm.coef"] = torch.tensor(coefficient)
    with pytest.raises(ValueError, match=r"sm\.sm\.coef: .* above 0"):
        pool.load_state_dict(state)


def test_foreign_keys_are_still_refused():
    pool = make_pool()
    with pytest.raises(RuntimeError, match=r"proj3\.weight"):
        pool.load_state_dict(pool.state_dict() | {"proj3.weight": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="proj_gated"):
        make_pool(gated=True).load_state_dict(pool.state_dict())


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))], ids=["copy", "pickle"]
)
def test_copies(copied):
    x, adj, ptr = make_case()
    pool = make_pool(gated=True)
    twin = copied(pool)
    z = pool(x, adj.to_sparse_csr(), ptr=ptr)
    assert torch.equal(twin(x, adj.to_sparse_csr(), ptr=ptr), z)
    state = pool.state_dict()
    state["sm.sm.coef"] = state.pop("sm.alpha_logit").neg().exp()
    twin.load_state_dict(state)  # the load hook travels along
    assert_close(twin(x, adj.to_sparse_csr(), ptr=ptr), z)


X, ADJ = torch.zeros(2, 3, WIDTH), torch.eye(3).expand(2, 3, 3)
PACKED, CSR, PTR = X.flatten(0, 1), torch.eye(6).to_sparse_csr(), torch.tensor([0, 2, 6])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": X[..., :4], "adj": ADJ}, r"instances of 5 features \(in_dim\), got 4"),
        ({"X": X.double(), "adj": ADJ}, "X as torch.float32 on cpu .* got torch.float64"),
        ({"X": X.bfloat16(), "adj": ADJ}, "X as torch.float32 on cpu .* got torch.bfloat16"),
        ({"X": X.long(), "adj": ADJ}, "floating dtype, got torch.int64"),
        ({"X": X.to("meta"), "adj": ADJ}, "on cpu like the weights, got torch.float32 on meta"),
        ({"X": PACKED, "adj": CSR}, "no ptr"),
        ({"X": X, "adj": ADJ, "mask": torch.ones(2, 3)}, "mask as bool"),
        ({"X": PACKED, "adj": CSR, "ptr": PTR[:2]}, r"to rise from 0 to 6, .* got \[0, 2\]"),
        ({"X": X, "adj": ADJ[0]}, r"\(bags, instances, instances\), .* shape \(3, 3\)"),
        ({"X": X, "adj": CSR}, "dense or sparse COO, got torch.sparse_csr"),
        ({"X": X, "adj": ADJ[:1]}, r"adj of shape \(2, 3, 3\) .* got \(1, 3, 3\)"),
        ({"X": X, "adj": ADJ[:, :2, :2]}, r"adj of shape \(2, 3, 3\) .* got \(2, 2, 2\)"),
        ({"X": X, "adj": ADJ.long()}, "adj of floats .* of torch.int64"),
        ({"X": X, "adj": ADJ.to("meta")}, "on cpu to go with the bags, got .* on meta"),
        ({"X": PACKED, "adj": ADJ, "ptr": PTR}, r"CSR of shape \(6, 6\) .* got torch.strided"),
        ({"X": PACKED, "adj": torch.eye(6), "ptr": PTR}, r"CSR .* \(6, 6\) .* got torch.strided"),
        ({"X": PACKED, "adj": torch.eye(6).to_sparse(), "ptr": PTR}, "got torch.sparse_coo"),
        ({"X": PACKED, "adj": torch.eye(5).to_sparse_csr(), "ptr": PTR}, r"shape \(5, 5\)"),
        ({"X": PACKED, "adj": torch.eye(6).int().to_sparse_csr(), "ptr": PTR}, "of floats"),
    ],
)
@pytest.mark.parametrize("where", SMOOTHED)
def test_what_does_not_fit_is_refused(arguments, message, where):
    with pytest.raises(ValueError, match=message):
        make_pool(dtype=torch.float32, sm_where=where)(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": "sigmoid"}, r"one of \['gelu', 'relu', 'tanh'\], got 'sigmoid'"),
        ({"in_dim": 0}, "in_dim of at least 1, got 0"),
        ({"att_dim": 0}, "att_dim of at least 1, got 0"),
        ({"sm_where": "middle"}, r"one of \('early', 'mid', 'late', 'none'\), got 'middle'"),
        ({"sm_mode": "dense"}, "approx or exact, got 'dense'"),
        ({"sm_alpha": 1.0}, r"alpha in \[0, 1\) .* got 1.0"),
        ({"sm_steps": -1}, "num_steps of at least 0, got -1"),
        ({"sm_mode": "dense", "sm_where": "none"}, "approx or exact, got 'dense'"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SmAttentionPool(**{"in_dim": WIDTH, **options})
