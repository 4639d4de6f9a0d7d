"""Attention sampling: a network that looks at few patches of a large image."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from milforge.sampling.expectation import (
    Estimator,
    Expectation,
    as_features,
    weighted_sum,
)
from milforge.sampling.locations import (
    as_indices,
    attention_probabilities,
    check_map,
    sample_locations,
    top_locations,
)
from milforge.sampling.offsets import check_size
from milforge.sampling.patches import as_float
from milforge.sampling.placement import Placement
from milforge.sampling.sample_patches import patches_at
from milforge.sampling.source import ImageSource
from milforge.sampling.tissue import Tissue, masked_attention, tissue_cells

Inference = Literal["sample", "topk", "full"]

# Out of training every image is looked at with these same random numbers.
_SEED = 0


class AttentionSamplingOutput(NamedTuple):
    """What `AttentionSampling` gives."""

    features: Tensor
    attention: Tensor
    patches: Tensor


class AttentionSampling(nn.Module):
    """Expected features of an image under an attention over its patches, from a few of them.

    The attention network looks at the low-resolution image and gives a map of probabilities.
    Cells are drawn from it, the patches there are cut out of the high-resolution image, and the
    feature network sees only those (Katharopoulos and Fleuret 2019, arXiv:1905.03711).

    Out of training (`eval()`), `inference` decides:

    - `sample`: as in training, but unless `seeds` are given with the same random numbers for every
      image, so that a result is reproducible and depends on no other image, nor on the device;
    - `topk`: the `n_patches` most probable patches, weighted by their attention, scaled to a sum
      of 1. Nothing is random; what lies outside of them is left out;
    - `full`: the exact expectation over all cells, `n_patches` at a time. For small images, and
      to measure what sampling costs.

    Args:
        attention: from `(B, C, H, W)` to an attention `(B, h, w)`, not negative: the low-resolution
            image to a map, of any size. A map is divided by its sum.
        feature: from `(B * n, C, ph, pw)` to `(B * n, ...)`: patches to their features.
        patch_size: height and width of a patch. None: those of the low-resolution image.
        n_patches: patches to be drawn of each image.
        replace: whether a patch may be drawn again. If in doubt leave it False.
        attention_regularizer: from the attention to a term that the loss adds, such as
            `MultinomialEntropy`.
        receptive_field: as `patch_offsets` takes it; 0 for padded convolutions.
        estimator: `unordered`, `ordered` or `published`, as `expectation` explains them.
        inference: `sample`, `topk` or `full`.
        inside: whether patches at the edge are moved into the image; else there is 0 beyond it.
        tissue: which patches of a slide may be looked at; the attention is 0 at the others. None:
            all.
        patch_um: height of a patch in micrometres, its width follows: what sources have of it is
            scaled to `patch_size`. None: a pixel of a patch is one of the image.

    Raises:
        ValueError: for an unknown estimator or inference, n_patches below 1, a patch size that
            is not a height and a width of at least 1, or a patch_um that is not above 0.

    Example:
        >>> attention = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Flatten(1), nn.Softmax(1))
        >>> model = AttentionSampling(
        ...     lambda x: attention(x).reshape(-1, 10, 10), nn.Flatten(1), (5, 5), n_patches=4
        ... )
        >>> features, attention_map, patches = model(
        ...     torch.rand(2, 1, 10, 10), torch.rand(2, 1, 100, 100)
        ... )
        >>> features.shape, attention_map.shape, patches.shape
        (torch.Size([2, 25]), torch.Size([2, 10, 10]), torch.Size([2, 4, 1, 5, 5]))
    """

    def __init__(
        self,
        attention: Callable[[Tensor], Tensor],
        feature: Callable[[Tensor], Tensor],
        patch_size: Sequence[int] | None = None,
        n_patches: int = 10,
        replace: bool = False,
        attention_regularizer: Callable[[Tensor], Tensor] | None = None,
        receptive_field: int = 0,
        *,
        estimator: Estimator = "unordered",
        inference: Inference = "sample",
        inside: bool = False,
        tissue: Tissue | None = None,
        patch_um: float | None = None,
    ) -> None:
        super().__init__()
        if n_patches < 1:
            raise ValueError(f"expected n_patches of at least 1, got {n_patches}")
        if inference not in get_args(Inference):
            raise ValueError(
                f"expected inference to be one of {list(get_args(Inference))}, got {inference!r}"
            )
        if patch_size is not None:
            check_size("patch_size", patch_size)
        if patch_um is not None and not 0 < patch_um < float("inf"):
            raise ValueError(f"expected patch_um above 0 micrometres, got {patch_um}")
        self.attention = attention
        self.feature = feature
        self.patch_size = None if patch_size is None else (patch_size[0], patch_size[1])
        self.n_patches = n_patches
        self.attention_regularizer = attention_regularizer
        self.receptive_field = receptive_field
        self.inference: Inference = inference
        self.inside = inside
        self.tissue = tissue
        self.patch_um = patch_um
        self.expectation = Expectation(replace, estimator)

    def forward(
        self,
        x_low: Tensor,
        x_high: Tensor | Sequence[ImageSource],
        *,
        seeds: Tensor | Sequence[int] | None = None,
    ) -> AttentionSamplingOutput:
        """Features of each image, its attention map, and the patches that were looked at.

        Args:
            x_low: `(B, C, H, W)`, the low-resolution images, float or uint8.
            x_high: `(B, C, H', W')`, the high-resolution images, float or uint8, which is scaled
                to [0, 1] after the cut; may be in host memory while the rest is on a GPU. Or `B`
                sources, of any sizes, of which only the patches are read.
            seeds: `(B,)` integers, as `locate` takes them.

        Returns:
            `features` `(B, ...)`; `attention` `(B, h, w)` as the network gave it, or as
            `masked_attention` makes of it; `patches` `(B, n, C, ph, pw)`, those of `locate`.

        Raises:
            ValueError: where the shapes do not fit each other, or as `sample_locations`,
                `read_patches` and `window_size`.
            OSError: where a source cannot be read; names file and window.
        """
        if x_low.ndim != 4:
            raise ValueError(
                f"expected low-resolution images of shape (B, C, H, W), got {tuple(x_low.shape)}"
            )
        x_low = as_float(x_low, torch.get_default_dtype())
        attention = self.attention(x_low)
        allowed = self.allowed(attention, x_low, x_high)
        if allowed is not None:
            attention = masked_attention(attention, allowed)
        indices, probabilities = self.locate(attention, seeds=seeds)
        patches = self._cut(indices, attention, x_low, x_high)
        if self.training or self.inference == "sample":
            features = self.expectation(self._features(patches), probabilities)
        elif self.inference == "topk":
            found = self._features(patches)
            weights = probabilities / probabilities.sum(1, keepdim=True)
            features = as_features(weighted_sum(found, weights), found.dtype)
        else:
            features = self._full(attention, x_low, x_high)
        return AttentionSamplingOutput(features, attention, patches)

    @torch.no_grad()
    def allowed(
        self, attention: Tensor, x_low: Tensor, x_high: Tensor | Sequence[ImageSource]
    ) -> Tensor | None:
        """The cells of a map `(B, h, w)` whose patches hold enough tissue.

        Returns:
            `(B, h, w)` bool, as `tissue_cells`; None where patches may lie anywhere.

        Raises:
            ValueError: as `forward`.
        """
        views = as_float(x_low, torch.get_default_dtype())
        mask = None if self.tissue is None else self.tissue(views)
        if self.tissue is None or mask is None:
            return None
        check_map(attention, 1)
        size = (attention.shape[1], attention.shape[2])
        return tissue_cells(mask, size, x_low, x_high, self.placement(x_low), self.tissue.least)

    def placement(self, x_low: Tensor) -> Placement:
        """How patches lie in images with these views."""
        size = self.patch_size or (x_low.shape[2], x_low.shape[3])
        return Placement(size, self.receptive_field, self.inside, self.patch_um)

    def locate(
        self, attention: Tensor, *, seeds: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The cells that `forward` looks at for this attention; new ones in training without seeds.

        With `inference="full"` it looks at all; these are the most probable of them, at most
        `n_patches`.

        Args:
            attention: `(B, h, w)`.
            seeds: `(B,)` integers. The cells of image b are drawn, in training as out of it, with
                a generator on the CPU that starts from `seeds[b]`: they depend on no other image,
                nor on rank or device. `topk` and `full` draw nothing.

        Returns:
            `indices` `(B, n, 2)` int64 and `probabilities` `(B, n)`, as `sample_locations`.

        Raises:
            ValueError: as `sample_locations`, or for another number of seeds than maps.
        """
        replace = self.expectation.replace
        if isinstance(seeds, Tensor):
            seeds = seeds.tolist()
        if seeds is not None and len(seeds) != len(attention):
            raise ValueError(
                f"expected a seed for each of {len(attention)} attention maps, got {len(seeds)}"
            )
        if not self.training and self.inference == "topk":
            return top_locations(attention, self.n_patches)
        if not self.training and self.inference == "full":
            check_map(attention, 1)
            cells = attention.shape[1] * attention.shape[2]
            return top_locations(attention, min(self.n_patches, cells))
        if seeds is None and self.training:
            return sample_locations(attention, self.n_patches, replace=replace)
        check_map(attention, self.n_patches, replace=replace)
        drawn = [
            sample_locations(
                each,
                self.n_patches,
                replace=replace,
                generator=torch.Generator().manual_seed(seed),
            )
            for each, seed in zip(
                torch.split(attention, 1), seeds or [_SEED] * len(attention), strict=True
            )
        ]
        indices, probabilities = zip(*drawn, strict=True)
        return torch.cat(indices), torch.cat(probabilities)

    def penalty(self, attention: Tensor) -> Tensor:
        """The regulariser's term for these maps, 0-dim, to be added to the loss; 0 without one.

        It is given their probabilities: a map is divided by its sum.
        """
        if self.attention_regularizer is None:
            return attention.new_zeros(())
        return self.attention_regularizer(attention_probabilities(attention))

    def extra_repr(self) -> str:
        """The arguments that are no modules, for `print`."""
        return (
            f"patch_size={self.patch_size}, n_patches={self.n_patches}, "
            f"receptive_field={self.receptive_field}, inference={self.inference}, "
            f"inside={self.inside}, tissue={self.tissue}, patch_um={self.patch_um}"
        )

    def _cut(
        self,
        indices: Tensor,
        attention: Tensor,
        x_low: Tensor,
        x_high: Tensor | Sequence[ImageSource],
    ) -> Tensor:
        map_size = (attention.shape[1], attention.shape[2])
        return patches_at(indices, map_size, x_low, x_high, self.placement(x_low))

    def _features(self, patches: Tensor) -> Tensor:
        """Features `(B, n, ...)` of patches `(B, n, C, ph, pw)`."""
        features = self.feature(patches.flatten(0, 1))
        return features.reshape(*patches.shape[:2], *features.shape[1:])

    def _full(
        self, attention: Tensor, x_low: Tensor, x_high: Tensor | Sequence[ImageSource]
    ) -> Tensor:
        weights = attention_probabilities(attention).flatten(1)
        cells = torch.arange(weights.shape[1], device=attention.device)
        indices = as_indices(cells, attention.shape[2]).expand(len(attention), -1, -1)
        total = None
        for some, part in zip(
            torch.split(indices, self.n_patches, 1),
            torch.split(weights, self.n_patches, 1),
            strict=True,
        ):
            features = self._features(self._cut(some, attention, x_low, x_high))
            partial = weighted_sum(features, part)
            total = partial if total is None else total + partial
        assert total is not None  # a map has cells
        return as_features(total, features.dtype)
