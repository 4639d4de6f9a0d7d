"""The bags of all groups, as they were predicted out of fold, in one table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from milforge.report.analysis.out_of_fold import OutOfFold
from milforge.report.groups import TARGET
from milforge.report.predictions import Predictions

if TYPE_CHECKING:
    import pyarrow as pa


def out_of_fold_table(pooled: Sequence[OutOfFold], *, single: bool) -> "pa.Table":
    """The bags of all groups as a table.

    Args:
        pooled: the groups.
        single: a row per bag and run that did not see it, rather than per bag.
    """
    import pyarrow as pa

    rows: list[dict[str, object]] = []
    for each in pooled:
        shown: dict[str, object] = {"group": each.group.label}
        if TARGET in each.group.values:
            shown["target"] = each.target
        if single:
            for member in each.members:
                keys = {"run": str(member.run.folder), "fold": member.run.config.get("split.fold")}
                keys["seed"] = member.run.config.get("seed")
                test = member.predictions.of_part("test").labelled
                rows += _rows({**shown, **keys}, test)
        else:
            counts = [{"models": count} for count in each.models.tolist()]
            found = _rows(shown, each.predictions)
            rows += [row | count for row, count in zip(found, counts, strict=True)]
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})


def _rows(keys: dict[str, object], predictions: Predictions) -> list[dict[str, object]]:
    columns = {
        "bag_id": predictions.bag_id.tolist(),
        "patient": predictions.patient.tolist(),
        "size": predictions.size.tolist(),
        **{name: values.tolist() for name, values in predictions.labels.items()},
        **{name: values.tolist() for name, values in predictions.columns.items()},
        **{f"table_{name}": values.tolist() for name, values in predictions.table.items()},
    }
    return [
        {**keys, **dict(zip(columns, row, strict=True))}
        for row in zip(*columns.values(), strict=True)
    ]
