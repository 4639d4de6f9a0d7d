"""The slides behind the tiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from milforge.data.features.readers import bag_id_of
from milforge.data.images.sources import TensorSource, open_source
from milforge.data.images.sources.open import ARRAYS, SLIDES, TIFFS
from milforge.data.images.sources.resolution import micrometres_per_pixel
from milforge.maps.kinds import Floats
from milforge.maps.slide.pyramid import as_rgb
from milforge.sampling import ImageSource

PICTURES = (".png", ".jpg", ".jpeg")
MOST_PIXELS = 200_000_000  # of a PNG or JPEG, which is read whole
CUT = 224  # pixels of a tile that is cut out


@dataclass(frozen=True)
class Slide:
    """An open slide.

    Attributes:
        source: its pixels.
        mpp: micrometres of a pixel of level 0; None where unknown.
    """

    source: ImageSource
    mpp: float | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of level 0."""
        return self.source.shape[2], self.source.shape[1]

    def cut(self, corner: Floats, side: float) -> Image.Image:
        """A tile, of at most 224 pixels.

        Args:
            corner: `(2,)` x and y of its upper left corner, in pixels of level 0.
            side: in the same.

        Raises:
            OSError: where it cannot be read.
        """
        pixels = max(1, min(CUT, round(side)))
        full = self.source.levels[0][0]
        scales = [full / height for height, _ in self.source.levels]
        fine = [level for level, scale in enumerate(scales) if side / scale >= pixels * 0.99]
        level = fine[-1] if fine else 0
        x, y = np.rint(corner / scales[level]).astype(int).tolist()
        length = max(1, round(side / scales[level]))
        window = self.source.read(torch.tensor([[y, x]]), (length, length), level)
        return Image.fromarray(as_rgb(window[0])).resize((pixels, pixels), Image.Resampling.BOX)


def find_slides(folder: str | Path) -> dict[str, list[Path]]:
    """The images of a folder, and of the folders in it, by name without suffix.

    Of a slide and a PNG or JPEG of one name, such as its thumbnail, the slide counts.

    Raises:
        FileNotFoundError: where there is no such folder, or no image in it.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"slides={folder}: expected a folder of slides, found none")
    known = (*ARRAYS, *TIFFS, *SLIDES, *PICTURES)
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        inside = any(parent.suffix in ARRAYS for parent in path.parents)
        if path.suffix.lower() in known and not inside and not path.name.startswith("."):
            found.setdefault(bag_id_of(path.name.removesuffix(path.suffix)), []).append(path)
    if not found:
        raise FileNotFoundError(
            f"slides={folder}: expected images with one of the suffixes {', '.join(known)}, found "
            "none"
        )
    for name, paths in found.items():
        others = [path for path in paths if path.suffix.lower() not in PICTURES]
        found[name] = others or paths
    return found


def open_slide(found: Mapping[str, list[Path]], name: str, mpp: float | None = None) -> Slide:
    """The slide of a bag.

    Args:
        found: see `find_slides`.
        name: of the bag.
        mpp: micrometres of a pixel; None: as the file tells.

    Raises:
        ValueError: where there is none, or several.
        OSError: where it cannot be read.
    """
    paths = found.get(name, [])
    if not paths:
        raise ValueError("there is no slide of its name in the folder slides=")
    if len(paths) > 1:
        raise ValueError(
            f"there are several slides of its name, {' and '.join(str(p) for p in paths)}: leave "
            "one of them in the folder slides="
        )
    path = paths[0]
    if path.suffix.lower() in PICTURES:
        return Slide(_picture(path), mpp)
    source = open_source(path)
    return Slide(source, micrometres_per_pixel(path) if mpp is None else mpp)


def check_inside(slide: Slide, corners: Floats, side: float) -> None:
    """Checks that tiles lie on a slide; those at its border may stand out.

    Args:
        slide: the slide.
        corners: `(N, 2)` in pixels of level 0.
        side: of a tile, in the same.

    Raises:
        ValueError: where they do not.
    """
    low, high = corners.min(axis=0), corners.max(axis=0)
    # A tile of which nothing lies on the slide was cut from another one.
    if (low + side <= 0).any() or (high >= slide.size).any():
        width, height = slide.size
        raise ValueError(
            f"the slide has {width:,} x {height:,} pixels, and its tiles begin at up to "
            f"{high[0]:,.0f}, {high[1]:,.0f}: they were cut from another slide, or its coords are "
            "not in pixels of level 0"
        )


def _picture(path: Path) -> TensorSource:
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(
                    f"{path}: expected a picture of at most {MOST_PIXELS:,} pixels, got "
                    f"{picture.width} x {picture.height}: convert it to tiled TIFF"
                )
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise OSError(f"{path}: cannot be read ({error}): get it again") from error
    return TensorSource(torch.from_numpy(pixels.copy()).permute(2, 0, 1), str(path))
