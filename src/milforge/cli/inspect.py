"""milforge-inspect: prints what a folder of bags holds, and all that is wrong with it."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from milforge.cli.common.terminal import show_any_name

_LAYOUTS = ("clam", "trident", "torchmil", "stamp", "plain", "table")

_DESCRIPTION = """\
Prints what a folder of bags holds: bags and their sizes, features, coords, labels and groups;
then one line for each fault: its file, what is wrong, and what to do about it. Without --deep
features are read only of bags of one size, to find the same slide under two names. The exit code
is 1 where there is a fault. --step says what memory the largest training step will take. Of a
folder of large images it prints how many, their sizes, levels and the size of a pixel."""

_EPILOG = """\
layouts:
  clam       pt_files/<slide_id>.pt, h5_files/<slide_id>.h5
  trident    features_<encoder>/<slide>.h5
  torchmil   features/ labels/ inst_labels/ coords/<bag>.npy or .h5
  stamp      <FILENAME>.h5 with feats and coords
  plain      .h5, .npy or .pt files in ROOT itself
  table      CSV, TSV, Parquet or UCI .data, one row an instance
  (images)   slides and TIFF files in ROOT or in folders of it

examples:
  milforge-inspect slides --labels labels.csv
  milforge-inspect features --labels labels.csv
  milforge-inspect trident_processed --streams uni_v1 conch_v15 --labels labels.csv --deep
  milforge-inspect features --step model=transmil loader.batch_size=4
  milforge-inspect stamp --labels clinical.csv --slide-table slides.csv --label-column isMSIH"""


def main() -> None:
    """The console script."""
    show_any_name()
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
    add(
        "--step",
        nargs="*",
        metavar="KEY=VALUE",
        help="forecast the memory of a training step, of milforge-train with these overrides",
    )
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
    add("--classes", nargs="+", metavar="NAME", help="classes in order, the negative one first")
    add = parser.add_argument_group("columns of a table of instances").add_argument
    add("--feature-columns", nargs="+", metavar="NAME", help="the features (default: all numbers)")
    add("--exclude-columns", nargs="+", metavar="NAME", default=(), help="columns that are none")
    return parser


def _inspect(arguments: argparse.Namespace) -> bool:
    """Inspects and prints; whether there is a fault."""
    for name in ("root", "labels", "slide_table"):
        path = getattr(arguments, name)
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{path}: found nothing there: check the path")

    # Importing the data sets takes longer than to say how the command is called.
    from milforge.cli.describe_bags import describe, label_lines
    from milforge.cli.describe_images import describe_images, holds_images
    from milforge.data.features.inspection import inspect_folder
    from milforge.data.features.label_table import LabelTable, read_labels, stored_labels
    from milforge.data.features.readers import open_reader

    columns = arguments.label_column
    label_column = columns[0] if columns and len(columns) == 1 else columns

    def table_of_labels() -> LabelTable:
        return read_labels(
            arguments.labels,
            id_column=arguments.id_column,
            label_column=label_column,
            group_column=arguments.group_column,
            slide_table=arguments.slide_table,
            strict=False,
        )

    options: dict[str, Any] = {
        "streams": _streams(arguments.streams),
        "features_key": arguments.features_key,
        "coords_key": None if arguments.coords_key == "null" else arguments.coords_key,
        "inst_label_key": arguments.inst_label_key,
        "positive_instance_label": arguments.positive_instance_label,
        "feature_columns": arguments.feature_columns,
        "exclude_columns": arguments.exclude_columns,
        "id_column": arguments.id_column if arguments.labels is None else None,
        "label_column": label_column if arguments.labels is None else None,
        "group_column": arguments.group_column if arguments.labels is None else None,
    }
    try:
        reader = open_reader(arguments.root, arguments.layout, **options)
    except (ValueError, OSError):
        if arguments.layout is not None or not holds_images(arguments.root):
            raise
        if arguments.step is not None:
            raise ValueError(
                f"--step: expected bags of features, got large images in {arguments.root}: leave "
                "it out"
            ) from None
        known = None if arguments.labels is None else table_of_labels()
        meaning, faults = label_lines(known, arguments.classes)
        names = None if known is None else known.ids
        lines, others = describe_images(arguments.root, names, arguments.labels, meaning)
        for line in [*lines, *(f"  {fault}" for fault in faults)]:
            print(line)
        return bool(faults or others)
    stored = arguments.labels is None
    labels = stored_labels(reader, strict=False) if stored else table_of_labels()
    progress = _show_progress if sys.stderr.isatty() else None
    found = inspect_folder(reader, labels, deep=arguments.deep, progress=progress)
    meaning, faults = label_lines(labels, arguments.classes)
    found = replace(found, faults=(*found.faults, *faults))
    step: list[str] = []
    if arguments.step is not None:
        from milforge.cli.describe_step import describe_step

        step = describe_step(found, arguments.step, arguments.classes)
    for line in describe(found, meaning, step):
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


if __name__ == "__main__":
    main()
