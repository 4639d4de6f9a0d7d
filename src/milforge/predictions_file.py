"""The table of predicted bags that a run writes, read again by reports, maps and calibrations."""

from pathlib import Path
from typing import Any

FILE = Path("predictions") / "bags.parquet"
NEEDED = ("bag_id", "part", "patient", "size", "order")


def read_bags_table(path: Path) -> Any:
    """The table, whose columns that every run writes are there, of their types.

    Returns:
        A `pyarrow.Table`: `bag_id` and `part` are text, `patient` is text or missing, `size` and
        `order` are whole numbers; a part has a bag once.

    Raises:
        ValueError: where it cannot be read, or is not such a table; names the remedy.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        names = table.column_names
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise ValueError(
                f"{path} lacks {', '.join(missing)}: an older version wrote it; evaluate the "
                "checkpoint again (milforge-evaluate)"
            )
        for name in NEEDED:
            _check(name, table.column(name))
        bags = list(zip(*(table.column(name).to_pylist() for name in NEEDED[:2]), strict=True))
        if len(set(bags)) < len(bags):
            raise pa.ArrowInvalid("it has a bag of a part more than once")
        for text in (table.schema.metadata or {}).values():
            text.decode()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is damaged ({' '.join(str(error).split())[:100]}): evaluate the checkpoint "
            "again (milforge-evaluate)"
        ) from error
    return table


def _check(name: str, column: Any) -> None:
    """Raises Arrow's own error, as one that reads the file does."""
    import pyarrow as pa

    if name in ("size", "order"):
        fits, expected = pa.types.is_integer(column.type), "whole numbers"
    else:
        fits, expected = pa.types.is_string(column.type), "text"
    if name == "patient":  # of data without patients
        fits = fits or pa.types.is_null(column.type)
    elif column.null_count:
        fits = False
    if not fits and len(column):
        raise pa.ArrowInvalid(f"expected {expected} as {name}, got {column.type}")
