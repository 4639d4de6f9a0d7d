"""docs/configuration.md and docs/schemas are what the configs and docstrings say."""

from importlib.util import module_from_spec, spec_from_file_location

import pytest

from project_copy import ROOT


@pytest.mark.nightly
def test_the_page_and_the_schemas_are_up_to_date():
    spec = spec_from_file_location("page", ROOT / "scripts" / "write_configuration.py")
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    written = script.written()
    for path, text in written.items():
        told = path.read_text(encoding="utf-8")
        assert told == text, f"{path.name}: run python scripts/write_configuration.py"
    assert {path.name for path in script.SCHEMAS.iterdir()} == {
        path.name for path in written if path.suffix == ".json"
    }
