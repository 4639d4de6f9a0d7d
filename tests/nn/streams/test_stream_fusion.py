import inspect
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from milforge.nn import StreamFusion

MODES = ["scalar", "convex", "elementwise", "adaptive", "attention"]
DISTRIBUTIONS = ["convex", "attention"]
WIDTHS, DIM = (4, 2, 3), 5

seeds = st.integers(0, 2**31)
modes = st.sampled_from(MODES)
leadings = st.lists(st.integers(0, 3), max_size=3)


def make_fusion(mode, in_dims=WIDTHS, dim=DIM, *, seed=0, dtype=torch.float64):
    """With every parameter drawn at random, the ones that start at a constant too."""
    fusion = StreamFusion(in_dims, dim, mode).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.normal_(generator=generator)
    return fusion


def make_streams(leading=(6,), in_dims=WIDTHS, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*leading, d, generator=generator, dtype=dtype) for d in in_dims]


def affine(state, name, vector):
    """One item through one linear layer, number by number."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return [
        sum(float(weight[i, j]) * vector[j] for j in range(len(vector))) + float(bias[i])
        for i in range(len(bias))
    ]


def two_layers(state, name, vector):
    hidden = [max(value, 0.0) for value in affine(state, f"{name}.0", vector)]
    return affine(state, f"{name}.2", hidden)


def normalised(scores):
    powers = [torch.tensor(score, dtype=torch.float64).exp().item() for score in scores]
    return [power / sum(powers) for power in powers]


def oracle(fusion, streams):
    """Fused values and the weights of stream, item and channel, in loops over Python floats."""
    state, mode = fusion.state_dict(), fusion.mode
    count, dim = len(streams), fusion.dim
    leading = streams[0].shape[:-1]
    items = [stream.reshape(-1, stream.shape[-1]).tolist() for stream in streams]
    fused, weights = [], []
    for n in range(len(items[0])):
        x = [items[s][n] for s in range(count)]
        if "projections.0.weight" in state:
            x = [affine(state, f"projections.{s}", x[s]) for s in range(count)]
        elif "projections.0.0.weight" in state:
            x = [two_layers(state, f"projections.{s}", x[s]) for s in range(count)]
        if mode == "scalar":
            w = [[float(state["weights"][s])] * dim for s in range(count)]
        elif mode == "convex":
            w = [[share] * dim for share in normalised(state["logits"].tolist())]
        elif mode == "elementwise":
            w = state["weights"].tolist()
        elif mode == "adaptive":
            w = [two_layers(state, f"weigh.{s}", x[s]) for s in range(count)]
        else:
            hidden = affine(state, "hidden", [value for stream in x for value in stream])
            hidden = torch.tensor(hidden, dtype=torch.float64).tanh().tolist()
            w = [[share] * dim for share in normalised(affine(state, "score", hidden))]
        fused.append([sum(w[s][c] * x[s][c] for s in range(count)) for c in range(dim)])
        weights.append(w)
    fused = torch.tensor(fused, dtype=torch.float64).reshape(*leading, dim)
    weights = torch.tensor(weights, dtype=torch.float64).reshape(*leading, count, dim)
    return fused, weights.movedim(-2, 0)


def spread(weights, mode, fused):
    """Weights as each mode returns them, one for each stream, item and channel."""
    count, dim = len(weights), fused.shape[-1]
    if mode in ("scalar", "convex"):
        assert weights.shape == (count,)
        weights = weights.reshape(count, *[1] * fused.ndim)
    elif mode == "elementwise":
        assert weights.shape == (count, dim)
        weights = weights.reshape(count, *[1] * (fused.ndim - 1), dim)
    elif mode == "adaptive":
        assert weights.shape == (count, *fused.shape)
    else:
        assert weights.shape == (count, *fused.shape[:-1])
        weights = weights.unsqueeze(-1)
    return weights.expand(count, *fused.shape)


def permuted(fusion, order):
    """The fusion that takes its streams in another order."""
    other = StreamFusion(
        [fusion.in_dims[s] for s in order],
        None if isinstance(fusion.projections[0], nn.Identity) else fusion.dim,
        fusion.mode,
    ).double()
    blocks = {"weights", "logits", "score.weight", "score.bias"}
    state = {}
    for key, value in fusion.state_dict().items():
        part, _, rest = key.partition(".")
        if part in ("projections", "weigh"):
            number, _, rest = rest.partition(".")
            state[f"{part}.{order.index(int(number))}.{rest}"] = value
        elif key in blocks:
            state[key] = value[order]
        elif key == "hidden.weight":
            state[key] = value.unflatten(1, (len(order), -1))[:, order].flatten(1)
        else:
            state[key] = value
    other.load_state_dict(state)
    return other


def test_signature_is_the_documented_one():
    def described(function):
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    required = inspect.Parameter.empty
    assert described(StreamFusion) == [("in_dims", required), ("dim", None), ("mode", "adaptive")]
    assert described(StreamFusion((2,)).forward) == [
        ("streams", required),
        ("return_weights", False),
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("leading", [(), (6,), (2, 3), (2, 1, 2), (0,), (2, 0)])
@pytest.mark.parametrize(
    ("in_dims", "dim"), [(WIDTHS, DIM), ((3, 3), None), ((3, 3), 3), ((4,), 2)]
)
def test_loops_agree(mode, leading, in_dims, dim):
    fusion = make_fusion(mode, in_dims, dim)
    streams = make_streams(leading, in_dims)
    expected, expected_weights = oracle(fusion, streams)
    fused, weights = fusion(streams, return_weights=True)
    assert_close(fused, expected)
    assert_close(spread(weights, mode, fused), expected_weights)
    assert torch.equal(fusion(tuple(streams)), fused)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("in_dims", "dim"), [((2, 3), 2), ((2, 2), None), ((2,), None)])
def test_gradients(mode, in_dims, dim):
    fusion = make_fusion(mode, in_dims, dim)
    streams = [stream.requires_grad_() for stream in make_streams((3,), in_dims)]
    names = [name for name, _ in fusion.named_parameters()]

    def fused(*values):
        state = dict(zip(names, values[len(streams) :], strict=True))
        return torch.func.functional_call(fusion, state, (values[: len(streams)], True))

    assert gradcheck(fused, (*streams, *fusion.parameters()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_streams_are_alike_at_the_start(mode, count):
    fusion = StreamFusion((4,) * count, mode=mode)
    streams = make_streams((5,), fusion.in_dims, dtype=torch.float32)
    fused, weights = fusion(streams, return_weights=True)
    assert_close(weights, torch.full_like(weights, 1 / count))
    assert_close(fused, torch.stack(streams).mean(0))


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_learns(mode):
    """A layer that starts at zero lets the gradient of those before it through one step later."""
    torch.manual_seed(0)
    fusion = StreamFusion(WIDTHS, DIM, mode)
    streams = make_streams((20,), dtype=torch.float32)
    before = {name: value.clone() for name, value in fusion.state_dict().items()}
    optimiser = torch.optim.SGD(fusion.parameters(), 0.1)
    for _ in range(2):
        optimiser.zero_grad()
        (fusion(streams) - 1).square().mean().backward()
        optimiser.step()
    for name, value in fusion.state_dict().items():
        assert not torch.equal(value, before[name]), name


@given(mode=st.sampled_from(DISTRIBUTIONS), seed=seeds, count=st.integers(1, 4), leading=leadings)
def test_weights_are_a_distribution_over_the_streams(mode, seed, count, leading):
    fusion = make_fusion(mode, (3,) * count, seed=seed)
    streams = make_streams(leading, fusion.in_dims, seed=seed)
    weights = fusion(streams, return_weights=True)[1]
    assert (weights >= 0).all()
    assert_close(weights.sum(0), torch.ones_like(weights[0]))


@given(mode=modes, seed=seeds, order=st.permutations(range(3)), projected=st.booleans())
def test_the_order_of_streams_is_of_no_account(mode, seed, order, projected):
    in_dims, dim = (WIDTHS, DIM) if projected else ((3, 3, 3), None)
    fusion = make_fusion(mode, in_dims, dim, seed=seed)
    streams = make_streams((4,), in_dims, seed=seed)
    fused, weights = fusion(streams, return_weights=True)
    other = permuted(fusion, order)([streams[s] for s in order], return_weights=True)
    assert_close(other[0], fused)
    assert_close(other[1], weights[order])


@given(mode=modes, seed=seeds, size=st.integers(1, 5), data=st.data())
def test_items_do_not_feel_each_other(mode, seed, size, data):
    fusion = make_fusion(mode, seed=seed)
    streams = make_streams((size,), seed=seed)
    n = data.draw(st.integers(0, size - 1))
    alone, weights_alone = fusion([stream[n] for stream in streams], return_weights=True)
    for stream in streams:
        stream[:n] = torch.nan
        stream[n + 1 :] = torch.inf
    fused, weights = fusion(streams, return_weights=True)
    assert_close(fused[n], alone)
    if mode in ("adaptive", "attention"):
        assert_close(weights[:, n], weights_alone)


def test_adaptive_weights_come_from_the_stream_itself_and_attention_from_all():
    streams = make_streams()
    changed = [*streams[:2], streams[2] + 1]
    for mode, feels in (("adaptive", False), ("attention", True)):
        fusion = make_fusion(mode)
        before, after = (fusion(each, return_weights=True)[1] for each in (streams, changed))
        assert torch.equal(before[0], after[0]) is not feels
        assert not torch.equal(before[2], after[2])


def test_the_case_of_17_and_3_channels():
    """Two branches whose pooled maps differ in channels, as a classification head gets them."""
    heatmaps, rgb = torch.randn(1, 17, 1, 1, 1), torch.randn(1, 3, 1, 1, 1)
    fusion = StreamFusion((17, 3), dim=8)
    assert (fusion.mode, fusion.dim) == ("adaptive", 8)
    mlps = [("projections.0", 17), ("projections.1", 3), ("weigh.0", 8), ("weigh.1", 8)]
    shapes = {key: tuple(value.shape) for key, value in fusion.state_dict().items()}
    assert shapes == {
        f"{name}.{layer}.{part}": shape
        for name, width in mlps
        for layer, part, shape in [
            (0, "weight", (8, width)),
            (0, "bias", (8,)),
            (2, "weight", (8, 8)),
            (2, "bias", (8,)),
        ]
    }
    x1, x2 = heatmaps.flatten(1), rgb.flatten(1)
    x1_, x2_ = fusion.projections[0](x1), fusion.projections[1](x2)
    w1, w2 = fusion.weigh[0](x1_), fusion.weigh[1](x2_)
    fused, weights = fusion([x1, x2], return_weights=True)
    assert fused.shape == (1, 8)
    assert_close(weights, torch.stack([w1, w2]))
    assert_close(fused, x1_ * w1 + x2_ * w2)


def fit(fusion, streams, target, steps=150):
    optimiser = torch.optim.Adam(fusion.parameters(), 0.03)
    for _ in range(steps):
        optimiser.zero_grad()
        (fusion(streams) - target).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        return fusion(streams, return_weights=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("better", [0, 1])
def test_training_finds_the_better_stream(mode, better):
    """Two noisy views of the target: weights by the inverse of the noise's variance are best."""
    torch.manual_seed(0)
    target = torch.randn(512, 3)
    noise = [0.3, 1.2] if better == 0 else [1.2, 0.3]
    streams = [target + scale * torch.randn_like(target) for scale in noise]
    fused, weights = fit(StreamFusion((3, 3), mode=mode), streams, target)
    weights = spread(weights, mode, fused).mean((1, 2))
    share = weights[better] / weights.sum()
    assert share > 0.85  # the best share is 1.2^2 / (0.3^2 + 1.2^2) = 0.94
    alone = [float((stream - target).square().mean()) for stream in streams]
    assert float((fused - target).square().mean()) < min(alone)


def test_elementwise_finds_the_better_stream_of_each_channel():
    torch.manual_seed(0)
    target = torch.randn(512, 2)
    noise = torch.tensor([[0.2, 1.0], [1.0, 0.2]])
    streams = [target + scale * torch.randn_like(target) for scale in noise]
    weights = fit(StreamFusion((2, 2), mode="elementwise"), streams, target)[1]
    assert (weights[0] / weights.sum(0)).tolist() == pytest.approx([0.96, 0.04], abs=0.05)


def test_attention_finds_the_better_stream_of_each_item():
    """Which stream is good differs by item, and both streams together show it."""
    torch.manual_seed(0)
    target = torch.randn(512, 2)
    first = torch.rand(512) < 0.5
    scales = torch.where(first, 0.1, 3.0), torch.where(first, 3.0, 0.1)
    streams = [target + scale[:, None] * torch.randn_like(target) for scale in scales]
    hint = torch.where(first, 1.0, 0.0)[:, None]
    streams = [torch.cat([stream, hint], 1) for stream in streams]
    weights = fit(StreamFusion((3, 3), mode="attention"), streams, torch.cat([target, hint], 1))[1]
    assert float(weights[0, first].mean()) > 0.9
    assert float(weights[1, ~first].mean()) > 0.9


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_module(mode, dtype):
    fusion = make_fusion(mode, dtype=dtype)
    streams = [stream.requires_grad_() for stream in make_streams(dtype=dtype)]
    fused, weights = fusion(streams, return_weights=True)
    assert fused.dtype == dtype
    assert weights.dtype == (torch.float32 if mode in DISTRIBUTIONS else dtype)
    fused.float().mean().backward()  # of a size that float16 holds
    for each in (*streams, *fusion.parameters()):
        assert each.grad.dtype == dtype
        assert each.grad.isfinite().all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("in_dims", "dim"), [(WIDTHS, DIM), ((3, 3), None)])
def test_autocast_weighs_in_float32(mode, in_dims, dim):
    fusion = make_fusion(mode, in_dims, dim, dtype=torch.float32)
    streams = make_streams((50,), in_dims, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused, weights = fusion(streams, return_weights=True)
        projected = [
            project(x).double() for project, x in zip(fusion.projections, streams, strict=True)
        ]
    assert fused.dtype == torch.float32
    # Given the weights and what is weighed, nothing is rounded to half precision any more. The
    # terms may cancel, so their rounding is measured by their size.
    terms = spread(weights, mode, fused).double() * torch.stack(projected)
    assert ((fused.double() - terms.sum(0)).abs() <= 1e-6 * terms.abs().sum(0)).all()
    if mode in DISTRIBUTIONS:
        assert weights.dtype == torch.float32
        assert_close(weights.sum(0), torch.ones_like(weights[0]), rtol=0, atol=1e-6)
    fused.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in fusion.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_autocast_takes_half_precision_streams(mode):
    fusion = make_fusion(mode, dtype=torch.float32)
    streams = make_streams(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fusion([streams[0].bfloat16(), *streams[1:]]).dtype == torch.float32
        with pytest.raises(ValueError, match=r"stream 1 as torch.float32 .* got torch.float64"):
            fusion([streams[0], streams[1].double(), streams[2]])
        with pytest.raises(ValueError, match=r"stream 2 as torch.float32 .* got torch.int64"):
            fusion([*streams[:2], streams[2].long()])


def test_extreme_scores():
    for mode, layer in (("convex", "logits"), ("attention", "score.bias")):
        fusion = make_fusion(mode, (3, 3), None, dtype=torch.float32)
        with torch.no_grad():
            fusion.get_parameter(layer).copy_(torch.tensor([1e4, -1e4]))
        streams = make_streams((4,), (3, 3), dtype=torch.float32)
        fused = fusion(streams)
        assert torch.equal(fused, streams[0])
        fused.sum().backward()
        assert all(p.grad.isfinite().all() for p in fusion.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_state_dict_and_pickle_round_trip(mode):
    fusion = make_fusion(mode)
    streams = make_streams()
    other = make_fusion(mode, seed=1)
    other.load_state_dict(fusion.state_dict())
    for copy in (other, pickle.loads(pickle.dumps(fusion))):
        assert torch.equal(copy(streams), fusion(streams))


@pytest.mark.parametrize("mode", MODES)
def test_one_graph_without_breaks(mode):
    fusion = make_fusion(mode)
    streams = make_streams()
    compiled = torch.compile(fusion, backend="eager", fullgraph=True)
    fused, weights = compiled(streams, return_weights=True)
    expected, expected_weights = fusion(streams, return_weights=True)
    assert_close(fused, expected)
    assert_close(weights, expected_weights)


def test_print_tells_widths_and_mode():
    assert "in_dims=(4, 2), dim=5, mode=convex" in repr(StreamFusion([4, 2], 5, "convex"))


A, B, C = make_streams((2, 6), dtype=torch.float32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("streams", "message"),
    [
        ([A, B], r"3 streams, of widths \[4, 2, 3\] \(in_dims\), got 2"),
        ([A, B, C, C], "3 streams, .* got 4"),
        ([], "3 streams, .* got 0"),
        ([A, C, C], r"stream 1 of shape \(\.\.\., 2\) \(in_dims\), got \(2, 6, 3\)"),
        ([torch.tensor(1.0), B, C], r"stream 0 of shape \(\.\.\., 4\) \(in_dims\), got \(\)"),
        ([A, B, C[:, :5]], r"leading shape \(2, 6\) in stream 0 and \(2, 5\) in stream 2"),
        ([A, B[:1], C], r"leading shape \(2, 6\) in stream 0 and \(1, 6\) in stream 1"),
        ([A, B, C.reshape(4, 3, 3)], r"shape \(2, 6\) in stream 0 and \(4, 3\) in stream 2"),
        ([A, B, C[0]], r"leading shape \(2, 6\) in stream 0 and \(6,\) in stream 2"),
        ([A, B.double(), C], "stream 1 as torch.float32 on cpu .* got torch.float64"),
        ([A, B, C.long()], "stream 2 as torch.float32 on cpu .* got torch.int64"),
        ([A.to("meta"), B, C], "stream 0 as .* on cpu like the weights, got torch.float32 on meta"),
    ],
)
def test_what_does_not_fit_is_refused(mode, streams, message):
    with pytest.raises(ValueError, match=message):
        make_fusion(mode, dtype=torch.float32)(streams)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("in_dims", "dim", "message"),
    [
        ((), None, "at least one stream, got none"),
        ((4, 0), 2, r"in_dims of at least 1, got \[4, 0\]"),
        ((4, -1), None, r"in_dims of at least 1, got \[4, -1\]"),
        ((4, 4), 0, "dim of at least 1, got 0"),
        ((4, 2), None, r"equal width where dim is None, got in_dims \[4, 2\]; give dim"),
    ],
)
def test_what_cannot_be_built_is_refused(mode, in_dims, dim, message):
    with pytest.raises(ValueError, match=message):
        StreamFusion(in_dims, dim, mode)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"one of \['scalar', .* 'attention'\], got 'mean'"):
        StreamFusion((3, 3), mode="mean")
