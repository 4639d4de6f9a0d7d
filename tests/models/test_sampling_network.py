"""The whole network of attention sampling is the sum of its parts."""

from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from every_task import KINDS, make_task, num_outputs
from milforge.data import ImageBatch, LargeImage, TensorSource, collate_images
from milforge.data.images.sources import LevelSource
from milforge.models import BagOutput, SamplingNetwork
from milforge.nn import AttentionCNN, PatchCNN
from milforge.sampling import AttentionSampling, MultinomialEntropy, Tissue

HIGH = [(70, 90), (64, 64), (101, 77)]  # of different sizes, as slides are


def make_batch(channels=1, sizes=HIGH, dtype=torch.uint8, seeds=None):
    generator = torch.Generator().manual_seed(1)
    images = []
    for i, size in enumerate(sizes):
        high = torch.randint(256, (channels, *size), generator=generator, dtype=torch.uint8)
        source = TensorSource(high if dtype == torch.uint8 else high.to(dtype) / 255, f"image {i}")
        low = torch.rand(channels, 12, 10, generator=generator)
        images.append(LargeImage(low, source, i % 2, f"image {i}"))
    batch = collate_images(images)
    seeds = None if seeds is None else torch.tensor(seeds)
    return ImageBatch(batch.x_low, batch.x_high, batch.y, batch.bag_id, seeds)


def make_network(channels=1, num_outputs=3, **options):
    torch.manual_seed(0)
    options = {"patch_size": (15, 14), "n_patches": 4, **options}
    return SamplingNetwork(
        (channels,),
        num_outputs,
        attention=partial(AttentionCNN, hidden=(4,)),
        feature=partial(PatchCNN, width=6),
        **options,
    )


@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
@pytest.mark.parametrize("estimator", ["unordered", "ordered", "published"])
def test_it_is_attention_sampling_then_a_linear_head(inference, estimator):
    network = make_network(2, inference=inference, estimator=estimator, entropy=0.3).eval()
    batch = make_batch(2, seeds=[3, 1, 4])
    out = network(batch)
    assert isinstance(out, BagOutput)
    by_hand = AttentionSampling(
        network.sampling.attention,
        network.sampling.feature,
        (15, 14),
        4,
        estimator=estimator,
        inference=inference,
    ).eval()
    features, attention, patches = by_hand(batch.x_low, batch.x_high, seeds=batch.seeds)
    head = network.head
    torch.testing.assert_close(out.logits, features @ head.weight.T + head.bias)
    assert torch.equal(out.details["attention"], attention)
    assert torch.equal(out.details["patches"], patches)
    torch.testing.assert_close(out.penalty, MultinomialEntropy(0.3)(attention))


def test_without_a_regulariser_the_penalty_is_zero():
    out = make_network()(make_batch())
    assert out.penalty.shape == ()
    assert out.penalty == 0


def test_the_entropy_of_attention_is_told_and_logged():
    network = make_network()
    out = network(make_batch())
    attention = out.details["attention"].detach()
    told = out.details["attention_entropy"]
    expected = scipy.stats.entropy(attention.flatten(1).numpy(), axis=1)
    np.testing.assert_allclose(told, expected, rtol=1e-5)
    assert not told.requires_grad
    assert network.logged == ("attention_entropy",)
    assert told.shape == (3,)  # what is logged is one number per image


def test_where_it_looked_is_told_out_of_training_alone():
    network, batch = make_network(), make_batch(seeds=[4, 5, 6])
    out = network(batch)
    assert list(out.details) == ["attention", "attention_entropy", "patches"]
    assert out.scores is None
    out = network.eval()(batch)
    places = ["offsets", "windows", "coords", "weights"]
    assert list(out.details) == ["attention", "attention_entropy", "patches", *places]
    offsets, probabilities = network.places(batch, out.details["attention"])
    assert torch.equal(out.details["offsets"], offsets)
    assert out.details["windows"].tolist() == [[15, 14]] * 3
    assert torch.equal(out.details["weights"], probabilities)
    assert torch.equal(out.details["coords"], offsets.flip(2).float())  # x before y
    assert torch.equal(out.scores, probabilities.log().flatten())
    assert not out.scores.requires_grad


def test_coords_are_those_of_the_full_resolution():
    image = torch.randint(256, (1, 80, 60), dtype=torch.uint8)

    class Pyramid(TensorSource):
        """Of two levels: the second has half as many pixels in a row and in a column."""

        levels = ((160, 120), (80, 60))

        def read(self, offsets, size, level=0):
            assert level == 1
            return super().read(offsets, size)

    network = make_network(n_patches=3).eval()
    low = torch.rand(1, 12, 10)
    plain, level = (
        network(collate_images([LargeImage(low, source, 0, "a")])).details
        for source in (TensorSource(image, "a"), LevelSource(Pyramid(image, "a"), 1))
    )
    assert torch.equal(plain["offsets"], level["offsets"])
    assert torch.equal(plain["patches"], level["patches"])
    assert torch.equal(2 * plain["coords"], level["coords"])


def test_patches_of_a_size_in_micrometres():
    """The same slide scanned twice as finely is looked at as it was: pixels are repeated."""
    low = torch.rand(1, 12, 10)
    coarse = torch.randint(256, (1, 90, 70), dtype=torch.uint8)
    coarse[:] = coarse[:, :1, :1]  # of one grey, so that scaling it changes nothing
    fine = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)
    images = [
        LargeImage(low, TensorSource(image, name, mpp), 0, name)
        for image, name, mpp in ((coarse, "coarse", 0.5), (fine, "fine", 0.25))
    ]
    network = make_network(patch_um=7.5, inside=True).eval()
    out = network(collate_images(images))
    assert out.details["windows"].tolist() == [[15, 14], [30, 28]]
    one, other = out.details["offsets"]
    assert (2 * one - other).abs().max() <= 1  # where it lies is rounded
    torch.testing.assert_close(out.logits[0], out.logits[1])
    for source, offsets, (height, width) in zip(
        (coarse, fine), out.details["offsets"], ((15, 14), (30, 28)), strict=True
    ):
        assert (offsets >= 0).all()
        assert (offsets <= torch.tensor(source.shape[1:]) - torch.tensor([height, width])).all()


def test_images_without_a_resolution_are_refused_where_it_is_needed():
    sources = [
        TensorSource(torch.zeros(1, 40, 40), "a", 0.5),
        TensorSource(torch.zeros(1, 9, 9), "b"),
    ]
    make_network().check_sources(sources)
    network = make_network(patch_um=7.5)
    network.check_sources(sources[:1])
    with pytest.raises(ValueError, match=r"^b: expected an image that says"):
        network.check_sources(sources)
    with pytest.raises(
        ValueError, match=r"^batch of images image 0, .*: image 0: expected an image"
    ):
        network(make_batch())
    with pytest.raises(ValueError, match="patch_um above 0 micrometres, got 0"):
        make_network(patch_um=0)


def test_of_slides_it_says_which_cells_may_be_looked_at():
    """The upper half of each view is glass."""
    low = torch.full((3, 12, 10), 0.95)
    low[:, 6:] = torch.tensor([0.8, 0.5, 0.7])[:, None, None]
    high = low.repeat_interleave(10, 1).repeat_interleave(10, 2)
    batch = collate_images([LargeImage(low, TensorSource(high, "slide"), 0, "slide")])
    network = make_network(3, tissue=Tissue(least=0.5), patch_size=(20, 20)).eval()
    out = network(batch)
    (allowed,) = out.details["allowed"]
    # A patch is centred on its cell, of 10 x 10: that of row 6 is a quarter glass, of 5 a quarter
    # tissue. It is half beyond the border on the right and left, where there is none.
    assert not allowed[:6].any()
    assert allowed[6:11, 1:9].all()
    assert torch.equal(out.details["attention"][0] > 0, allowed)
    assert (out.details["weights"] > 0).all()
    assert out.scores.isfinite().all()
    assert out.details["attention_entropy"] <= np.log(int(allowed.sum())) + 1e-5
    assert "allowed" not in make_network(1, tissue=Tissue()).eval()(make_batch()).details


@pytest.mark.parametrize("num_outputs", [1, 2, 5])
def test_outputs_and_gradients(num_outputs):
    network = make_network(num_outputs=num_outputs, entropy=0.1)
    out = network(make_batch())
    assert out.logits.shape == (3, num_outputs)
    assert out.details["attention"].shape == (3, 12, 10)
    assert out.details["patches"].shape == (3, 4, 1, 15, 14)
    (out.logits.square().sum() + out.penalty).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def cut(source, place, size):
    """A patch of an image in memory, pixel by pixel, zero outside."""
    channels, height, width = source.shape
    patch = torch.zeros(channels, *size)
    for y in range(size[0]):
        for x in range(size[1]):
            row, column = int(place[0]) + y, int(place[1]) + x
            if 0 <= row < height and 0 <= column < width:
                patch[:, y, x] = source.image[:, row, column] / 255
    return patch


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
@pytest.mark.parametrize("seeds", [None, [5, 5, 6]])
def test_places_are_where_it_looked(inference, seeds, replace):
    network = make_network(inference=inference, replace=replace).eval()
    batch = make_batch(seeds=seeds)
    out = network(batch)
    offsets, probabilities = network.places(batch, out.details["attention"])
    assert offsets.shape == (3, 4, 2)
    assert offsets.dtype == torch.int64
    for i, source in enumerate(batch.x_high):
        for place, patch in zip(offsets[i], out.details["patches"][i], strict=True):
            torch.testing.assert_close(patch, cut(source, place, (15, 14)))
    # Each probability is that of the cell whose centre lies under the patch's.
    for i, (height, width) in enumerate(HIGH):
        rows = ((offsets[i, :, 0] + 7.5) * 12 / height).long()
        columns = ((offsets[i, :, 1] + 7) * 10 / width).long()
        torch.testing.assert_close(probabilities[i], out.details["attention"][i, rows, columns])
    assert not probabilities.requires_grad


def test_places_in_training_need_seeds():
    """With them, training and evaluation look at the same places."""
    network, batch = make_network(), make_batch(seeds=[5, 7, 6])
    out = network(batch)
    offsets, _ = network.places(batch, out.details["attention"])
    torch.testing.assert_close(
        out.details["patches"][2, 1], cut(batch.x_high[2], offsets[2, 1], (15, 14))
    )
    assert torch.equal(network.eval()(batch).details["patches"], out.details["patches"])


def test_unpadded_attention_and_its_receptive_field():
    """A valid convolution of 3 x 3 loses a pixel on each side."""

    class Valid(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.Conv2d(channels, 1, 3)

        def forward(self, x):
            return self.conv(x)[:, 0].flatten(1).softmax(1).reshape(len(x), 10, 8)

    torch.manual_seed(0)
    network = SamplingNetwork(
        (1,),
        2,
        attention=Valid,
        feature=partial(PatchCNN, width=4),
        patch_size=(13, 13),
        receptive_field=2,
    ).eval()
    batch = make_batch(sizes=[(120, 100)])
    out = network(batch)
    offsets, probabilities = network.places(batch, out.details["attention"])
    # The scale is 10: cell (i, j) is centred at pixel (i + 1.5, j + 1.5) of the view.
    centres = (offsets[0] + 6.5) / 10 - 1
    cells = centres.long()
    torch.testing.assert_close(
        probabilities[0], out.details["attention"][0, cells[:, 0], cells[:, 1]]
    )
    torch.testing.assert_close(
        out.details["patches"][0, 3], cut(batch.x_high[0], offsets[0, 3], (13, 13))
    )


def test_a_patch_without_a_size_has_that_of_the_view():
    network = SamplingNetwork(
        (1,), 2, attention=AttentionCNN, feature=lambda channels: Mean(), n_patches=3
    ).eval()
    batch = make_batch()
    out = network(batch)
    assert out.details["patches"].shape == (3, 3, 1, 12, 10)
    offsets, _ = network.places(batch, out.details["attention"])
    torch.testing.assert_close(
        out.details["patches"][1, 2], cut(batch.x_high[1], offsets[1, 2], (12, 10))
    )


class Mean(nn.Module):
    """The mean of a patch as its feature."""

    out_dim = 1

    def forward(self, x):
        return x.flatten(1).mean(1, keepdim=True)


@pytest.mark.parametrize("training", [True, False])
def test_an_image_does_not_feel_the_others(training):
    network = make_network().train(training)
    batch = make_batch(seeds=[9, 8, 7])
    together = network(batch)
    for i in range(3):
        one = ImageBatch(
            batch.x_low[i : i + 1],
            batch.x_high[i : i + 1],
            batch.y[i : i + 1],
            batch.bag_id[i : i + 1],
            batch.seeds[i : i + 1],
        )
        alone = network(one)
        torch.testing.assert_close(alone.logits, together.logits[i : i + 1])
        assert torch.equal(alone.details["patches"], together.details["patches"][i : i + 1])


def test_seeds_decide_what_is_looked_at():
    network, same = make_network(), make_batch(sizes=[(80, 80)] * 3)
    x_low, source = same.x_low[:1].expand(3, -1, -1, -1), same.x_high[0]
    batch = ImageBatch(x_low, [source] * 3, None, ["a", "b", "c"], torch.tensor([1, 1, 2]))
    patches = network(batch).details["patches"]
    assert torch.equal(patches[0], patches[1])
    assert not torch.equal(patches[0], patches[2])
    # In training without seeds every look is another one.
    free = ImageBatch(x_low, [source] * 3, None, ["a", "b", "c"])
    assert not torch.equal(network(free).details["patches"], network(free).details["patches"])
    assert torch.equal(network.eval()(free).details["patches"], network(free).details["patches"])


def test_float_images_are_taken_as_they_are():
    network = make_network().eval()
    bytes_, floats = (make_batch(dtype=dtype) for dtype in (torch.uint8, torch.float32))
    torch.testing.assert_close(network(bytes_).logits, network(floats).logits)


def test_dropout_acts_on_the_features_of_images_while_training():
    network, batch = make_network(dropout=0.5), make_batch(seeds=[1, 2, 3])
    first, second = network(batch), network(batch)
    assert torch.equal(first.details["patches"], second.details["patches"])
    assert not torch.equal(first.logits, second.logits)
    network.eval()
    assert torch.equal(network(batch).logits, network(batch).logits)


def test_autocast_gives_finite_logits_and_a_map_of_float32():
    network, batch = make_network(entropy=0.1).eval(), make_batch(seeds=[1, 2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        out = network(batch)
    assert out.details["attention"].dtype == torch.float32
    torch.testing.assert_close(out.logits.float(), network(batch).logits, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(("built", "given"), [(1, 3), (3, 1)])
def test_images_of_other_channels_are_refused(built, given):
    message = f"expected images of {built} channels, for which the network was built, got {given}"
    with pytest.raises(ValueError, match=message):
        make_network(built)(make_batch(given))


@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
def test_errors_of_sampling_name_the_images(inference):
    network, batch = make_network(inference=inference).eval(), make_batch()
    for weights in network.sampling.attention.parameters():
        weights.data.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"^batch of images image 0, image 1, image 2: .*NaN"):
        network(batch)


def test_it_says_what_it_takes():
    assert SamplingNetwork.batch_type is ImageBatch


def test_state_dict_round_trip():
    network, twin = make_network().eval(), make_network().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    batch = make_batch()
    assert not torch.equal(twin(batch).logits, network(batch).logits)
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin(batch).logits, network(batch).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_teaches_it(kind):
    task, y = make_task(kind)
    network = make_network(num_outputs=num_outputs(kind))
    output = network(make_batch(seeds=[3, 1, 4]))
    loss = task.loss(output.logits, task.target(y[: len(HIGH)])).sum() + output.penalty
    loss.backward()
    assert loss.isfinite()
    for name, parameter in (*network.named_parameters(), *task.named_parameters()):
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
