"""docs/configuration.md is what the configs and docstrings say."""

from importlib.util import module_from_spec, spec_from_file_location

import pytest

from project_copy import ROOT


@pytest.mark.nightly
def test_the_page_is_up_to_date():
    spec = spec_from_file_location("page", ROOT / "scripts" / "write_configuration.py")
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    told = script.PAGE.read_text(encoding="utf-8")
    assert told == script.page(), "run: python scripts/write_configuration.py"
