"""What a run has predicted, part by part."""

import pyarrow.compute as pc
import pyarrow.parquet as pq


def tables(run, part="test"):
    """The bags and the instances of a part, as tables; part None: of all parts."""
    found = [
        pq.read_table(run / "predictions" / f"{name}.parquet") for name in ("bags", "instances")
    ]
    return [each if part is None else each.filter(pc.equal(each["part"], part)) for each in found]


def bags(run, part="test"):
    """Column name -> the values of the bags of a part."""
    return tables(run, part)[0].to_pydict()


def instances(run, part="test"):
    """Column name -> the values of the instances of a part."""
    return tables(run, part)[1].to_pydict()
