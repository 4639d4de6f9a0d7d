"""What milforge-inspect prints of a folder of bags, line by line."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from milforge.data import Fault, LabelError, feature_moments
from milforge.data.faults import in_its_table
from milforge.data.features.inspection import Inspection
from milforge.data.features.label_table import LabelTable
from milforge.data.features.readers import BagReader
from milforge.data.features.readers.table import TableReader
from milforge.data.features.readers.table_columns import describe_columns
from milforge.data.features.same_bags import describe_same
from milforge.data.labels import Labels
from milforge.nn.standardise import hardly_varying
from milforge.tasks import Auto, Binary, Task

_BAR = 40  # characters of the longest bar
_STEPS = (1, 2, 5)  # of the sizes in a decade
_WIDTH = 100  # characters of a line of names


def describe(found: Inspection, labels: Sequence[str], step: Sequence[str] = ()) -> list[str]:
    """What was found, line by line.

    Args:
        found: the bags.
        labels: the lines on their labels.
        step: those on the memory of a training step.
    """
    reader, headers = found.reader, list(found.headers.values())
    lines = [f"{reader.root}: {reader.layout}, {_count(len(reader.ids), 'bag')}"]
    if headers:
        sizes = found.sizes()
        lines.append(
            f"instances  {sizes.sum():,} in all, {sizes.min():,} to {sizes.max():,} per bag, "
            f"median {sorted(sizes.tolist())[len(sizes) // 2]:,}"
        )
        lines += [f"  {line}" for line in histogram(sizes)]
        for stream in reader.streams:
            kinds = Counter(f"{h.widths[stream]} x {h.dtypes[stream]}" for h in headers)
            name = f" {stream}" if len(reader.streams) > 1 else ""
            lines.append(f"features{name}   {_tally(kinds)}")
        lines.append(f"memory     {memory([header.nbytes for header in headers], sizes)}")
        lines += step
        lines += _columns(reader)
        lines.append(f"coords     {_coords(found)}")
        known = sum(header.has_instance_labels for header in headers)
        lines.append(f"instance labels  {_of(known, len(headers))}")
    lines += labels
    if found.same:
        lines.append(f"same       features in {describe_same(found.same)}")
    reading = "all features read" if found.deep else "headers read: --deep looks for NaN"
    lines.append(f"faults     {len(found.faults)} ({reading})")
    return lines + [f"  {fault}" for fault in found.faults]


def memory(nbytes: Sequence[int], sizes: NDArray[np.int64]) -> str:
    """What the features of bags take in memory: all of them, the largest bag, and a batch.

    Args:
        nbytes: bytes of the features of each bag, as they are read.
        sizes: `(n,)` instances of each bag.

    Example:
        >>> memory([2_000_000, 4_000_000], np.array([1000, 2000]))
        '6.0 MB for all (loader.keep), 4.0 MB for the largest bag, 2.0 MB for 1,000 instances'
    """
    all_bytes = sum(nbytes)
    each = all_bytes / int(sizes.sum())
    return (
        f"{in_words(all_bytes)} for all (loader.keep), {in_words(max(nbytes))} for the largest "
        f"bag, {in_words(1000 * each)} for 1,000 instances"
    )


def in_words(nbytes: float) -> str:
    """Bytes as kB, MB or GB.

    Example:
        >>> in_words(2_500_000)
        '2.5 MB'
    """
    units = ((1e9, "GB"), (1e6, "MB"))
    unit, name = next((each for each in units if nbytes >= each[0]), (1e3, "kB"))
    return f"{nbytes / unit:,.1f} {name}"


def _columns(reader: BagReader) -> list[str]:
    """The columns of a table of instances, which is in memory, and those that hardly vary."""
    if not isinstance(reader, TableReader):
        return []
    said = [line for _, line in describe_columns(reader.root, reader.columns, most=None)]
    lines = [
        line for each in said for line in wrapped("columns", each.removeprefix(f"{reader.root}: "))
    ]
    try:
        moments = feature_moments([reader.x])
    except ValueError:  # a value is missing, which --deep names
        return lines
    few = hardly_varying(*moments).nonzero()[:, 0].tolist()
    if few:
        names = ", ".join(reader.feature_names[number] for number in few)
        lines += wrapped("columns", f"{len(few)} hardly vary: {names}")
    return lines


def wrapped(head: str, text: str) -> list[str]:
    """Lines on what would be too long for one, under their head."""
    indent = " " * 11
    lines = textwrap.wrap(text, _WIDTH - len(indent), break_long_words=False)
    return [f"{indent if i else head.ljust(11)}{line}" for i, line in enumerate(lines)]


def _coords(found: Inspection) -> str:
    headers = list(found.headers.values())
    having = [header for header in headers if header.coords_axes is not None]
    if not having:
        return "none"
    kinds = Counter(f"{each.coords_axes} axes in {each.coords_unit or '?'}" for each in having)
    text = f"{_of(len(having), len(headers))}, {_tally(kinds)}"
    if found.stride is not None:
        text += f", stride {found.stride:g}"
    tiles = Counter(f"{each.tile_size:g}" for each in having if each.tile_size is not None)
    return text + (f", tiles of {', '.join(sorted(tiles, key=float))}" if tiles else "")


def label_lines(
    table: LabelTable | None, classes: Sequence[str] | None
) -> tuple[list[str], list[Fault]]:
    """What the labels seem to mean, line by line; and the labels at fault.

    Args:
        table: the labels, None where there are none.
        classes: the names of the classes; None finds them.
    """
    if table is None or table.labels is None or not table.ids:
        return ["labels     none"], []
    try:
        task, y, problems = _encoded(table.labels, classes)
    except LabelError as error:
        return [f"labels     {error}", *_groups(table)], []
    faults = [
        Fault(
            table.ids[row],
            table.source,
            f"{in_its_table(table.ids[row], table.places[row])}: {message}",
            remedy,
        )
        for row, (message, remedy) in problems.items()
    ]
    names = task.class_names
    present = y if y.ndim > 1 else [[label == c for c in range(len(names))] for label in y]
    counts = [sum(map(int, column)) for column in zip(*present, strict=True)]
    listed = ", ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))
    lines = [f"labels     {type(task).__name__.lower()}: {listed}"]
    if isinstance(task, Binary):
        lines.append(f"positive   {names[1]}: task.positive=... chooses another")
    return [*lines, *_groups(table)], faults


def _encoded(
    labels: Labels, classes: Sequence[str] | None
) -> tuple[Task, NDArray[np.int64], dict[int, tuple[str, str]]]:
    """The task of some labels, those without a problem as numbers, and the problems."""
    try:
        task = Auto(classes).resolve(labels)
        return task, task.encode(labels), {}
    except LabelError as error:
        if not error.problems:
            raise
        rest = labels.take([row for row in range(len(labels)) if row not in error.problems])
        task = Auto(classes).resolve(rest)
        return task, task.encode(rest), error.problems


def outputs_of(table: LabelTable | None, classes: Sequence[str] | None) -> int:
    """How many logits a network has for what labels seem to mean; 1 where that is not known."""
    if table is None or table.labels is None or not table.ids:
        return 1
    try:
        return _encoded(table.labels, classes)[0].num_outputs
    except LabelError:
        return 1


def _groups(table: LabelTable) -> list[str]:
    if table.groups is None:
        return ["groups     none: bags of one patient cannot be kept together"]
    groups = Counter(table.groups)
    return [f"groups     {len(groups):,}, the largest of {_count(max(groups.values()), 'bag')}"]


def histogram(sizes: NDArray[np.int64]) -> list[str]:
    r"""The sizes of bags by steps of 1, 2, 5, 10, 20 and so on, a line each.

    Example:
        >>> print("\n".join(histogram(np.array([3, 4, 12]))))
         2 to  4  ######################################## 2
         5 to  9   0
        10 to 19  #################### 1
    """
    edges = [1]
    while edges[-1] <= sizes.max():
        edges.append(_STEPS[len(edges) % 3] * 10 ** (len(edges) // 3))
    counts = [int(((sizes >= low) & (sizes < high)).sum()) for low, high in pairwise(edges)]
    first = next(i for i, count in enumerate(counts) if count)
    width = len(f"{edges[-1] - 1:,}")
    lines = []
    for (low, high), count in list(zip(pairwise(edges), counts, strict=True))[first:]:
        bar = "#" * -(-_BAR * count // max(counts))
        lines.append(f"{low:>{width},} to {high - 1:>{width},}  {bar} {count:,}")
    return lines


def _tally(kinds: Counter[str]) -> str:
    """Each kind, and of how many bags where there are several."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{kind} in {count:,}" for kind, count in kinds.most_common())


def _of(count: int, total: int) -> str:
    if not count:
        return "none"
    return f"in all {total:,} bags" if count == total else f"in {count:,} of {total:,} bags"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
