"""What a run has written of its predictions, to be compared with what is mapped."""

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path

from milforge.predictions_file import FILE, read_bags_table
from milforge.processes.files import read_json

TOLERANCE = 1e-3  # of a number, and of 1 where it is smaller: batches of other sizes, other devices
AVERAGED = ("probability", "prediction", "risk")  # columns of which an ensemble has the mean

Row = Mapping[str, float]


def written_rows(checkpoint: str) -> dict[tuple[str, str], Row] | None:
    """What a checkpoint's run has written of each bag, by its name and part.

    None where the checkpoint lies in no run's folder, or another one wrote the file.

    Raises:
        ValueError: where the file cannot be read.
    """
    folder = Path(checkpoint).parent.parent
    path = folder / FILE
    if not path.is_file() or _writer(folder) != Path(checkpoint).name:
        return None
    rows = read_bags_table(path).to_pylist()
    return {(row["bag_id"], row["part"]): _numbers(row) for row in rows}


def expected(
    files: Sequence[Mapping[tuple[str, str], Row] | None],
    bag: str,
    part: str,
    *,
    averaged: bool = False,
) -> Row | None:
    """What the files of the checkpoints that predict a bag say of it together.

    Args:
        files: see `written_rows`.
        bag: its name.
        part: that it is of.
        averaged: whether it is predicted as a mean, be it of one: the logits of a mean are none of
            a network, and are not compared.

    Returns:
        None where a file does not know the bag.
    """
    rows = []
    for file in files:
        known = file or {}
        row = known.get((bag, part)) or next((r for (b, _), r in known.items() if b == bag), None)
        if row is None:
            return None
        rows.append(row)
    if len(rows) == 1 and not averaged:
        return rows[0]
    names = [name for name in rows[0] if name.startswith(AVERAGED)]
    return {name: sum(row[name] for row in rows) / len(rows) for name in names}


def check_agreement(mine: Row, written: Row) -> None:
    """Checks that a prediction is the one that was written.

    Raises:
        ValueError: where it is not, or nothing can be compared.
    """
    common = [name for name in mine if name in written]
    if not common:
        raise ValueError(
            "its prediction has other columns than the run's predictions/bags.parquet, so the two "
            "cannot be compared"
        )
    for name in common:
        if mine[name] == written[name] or (isnan(mine[name]) and isnan(written[name])):
            continue  # infinite ones among them
        gap = abs(mine[name] - written[name])
        if not gap <= TOLERANCE * max(1.0, abs(written[name])):
            raise ValueError(
                f"its prediction is not the one in the run's predictions/bags.parquet ({name} is "
                f"{mine[name]:.4g}, there {written[name]:.4g}): the data or the options are not "
                "those of the run; to map other data, use a copy of the checkpoint outside the "
                "run's folder"
            )


def _writer(folder: Path) -> str | None:
    """The name of the checkpoint whose predictions stand in the run's file."""
    try:
        content = read_json(folder / "summary.json")
    except (OSError, ValueError):
        return None
    written = content.get("checkpoint") if isinstance(content, dict) else None
    return Path(written).name if isinstance(written, str) else None


def _numbers(row: Mapping[str, object]) -> Row:
    return {name: float(each) for name, each in row.items() if isinstance(each, float)}
