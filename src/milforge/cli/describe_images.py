"""What milforge-inspect prints of a folder of large images, line by line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from milforge.data.faults import Fault
from milforge.data.images.folder import find_images, open_images, unmatched
from milforge.data.images.sources.open import SLIDES, TIFFS
from milforge.sampling import ImageSource


def holds_images(root: Path) -> bool:
    """Whether a folder, or one in it, holds slides or TIFF files; arrays may be features."""
    known = (*TIFFS, *SLIDES)
    return root.is_dir() and any(path.suffix.lower() in known for path in root.rglob("*"))


def describe_images(
    root: Path, labelled: Sequence[str] | None, table: Path | None, labels: Sequence[str]
) -> tuple[list[str], list[Fault]]:
    """What was found, line by line, and what is wrong with it.

    Args:
        root: the folder.
        labelled: the names in the table of labels; None where there is none.
        table: the table.
        labels: lines on the labels.
    """
    paths, faults = find_images(root)
    images, broken = open_images(paths)
    faults += broken
    if labelled is not None and table is not None:
        named = [*paths, *(fault.bag_id for fault in faults)]
        faults += unmatched(named, labelled, table)
    lines = [f"{root}: images, {len(paths):,} found", *_of_images(images), *labels]
    lines.append(f"faults     {len(faults)} (headers read)")
    return lines + [f"  {fault}" for fault in faults], faults


def _of_images(images: Mapping[str, ImageSource]) -> list[str]:
    if not images:
        return []
    sizes = sorted(
        ((image.shape[2], image.shape[1]) for image in images.values()), key=lambda s: s[0] * s[1]
    )
    (w0, h0), (w1, h1) = sizes[0], sizes[-1]
    largest = "" if sizes[0] == sizes[-1] else f" to {w1:,} x {h1:,}"
    told = Counter(image.mpp for image in images.values())
    pixels = {
        "not told" if size is None else f"{size:.4g} µm": count for size, count in told.items()
    }
    return [
        f"sizes      {w0:,} x {h0:,}{largest} pixels, width x height",
        f"channels   {_tally(Counter(str(image.shape[0]) for image in images.values()))}",
        f"levels     {_tally(Counter(str(len(image.levels)) for image in images.values()))}",
        f"pixels     {_tally(Counter(pixels))}",
    ]


def _tally(kinds: Counter[str]) -> str:
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{kind} in {count:,}" for kind, count in kinds.most_common())
