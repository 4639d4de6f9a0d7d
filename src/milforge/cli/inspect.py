"""milforge-inspect: prints what a folder of bags holds, and all that is wrong with it."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing the data sets takes longer than to say how the command is called
    import numpy as np
    from numpy.typing import NDArray

    from milforge.data import Fault
    from milforge.data.features.inspection import Inspection
    from milforge.data.features.label_table import LabelTable
    from milforge.data.features.readers import BagReader
    from milforge.data.labels import Labels
    from milforge.tasks import Task

_LAYOUTS = ("clam", "trident", "torchmil", "stamp", "plain", "table")
_BAR = 40  # characters of the longest bar
_STEPS = (1, 2, 5)  # of the sizes in a decade

_DESCRIPTION = """\
Prints what a folder of bags holds: bags and their sizes, features, coords, labels and groups;
then one line for each fault: its file, what is wrong, and what to do about it. Without --deep
features are read only of bags of one size, to find the same slide under two names. The exit code
is 1 where there is a fault."""

_EPILOG = """\
layouts:
  clam       pt_files/<slide_id>.pt, h5_files/<slide_id>.h5
  trident    features_<encoder>/<slide>.h5
  torchmil   features/ labels/ inst_labels/ coords/<bag>.npy or .h5
  stamp      <FILENAME>.h5 with feats and coords
  plain      .h5, .npy or .pt files in ROOT itself
  table      CSV, TSV, Parquet or UCI .data, one row an instance

examples:
  milforge-inspect features --labels labels.csv
  milforge-inspect trident_processed --streams uni_v1 conch_v15 --labels labels.csv --deep
  milforge-inspect stamp --labels clinical.csv --slide-table slides.csv --label-column isMSIH"""


def main() -> None:
    """The console script."""
    arguments = _parser().parse_args()
    try:
        faulty = _inspect(arguments)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    sys.exit(1 if faulty else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="milforge-inspect",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("root", metavar="ROOT", type=Path, help="folder of the bags, or a table of instances")
    add("--layout", choices=_LAYOUTS, help="how the folder is laid out (default: found out)")
    add("--deep", action="store_true", help="read all features, and look for NaN and infinity")
    files = parser.add_argument_group("what stands where in the files")
    add = files.add_argument
    add(
        "--streams",
        nargs="+",
        metavar="NAME[=FOLDER]",
        help="several feature sets of the same instances; for TRIDENT the encoders",
    )
    add("--features-key", metavar="KEY", help="of the features (default: as the layout has it)")
    add(
        "--coords-key",
        metavar="KEY",
        default="coords",
        help="of the coords, null to read none (default: coords)",
    )
    add(
        "--inst-label-key",
        metavar="KEY",
        default="inst_label",
        help="of the instance labels (default: inst_label)",
    )
    add(
        "--positive-instance-label",
        nargs="+",
        metavar="VALUE",
        help="instance labels that mean positive, where they are not 0, 1 and -1",
    )
    tables = parser.add_argument_group("labels")
    add = tables.add_argument
    add("--labels", metavar="FILE", type=Path, help="table of bag labels: CSV, TSV or Parquet")
    add("--slide-table", metavar="FILE", type=Path, help="STAMP's table of FILENAME and PATIENT")
    add("--id-column", metavar="NAME", help="column of the bag (default: slide_id, ...)")
    add(
        "--label-column",
        nargs="+",
        metavar="NAME",
        help="column of the label (default: label); several for a multilabel task",
    )
    add("--group-column", metavar="NAME", help="column of the patient (default: case_id, ...)")
    columns = parser.add_argument_group("features of a table of instances")
    add = columns.add_argument
    add("--feature-columns", nargs="+", metavar="NAME", help="the features (default: all numbers)")
    add("--exclude-columns", nargs="+", metavar="NAME", default=(), help="no features")
    add = tables.add_argument
    add("--classes", nargs="+", metavar="NAME", help="classes in order, the negative one first")
    return parser


def _inspect(arguments: argparse.Namespace) -> bool:
    """Inspects and prints; whether there is a fault."""
    for name in ("root", "labels", "slide_table"):
        path = getattr(arguments, name)
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{path}: found nothing there: check the path")
    from milforge.data.features.inspection import inspect_folder
    from milforge.data.features.label_table import read_labels, stored_labels
    from milforge.data.features.readers import open_reader

    columns = arguments.label_column
    label_column = columns[0] if columns and len(columns) == 1 else columns
    reader = open_reader(
        arguments.root,
        arguments.layout,
        streams=_streams(arguments.streams),
        features_key=arguments.features_key,
        coords_key=None if arguments.coords_key == "null" else arguments.coords_key,
        inst_label_key=arguments.inst_label_key,
        positive_instance_label=arguments.positive_instance_label,
        feature_columns=arguments.feature_columns,
        exclude_columns=arguments.exclude_columns,
        id_column=arguments.id_column if arguments.labels is None else None,
        label_column=label_column if arguments.labels is None else None,
        group_column=arguments.group_column if arguments.labels is None else None,
    )
    if arguments.labels is None:
        labels = stored_labels(reader, strict=False)
    else:
        labels = read_labels(
            arguments.labels,
            id_column=arguments.id_column,
            label_column=label_column,
            group_column=arguments.group_column,
            slide_table=arguments.slide_table,
            strict=False,
        )
    progress = _show_progress if sys.stderr.isatty() else None
    found = inspect_folder(reader, labels, deep=arguments.deep, progress=progress)
    meaning, faults = label_lines(labels, arguments.classes)
    found = replace(found, faults=(*found.faults, *faults))
    for line in describe(found, meaning):
        print(line)
    return bool(found.faults)


def _streams(given: Sequence[str] | None) -> dict[str, str] | None:
    if given is None:
        return None
    pairs = [each.partition("=") for each in given]
    return {name: folder or name for name, _, folder in pairs}


def _show_progress(done: int, total: int) -> None:
    end = "\r" if done < total else "\r\033[K"
    sys.stderr.write(f"{done:,} of {total:,} bags{end}")
    sys.stderr.flush()


def describe(found: "Inspection", labels: Sequence[str]) -> list[str]:
    """What was found, line by line; `labels` are the lines on these."""
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
        lines += _columns(reader)
        lines.append(f"coords     {_coords(found)}")
        known = sum(header.has_instance_labels for header in headers)
        lines.append(f"instance labels  {_of(known, len(headers))}")
    lines += labels
    if found.same:
        from milforge.data.features.same_bags import describe_same

        lines.append(f"same       features in {describe_same(found.same)}")
    reading = "all features read" if found.deep else "headers read: --deep looks for NaN"
    lines.append(f"faults     {len(found.faults)} ({reading})")
    return lines + [f"  {fault}" for fault in found.faults]


def _columns(reader: "BagReader") -> list[str]:
    """The columns of a table of instances, which is in memory, and those that hardly vary."""
    from milforge.data import feature_moments
    from milforge.data.features.readers.table import TableReader
    from milforge.data.features.readers.table_columns import describe_columns
    from milforge.nn.standardise import hardly_varying

    if not isinstance(reader, TableReader):
        return []
    told = [line for _, line in describe_columns(reader.root, reader.columns, most=None)]
    lines = [f"columns    {line.removeprefix(f'{reader.root}: ')}" for line in told]
    try:
        moments = feature_moments([reader.x])
    except ValueError:  # a value is missing, which --deep tells
        return lines
    few = hardly_varying(*moments).nonzero()[:, 0].tolist()
    if few:
        names = ", ".join(reader.feature_names[number] for number in few)
        lines.append(f"columns    {len(few)} hardly vary: {names}")
    return lines


def _coords(found: "Inspection") -> str:
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
    table: "LabelTable | None", classes: Sequence[str] | None
) -> tuple[list[str], "list[Fault]"]:
    """What the labels seem to mean, line by line; and the labels at fault.

    Args:
        table: the labels, None where there are none.
        classes: the names of the classes; None finds them.
    """
    if table is None or not table.ids:
        return ["labels     none"], []
    from milforge.data import Fault, LabelError
    from milforge.tasks import Binary

    try:
        task, y, problems = _encoded(table.labels, classes)
    except LabelError as error:
        return [f"labels     {error}", *_groups(table)], []
    faults = [
        Fault(table.ids[row], table.source, f"bag {table.ids[row]!r}: {message}", remedy)
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
    labels: "Labels", classes: Sequence[str] | None
) -> "tuple[Task, NDArray[np.int64], dict[int, tuple[str, str]]]":
    """The task of some labels, those without a problem as numbers, and the problems."""
    from milforge.data import LabelError
    from milforge.tasks import Auto

    try:
        task = Auto(classes).resolve(labels)
        return task, task.encode(labels), {}
    except LabelError as error:
        if not error.problems:
            raise
        rest = labels.take([row for row in range(len(labels)) if row not in error.problems])
        task = Auto(classes).resolve(rest)
        return task, task.encode(rest), error.problems


def _groups(table: "LabelTable") -> list[str]:
    if table.groups is None:
        return ["groups     none: bags of one patient cannot be kept together"]
    groups = Counter(table.groups)
    return [f"groups     {len(groups):,}, the largest of {_count(max(groups.values()), 'bag')}"]


def histogram(sizes: "NDArray[np.int64]") -> list[str]:
    r"""The sizes of bags by steps of 1, 2, 5, 10, 20 and so on, a line each.

    Example:
        >>> import numpy as np
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


if __name__ == "__main__":
    main()
