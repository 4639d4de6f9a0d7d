"""docs/configuration.md and docs/schemas are what the configs and docstrings say."""

from importlib.util import module_from_spec, spec_from_file_location

import pytest

from project_copy import ROOT


@pytest.fixture(scope="module")
def script():
    spec = spec_from_file_location("page", ROOT / "scripts" / "write_configuration.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_config_of_a_group_with_a_schema_names_it(script):
    written = script.with_modelines(path.stem for path in script.SCHEMAS.glob("*.json"))
    assert len(written) > 100
    for path, text in written.items():
        assert path.read_text("utf-8") == text, f"{path}: run scripts/write_configuration.py"
        (line,) = [each for each in text.splitlines() if each.startswith(script.MODELINE)]
        assert (path.parent / line.removeprefix(script.MODELINE)).is_file()
        # Hydra stops looking for it at the first line that is another comment.
        assert "# @package" not in "".join(text.splitlines()[1:])


@pytest.mark.nightly
def test_the_page_and_the_schemas_are_up_to_date(script):
    written = script.written()
    for path, text in written.items():
        told = path.read_text(encoding="utf-8")
        assert told == text, f"{path.name}: run python scripts/write_configuration.py"
    assert {path.name for path in script.SCHEMAS.iterdir()} == {
        path.name for path in written if path.suffix == ".json"
    }
