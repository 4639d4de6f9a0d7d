"""`summary.json`."""

import json
from importlib.metadata import PackageNotFoundError

from milforge.runs import summary


def test_a_fork_that_is_not_installed_has_no_version(tmp_path, monkeypatch):
    """It must not lose a trained model."""

    def version(package):
        if package == "milforge":
            raise PackageNotFoundError(package)
        return "1.2"

    monkeypatch.setattr(summary, "version", version)
    summary.write_summary(tmp_path, metrics={"test/loss": 0.5})
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["versions"]["milforge"] is None
    assert written["versions"]["torch"] == "1.2"
