"""A shell completes options of groups and keys, as docs/editor.md says."""

import pytest


def test_what_a_shell_is_told(here):
    outcome = here("train", "-sc", "install=bash")
    assert outcome.returncode == 0
    assert "complete -o nospace" in outcome.stdout


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("model=gat", ["model=gated_abmil"]),
        ("model/encoder=mlp model.encoder.dr", ["model.encoder.dropout="]),
        ("data=digits_g", ["data=digits_grid"]),
    ],
)
def test_what_is_completed(here, monkeypatch, typed, expected):
    line = f"milforge-train {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    outcome = here("train", "-sc", "query=bash")
    assert outcome.stdout.split() == expected
