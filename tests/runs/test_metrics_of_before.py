"""`metrics.csv` of a run that goes on, in whatever state it was left."""

import pytest

from milforge.runs.resume import read_metrics


def test_rows_that_are_not_whole_are_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(
        b"epoch,step,val/loss\n0,3,0.5\n1,7\n2,x,0.3\n3,15,0.2,9\n4,\xff,1\n5,\x00,1\n6,23,0.1"
    )
    assert [row["step"] for row in read_metrics(tmp_path)] == ["3"]
    assert read_metrics(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("odd", ["9" * 200_000, '"' + "a,\n" * 50_000])
def test_a_file_that_is_no_table_is_told_and_begun_anew(tmp_path, caplog, odd):
    (tmp_path / "metrics.csv").write_text(f"epoch,step\n0,{odd}\n")
    assert read_metrics(tmp_path) == []
    assert "metrics.csv is damaged (field larger than field limit" in caplog.text
