"""The names of the folders that runs and sweeps write to."""

import pytest

from milforge.config import run_folders


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "run= is empty (a shell variable that is not set?): give run=NAME, or leave it out"),
        (" ", "run= is empty"),
        (".", "run=. is no folder inside"),
        ("..", "run=.. is no folder inside"),
        ("../../x", "run=../../x is no folder inside"),
        ("a/../../x", "run=a/../../x is no folder inside"),
        ("/tmp/x", "run=/tmp/x is no folder inside"),
    ],
)
def test_a_name_that_is_none_or_leads_out_is_refused(tmp_path, name, why):
    with pytest.raises(ValueError, match="folder") as refused:
        run_folders.run_dir(str(tmp_path), name)
    assert str(refused.value).startswith(why)
    with pytest.raises(ValueError, match=r"^sweep="):
        run_folders.sweep_dir(str(tmp_path), name)
    assert not list(tmp_path.iterdir())


def test_other_names_lie_inside(tmp_path):
    for name in ("a", "a b", "tumours/fold 1", "..a"):
        assert run_folders.run_dir(str(tmp_path), name) == str(tmp_path / name)
        assert run_folders.sweep_dir(str(tmp_path), name) == str(tmp_path / name)
