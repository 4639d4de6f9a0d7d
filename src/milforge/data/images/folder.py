"""Large images on disk, with their labels in a table."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import get_worker_info

from milforge.data.faults import Fault
from milforge.data.features.label_table import read_labels
from milforge.data.features.readers import bag_id_of
from milforge.data.images.large_image import LargeImage
from milforge.data.images.sources import LevelSource, TolerantSource, low_resolution, open_source
from milforge.data.images.sources.low import view_size
from milforge.data.images.sources.open import ARRAYS, SLIDES, TIFFS
from milforge.data.images.sources.tolerant import unreadable
from milforge.data.parts import BagTable, check_on_error
from milforge.sampling import ImageSource

_THREADS = 8


class ImageFolder:
    """An `ImageDataset` of files, each read when it is asked for; patches of it even later.

    Args:
        images: the opened images by name, in order.
        low_size: height and width of the low-resolution views; None: by `low_scale`.
        low_scale: what the sides are multiplied by where there is no `low_size`; the images of a
            batch must then be of one size.

    """

    def __init__(
        self,
        images: Mapping[str, ImageSource],
        *,
        low_size: Sequence[int] | None = None,
        low_scale: float = 1 / 32,
    ) -> None:
        self.ids = tuple(images)
        self.sources = tuple(images.values())
        self.low_size = low_size
        self.low_scale = low_scale

    def __len__(self) -> int:
        """Number of images."""
        return len(self.ids)

    @property
    def labels(self) -> None:
        """A folder knows no labels: they come from a table."""
        return None

    def source(self, index: int) -> ImageSource:
        """The image of that number, of which nothing is read."""
        return self.sources[index]

    def __getitem__(self, index: int) -> LargeImage:
        """The image of that number, its low-resolution view read."""
        source = self.sources[index]
        known = unreadable[source.name]
        scale = self.low_scale if self.low_size is None else None
        low = low_resolution(source, size=self.low_size, scale=scale)
        # What a worker process counts, the process that writes the summary does not see.
        lost = unreadable[source.name] - known if get_worker_info() is not None else 0
        return LargeImage(low, source, None, self.ids[index], lost)


def image_folder(
    root: str,
    labels: str | None = None,
    *,
    id_column: str | None = None,
    label_column: str | Sequence[str] | None = None,
    group_column: str | None = None,
    censorship_column: str | None = None,
    low_size: Sequence[int] | None = None,
    low_scale: float = 1 / 32,
    level: int = 0,
    axes: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> BagTable[LargeImage]:
    """A folder of large images and a table of labels; only views and sampled patches are read.

    All images are opened here, by their headers.

    Args:
        root: the folder; images may lie in folders of it.
        labels: table with a row per image: CSV, TSV or Parquet. None where the images are only to
            be predicted.
        id_column: column of the image; see `milforge.data.read_labels`.
        label_column: column of the label, or several.
        group_column: column of the patient.
        censorship_column: column of `labels` in which 1 means that the time is censored.
        low_size: height and width of the low-resolution views; None: by `low_scale`.
        low_scale: what the sides are multiplied by where there is no `low_size`; images of
            different sizes then need batches of one.
        level: level of the pyramid that patches are cut from.
        axes: of `.npy` and `.zarr` arrays: HW, HWC or CHW; None finds out.
        on_error: `raise`, or `skip`: go on without images that cannot be opened, with windows that
            cannot be read as black ones; the summary of the run counts both.

    Raises:
        OSError: where there is no such folder or table, or no image.
        ValueError: as `read_labels` does.
    """
    check_on_error(on_error)
    unreadable.clear()  # of a job before this one, in the same process
    view: dict[str, Any] = {"low_size": low_size, "low_scale": low_scale}
    folder = Path(root).expanduser()
    paths, faults = find_images(folder)
    named = [*paths, *(fault.bag_id for fault in faults)]
    tolerant = on_error == "skip"
    images, broken = open_images(paths, level=level, axes=axes, tolerant=tolerant, **view)
    faults += broken
    everything = ImageFolder(images, **view)
    if labels is None:
        return BagTable(
            everything,
            everything.ids,
            faults=tuple(faults),
            on_error=on_error,
            source=folder,
        )
    table = read_labels(
        labels,
        id_column=id_column,
        label_column=label_column,
        group_column=group_column,
        censorship_column=censorship_column,
        strict=False,
    )
    faulty = {fault.bag_id for fault in table.faults}
    unlabelled = [name for name in named if name not in faulty]
    faults += [*table.faults, *unmatched(unlabelled, table.ids, table.source)]
    rows = [row for row, name in enumerate(table.ids) if name in images]
    return BagTable(
        ImageFolder({table.ids[row]: images[table.ids[row]] for row in rows}, **view),
        tuple(table.ids[row] for row in rows),
        None if table.labels is None else table.labels.take(rows),
        None if table.groups is None else tuple(table.groups[row] for row in rows),
        {name: [texts[row] for row in rows] for name, texts in table.columns.items()},
        places=tuple(table.places[row] for row in rows),
        faults=tuple(faults),
        on_error=on_error,
        source=table.source,
    )


def find_images(root: str | Path) -> tuple[dict[str, Path], list[Fault]]:
    """The large images of a folder and of the folders in it, by name without suffix.

    Returns:
        The images in the order of their names, and a fault for each that has the name of another:
        as nobody knows which of them a label means, none of that name is given.

    Raises:
        FileNotFoundError: where there is no such folder, or no image in it.
    """
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected a folder of images, found none: give data.root")
    known = (*ARRAYS, *TIFFS, *SLIDES)
    found: dict[str, Path] = {}
    faults = []
    for path in sorted(root.rglob("*")):
        # A Zarr array is a folder; what is in it is no image.
        inside = any(parent.suffix in ARRAYS for parent in path.parents)
        if path.suffix.lower() not in known or inside:
            continue
        name = bag_id_of(path.name.removesuffix(path.suffix))
        if name in found:
            message = f"expected a name of its own, got that of {found[name]}"
            faults.append(Fault(name, path, message, "rename or remove one of them"))
        else:
            found[name] = path
    if not found:
        raise FileNotFoundError(
            f"{root}: expected images with one of the suffixes {', '.join(known)}, found none"
        )
    for name in {fault.bag_id for fault in faults}:
        del found[name]
    return dict(sorted(found.items())), faults


def open_images(
    paths: Mapping[str, Path],
    *,
    level: int = 0,
    axes: str | None = None,
    tolerant: bool = False,
    low_size: Sequence[int] | None = None,
    low_scale: float = 1 / 32,
) -> tuple[dict[str, ImageSource], list[Fault]]:
    """Opens images by their headers, many at once.

    Args:
        paths: files by name.
        level: level of the pyramid that patches are cut from.
        axes: axes of arrays, as `ArraySource` takes them.
        tolerant: whether windows that cannot be read are black; see `TolerantSource`.
        low_size: height and width of the low-resolution views, as `ImageFolder` takes them.
        low_scale: what the sides are multiplied by where there is no `low_size`.

    Returns:
        The images that could be opened, in the order given, and a fault for each that could not,
        that is smaller than its view is to be, or that has other channels than most.
    """

    def attempt(name: str) -> ImageSource | Fault:
        try:
            source: ImageSource = open_source(paths[name], axes)
            source = TolerantSource(source) if tolerant else source
            source = LevelSource(source, level) if level else source
            view_size(source, low_size, None if low_size is not None else low_scale)
            return source
        except (OSError, ValueError) as error:
            text = str(error).removeprefix(f"{paths[name]}: ")
            return Fault(name, paths[name], text, "replace the file, or leave it out")

    with ThreadPoolExecutor(_THREADS) as pool:
        opened = dict(zip(paths, pool.map(attempt, paths), strict=True))
    faults = [each for each in opened.values() if isinstance(each, Fault)]
    images = {name: each for name, each in opened.items() if not isinstance(each, Fault)}
    channels = [image.shape[0] for image in images.values()]
    usual = max(set(channels), key=channels.count, default=0)
    for name, image in list(images.items()):
        if image.shape[0] != usual:
            message = f"expected {usual} channels, as most images have, got {image.shape[0]}"
            faults.append(Fault(name, paths[name], message, "convert it, or leave it out"))
            del images[name]
    return images, faults


def unmatched(images: Iterable[str], labelled: Iterable[str], table: Path) -> list[Fault]:
    """A fault for each image without a label and each label without an image."""
    images, labelled = set(images), set(labelled)
    return [
        *(
            Fault(name, table, f"expected a label for image {name!r}, got none", "add a row")
            for name in sorted(images - labelled)
        ),
        *(
            Fault(name, table, f"expected an image {name!r}, found no file", "remove the row")
            for name in sorted(labelled - images)
        ),
    ]
