import copy
import inspect
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

import reference
from milforge.nn import Sm

sizes = st.lists(st.integers(0, 6), min_size=1, max_size=4)
seeds = st.integers(0, 2**31)
MODES = pytest.mark.parametrize("mode", ["approx", "exact"])


def make_case(bags=(5, 0, 1, 4), seed=0, how="sym", width=3):
    u, ptr = reference.make_bags(bags, width, seed)
    return u, reference.make_graph(bags, seed, how), ptr


def described(function):
    return [
        (p.name, p.kind.name, p.default) for p in inspect.signature(function).parameters.values()
    ]


def test_signature_is_the_documented_one():
    either, required = "POSITIONAL_OR_KEYWORD", inspect.Parameter.empty
    assert described(Sm) == [
        ("alpha", either, "trainable"),
        ("num_steps", either, 10),
        ("mode", either, "approx"),
    ]
    assert described(Sm().forward) == [("f", either, required), ("adj", either, required)]


@MODES
@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.9, "trainable"])
@pytest.mark.parametrize("how", ["sym", "rw"])
def test_one_meaning_of_alpha_in_both_modes(mode, alpha, how):
    u, adj, _ = make_case(how=how)
    strength = 0.5 if alpha == "trainable" else alpha
    sm = Sm(alpha, 7, mode).double()
    assert float(sm.alpha.detach()) == strength
    expected = reference.sm(u, adj, strength, 7, mode)
    assert_close(sm(u, adj.to_sparse_csr()), expected, rtol=0, atol=1e-11)
    # The limit in steps is the exact mode of the same alpha.
    limit = Sm(strength, 400).double()(u, adj.to_sparse_csr())
    assert_close(
        Sm(strength, mode="exact").double()(u, adj.to_sparse_csr()), limit, atol=1e-9, rtol=0
    )


@MODES
def test_trainable_alpha_is_one_number_that_starts_at_a_half(mode):
    sm = Sm(mode=mode)
    assert [(name, tuple(p.shape)) for name, p in sm.named_parameters()] == [("alpha_logit", ())]
    assert float(sm.alpha.detach()) == 0.5
    for logit in (-50.0, -3.0, 3.0, 15.0):
        with torch.no_grad():
            sm.alpha_logit.fill_(logit)
        assert 0 < float(sm.alpha.detach()) < 1


@MODES
@pytest.mark.parametrize("logit", [-2.0, 0.0, 1.5])
def test_gradient_for_alpha_is_that_of_the_plain_loop(mode, logit):
    u, adj, _ = make_case(how="rw")
    sm = Sm(mode=mode).double()
    with torch.no_grad():
        sm.alpha_logit.fill_(logit)
    sm(u, adj.to_sparse_csr()).sin().sum().backward()
    plain = torch.tensor(logit, dtype=torch.float64, requires_grad=True)
    reference.sm(u, adj, torch.sigmoid(plain), 10, mode).sin().sum().backward()
    assert_close(sm.alpha_logit.grad, plain.grad, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "options", [{"alpha": 0}, {"alpha": 0.0, "mode": "exact"}, {"num_steps": 0}]
)
def test_identity_has_no_parameter(options):
    sm = Sm(**options)
    assert sm.identity
    assert list(sm.parameters()) == []
    assert sm.state_dict() == {}
    u, adj, _ = make_case()
    assert sm(u, adj.to_sparse_csr()) is u


@pytest.mark.parametrize("options", [{"alpha": 0.5}, {"alpha": 0.5, "mode": "exact"}])
def test_fixed_alpha_has_no_parameter(options):
    assert list(Sm(**options).parameters()) == []


def test_steps_are_of_no_account_in_exact():
    u, adj, _ = make_case()
    none, many = (Sm(0.5, steps, "exact")(u, adj.to_sparse_csr()) for steps in (0, 50))
    assert torch.equal(none, many)
    assert not torch.equal(none, u)


@MODES
@pytest.mark.parametrize("layout", ["dense", "coo"])
@given(sizes=sizes, extra=st.integers(0, 2), seed=seeds)
def test_padded_agrees_with_packed(mode, layout, sizes, extra, seed):
    u, adj, ptr = make_case(sizes, seed)
    longest = max(sizes) + extra
    U, mask = reference.pad(u, ptr, longest=longest)
    padded = reference.pad_adjacency(adj, ptr, longest=longest)
    sm = Sm(mode=mode).double()
    packed = sm(u, adj.to_sparse_csr())
    padded = padded.to_sparse() if layout == "coo" else padded
    out = sm(U, padded)
    assert out.shape == U.shape
    assert_close(out[mask], packed)
    assert_close(sm(U[..., 0], padded)[mask], packed[:, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@MODES
def test_half_precision_module_keeps_alpha_in_float32(mode, dtype):
    u, adj, _ = make_case((30,))
    sm = Sm(mode=mode).to(dtype)
    with torch.no_grad():
        sm.alpha_logit.fill_(1.25)
    out = sm(u.to(dtype), adj.float().to_sparse_csr())
    assert out.dtype == torch.float32
    strength = torch.sigmoid(torch.tensor(1.25, dtype=torch.float64))
    expected = reference.sm(u.to(dtype).double(), adj, strength, 10, mode)
    assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    out.square().sum().backward()
    assert sm.alpha_logit.grad.dtype == dtype
    assert sm.alpha_logit.grad.isfinite()


@MODES
def test_under_autocast_as_without(mode):
    u, adj, _ = make_case((30,))
    sm, u, adj = Sm(mode=mode), u.float(), adj.float().to_sparse_csr()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sm(u, adj)
    assert torch.equal(inside, sm(u, adj))


@MODES
@pytest.mark.parametrize("prefix", ["", "pool.sm.", "module."])
@pytest.mark.parametrize("coefficient", [0.25, 1.0, 3.0])
def test_state_dicts_of_the_reference_load(mode, prefix, coefficient):
    sm = Sm(mode=mode).double()
    whole = sm
    for name in reversed(prefix.split(".")[:-1]):
        whole = nn.ModuleDict({name: whole})
    state = {f"{prefix}sm.coef": torch.tensor(coefficient, dtype=torch.float64)}
    whole.load_state_dict(state)
    assert list(state) == [f"{prefix}sm.coef"]
    alpha = 1 / (1 + coefficient) if mode == "approx" else coefficient / (1 + coefficient)
    assert float(sm.alpha.detach()) == pytest.approx(alpha, abs=1e-15)
    # As the reference computes it: `coef` stands for gamma in exact.
    u, adj, _ = make_case()
    expected = (
        reference.sm_approx(u, adj, 1 / (1 + coefficient), 10)
        if mode == "approx"
        else reference.sm_exact(u, adj, coefficient)
    )
    assert_close(sm(u, adj.to_sparse_csr()), expected, rtol=0, atol=1e-11)


@MODES
@pytest.mark.parametrize("coefficient", [0.0, -1.0, math.nan, math.inf])
def test_coefficients_without_an_alpha_are_refused(mode, coefficient):
    whole = nn.ModuleDict({"pool": Sm(mode=mode)})
    with pytest.raises(ValueError, match=r"pool\.sm\.coef: .* above 0, got"):
        whole.load_state_dict({"pool.sm.coef": torch.tensor(coefficient)})


def test_a_coefficient_is_refused_where_nothing_is_trained():
    for sm in (Sm(0.5), Sm(num_steps=0)):
        with pytest.raises(RuntimeError, match="alpha_logit"):
            sm.load_state_dict({"sm.coef": torch.tensor(1.0)})


@MODES
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda sm: pickle.loads(pickle.dumps(sm))])
def test_own_state_dicts_and_copies(mode, copied):
    sm = Sm(mode=mode)
    with torch.no_grad():
        sm.alpha_logit.fill_(0.7)
    loaded = Sm(mode=mode)
    loaded.load_state_dict(sm.state_dict())
    assert loaded.alpha == sm.alpha == copied(sm).alpha
    other = copied(sm)
    other.load_state_dict({"sm.coef": torch.tensor(1.0)})
    assert float(other.alpha.detach()) == 0.5


def test_printed_form_says_what_it_does():
    assert repr(Sm()) == "Sm(alpha=trainable, num_steps=10, mode=approx)"
    assert repr(Sm(0.25, mode="exact")) == "Sm(alpha=0.25, num_steps=10, mode=exact)"


@MODES
@pytest.mark.parametrize("how", ["sym", "rw"])
@given(sizes=sizes, seed=seeds)
def test_adjoint(mode, how, sizes, seed):
    u, adj, _ = make_case(sizes, seed, how)
    v, _, _ = make_case(sizes, seed + 1, how)
    adj, sm = adj.to_sparse_csr(), Sm(0.7, 4, mode)
    assert_close((sm(u, adj) * v).sum(), (u * sm.adjoint(v, adj)).sum(), rtol=0, atol=1e-10)


@MODES
def test_adjoint_is_another_operator_over_a_random_walk_alone(mode):
    sm = Sm(0.7, 4, mode)
    for how, same in (("sym", True), ("rw", False)):
        u, adj, _ = make_case((9,), how=how)
        adj = adj.to_sparse_csr()
        assert torch.allclose(sm.adjoint(u, adj), sm(u, adj), rtol=0, atol=1e-10) == same


@MODES
@pytest.mark.parametrize("layout", ["dense", "coo"])
def test_adjoint_of_padded_agrees_with_packed(mode, layout):
    u, adj, ptr = make_case(how="rw")
    U, mask = reference.pad(u, ptr)
    padded = reference.pad_adjacency(adj, ptr)
    padded = padded.to_sparse() if layout == "coo" else padded
    sm = Sm(0.7, 4, mode)
    assert_close(sm.adjoint(U, padded)[mask], sm.adjoint(u, adj.to_sparse_csr()))


@MODES
def test_gradients_of_the_adjoint(mode):
    u, adj, _ = make_case(how="rw")
    sm = Sm(num_steps=4, mode=mode).double()
    logit = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(
        lambda u, logit: torch.func.functional_call(
            Adjoint(sm), {"sm.alpha_logit": logit}, (u, adj.to_sparse_csr())
        ),
        (u.requires_grad_(), logit),
    )


class Adjoint(nn.Module):
    def __init__(self, sm):
        super().__init__()
        self.sm = sm

    def forward(self, u, adj):
        return self.sm.adjoint(u, adj)


@MODES
def test_hooks_see_the_smoothing_and_not_the_adjoint(mode):
    u, adj, _ = make_case()
    sm, seen = Sm(0.5, mode=mode), []
    sm.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    sm.adjoint(u, adj.to_sparse_csr())
    assert seen == []
    sm(u, adj.to_sparse_csr())
    assert len(seen) == 1


def test_adjoint_of_the_identity_is_the_identity():
    u, adj, _ = make_case(how="rw")
    assert Sm(alpha=0).adjoint(u, adj.to_sparse_csr()) is u


@pytest.mark.parametrize(
    "adj", [torch.eye(5), torch.eye(5).to_sparse(), torch.eye(6).to_sparse_csr()]
)
def test_adjoint_refuses_what_does_not_fit(adj):
    with pytest.raises(ValueError, match=r"CSR of floats of shape \(5, 5\) .* got"):
        Sm().adjoint(torch.zeros(5), adj)


CSR, DENSE = torch.eye(6).to_sparse_csr(), torch.eye(3).expand(2, 3, 3)


@pytest.mark.parametrize(
    ("f", "adj", "message"),
    [
        (torch.zeros(5), CSR, r"of shape \(5, 5\) on cpu, got .* shape \(6, 6\)"),
        (torch.zeros(6), torch.eye(6), "sparse CSR .* got torch.strided"),
        (torch.zeros(2, 3), CSR, r"of shape \(2, 2\)"),
        (torch.zeros(6, 2).int(), CSR, "float values .* got torch.int32"),
        (torch.zeros(2, 4), DENSE, r"values of shape \(2, 3\) .* got \(2, 4\)"),
        (torch.zeros(3, 3, 1), DENSE, r"values of shape \(2, 3\) .* got \(3, 3, 1\)"),
        (torch.zeros(6), DENSE, r"values of shape \(2, 3\) .* got \(6,\)"),
        (torch.zeros(2, 3, 1, 1), DENSE, r"\(N,\) or \(N, D\), got .* shape \(6, 1, 1\)"),
        (torch.zeros(2, 3), DENSE[:, :, :2], r"\(bags, instances, instances\).* \(2, 3, 2\)"),
        (torch.zeros(2, 3), DENSE.long(), "adj of floats .* of torch.int64"),
        (torch.zeros(2, 3, device="meta"), DENSE, "on meta, got .* on cpu"),
    ],
)
def test_what_does_not_fit_is_refused(f, adj, message):
    with pytest.raises(ValueError, match=message):
        Sm()(f, adj)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.0}, r"alpha in \[0, 1\) or 'trainable', got 1.0"),
        ({"alpha": -0.1}, r"alpha in \[0, 1\) .* got -0.1"),
        ({"alpha": math.nan}, r"alpha in \[0, 1\) .* got nan"),
        ({"alpha": "learned"}, r"alpha in \[0, 1\) .* got 'learned'"),
        ({"alpha": None}, r"alpha in \[0, 1\) .* got None"),
        ({"num_steps": -1}, "num_steps of at least 0, got -1"),
        ({"mode": "chebyshev"}, "approx or exact, got 'chebyshev'"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Sm(**options)
