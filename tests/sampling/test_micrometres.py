"""Patches of a size in micrometres show as much of every slide."""

import numpy as np
import pytest
import torch
from PIL import Image

from milforge.data import TensorSource
from milforge.data.images.sources import LevelSource, TolerantSource
from milforge.sampling import extract_patches
from milforge.sampling.micrometres import read_scaled, window_size
from milforge.sampling.placement import Placement
from milforge.sampling.sample_patches import patches_at


def picture(size=(90, 120), channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (channels, *size), generator=generator, dtype=torch.uint8)


class Pyramid(TensorSource):
    """The image, and every fourth row and column of it as a second level."""

    def __init__(self, image, mpp):
        super().__init__(image, "pyramid", mpp)
        self.asked = []

    @property
    def levels(self):
        height, width = self.shape[1:]
        return (height, width), (height // 4, width // 4)

    def read(self, offsets, size, level=0):
        self.asked.append((level, size))
        image = self.image[:, :: 4**level, :: 4**level]
        return extract_patches(image[None], offsets[None], size)[0]


@pytest.mark.parametrize(
    ("mpp", "patch_size", "patch_um", "expected"),
    [
        (0.25, (224, 224), 112.0, (448, 448)),
        (0.5, (224, 224), 112.0, (224, 224)),
        (1.0, (224, 112), 112.0, (112, 56)),
        (0.4990, (256, 256), 128.0, (257, 257)),
        (100.0, (10, 10), 1.0, (1, 1)),
        (None, (10, 20), None, (10, 20)),
    ],
)
def test_windows(mpp, patch_size, patch_um, expected):
    assert window_size(TensorSource(picture(), mpp=mpp), patch_size, patch_um) == expected


def test_an_image_that_does_not_say_is_refused():
    message = "slide 7: expected an image that says.*patches of 112, got one that does not"
    with pytest.raises(ValueError, match=message):
        window_size(TensorSource(picture(), "slide 7"), (224, 224), 112.0)
    with pytest.raises(ValueError, match=r"patches of 112 micrometres, got a tensor"):
        Placement((224, 224), patch_um=112.0).windows(picture()[None])


def test_levels_and_tolerant_sources_say_it_of_themselves():
    source = Pyramid(picture(), 0.25)
    assert LevelSource(source, 1).mpp == 1.0
    assert LevelSource(source, 0).mpp == 0.25
    assert TolerantSource(source).mpp == 0.25
    assert LevelSource(Pyramid(picture(), None), 1).mpp is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("window", [(40, 30), (10, 9), (23, 31), (20, 20)])
def test_patches_are_scaled_as_pillow_does(window, dtype):
    image, offsets = picture(), torch.tensor([[[3, 5], [-4, 70]]])
    found = read_scaled([TensorSource(image)], offsets, [window], (20, 20), dtype)
    assert found.dtype == dtype
    for patch, cut in zip(found[0], extract_patches(image[None], offsets, window)[0], strict=True):
        for channel, pixels in zip(patch, cut.numpy().astype(np.float32), strict=True):
            scaled = Image.fromarray(pixels).resize((20, 20), Image.Resampling.BILINEAR)
            np.testing.assert_allclose(channel, np.asarray(scaled) / 255, atol=1e-5)


def test_images_of_any_resolution_are_read_together():
    """Each is what it is alone, from a level that is fine enough."""
    sources = [Pyramid(picture(seed=i), mpp) for i, mpp in enumerate((0.1, 0.5, 0.1, 0.45))]
    placement = Placement((10, 10), patch_um=4.5)
    indices = torch.tensor([[[0, 1], [2, 2], [1, 0]]] * 4)
    views = torch.zeros(4, 3, 3, 3)
    found = patches_at(indices, (3, 3), views, sources, placement)
    assert found.shape == (4, 3, 3, 10, 10)
    # 45 pixels are 11 at the second level, 9 and 10 are there only at the first.
    assert [source.asked[0] for source in sources] == [
        (1, (11, 11)),
        (0, (9, 9)),
        (1, (11, 11)),
        (0, (10, 10)),
    ]
    for b, source in enumerate(sources):
        alone = patches_at(indices[[b]], (3, 3), views[:1], [source], placement)
        assert torch.equal(alone[0], found[b])
    plain = patches_at(indices[[3]], (3, 3), views[:1], [sources[3]], Placement((10, 10)))
    assert torch.equal(found[3:], plain)


def test_the_same_tissue_looks_the_same_at_any_resolution():
    """A ramp from left to right, scanned at three resolutions."""
    patches = []
    for mpp in (0.25, 0.5, 1.0):
        width = int(200 / mpp)
        micrometres = (torch.arange(width) + 0.5) * mpp
        source = TensorSource((micrometres / 200).expand(1, width, width).contiguous(), mpp=mpp)
        placement = Placement((16, 16), patch_um=32.0)
        views = torch.zeros(1, 1, 5, 5)
        patches.append(patches_at(torch.tensor([[[2, 1]]]), (5, 5), views, [source], placement))
    for each in patches[1:]:
        torch.testing.assert_close(each[..., 2:-2], patches[0][..., 2:-2], rtol=0, atol=5e-3)


def test_what_lies_inside_stays_inside_at_every_level():
    """Where corner and size, 17.5 and 5.5 of 23 pixels, are both rounded up: nothing is black."""
    source = Pyramid(torch.full((1, 92, 92), 255, dtype=torch.uint8), 0.25)
    placement = Placement((5, 5), inside=True, patch_um=5.5)
    indices = torch.tensor([[[i, j] for i in range(5) for j in range(5)]])
    found = patches_at(indices, (5, 5), torch.zeros(1, 1, 5, 5), [source], placement)
    assert source.asked[0][0] == 1
    torch.testing.assert_close(found, torch.ones_like(found))
