"""Errors in one sentence, for those that are not of our making."""

import errno

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from milforge.config.hydra_versions import instantiate
from milforge.config.messages import explain


def broken(kind):
    raise {"attribute": AttributeError, "memory": MemoryError, "runtime": RuntimeError}[kind]("why")


def raised(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error
    raise AssertionError("expected an error")


def test_what_the_system_refuses_is_told_with_the_file_and_the_remedy():
    full = explain(OSError(errno.ENOSPC, "No space left on device", "logs/a"), "train")
    assert full.startswith("logs/a: No space left on device: make room on that disk")
    assert "run=NAME" in full
    folder = explain(OSError(errno.EROFS, "Read-only file system", "logs"), "train")
    assert "choose another folder (paths.log_dir" in folder
    handles = explain(OSError(errno.EMFILE, "Too many open files"), "train")
    assert "ulimit -n 4096" in handles
    assert "loader.num_workers" in handles
    assert explain(OSError("our own: words"), "train") == "our own: words"


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")],
)
def test_want_of_memory_is_no_fault_of_a_file(error):
    told = explain(error, "train")
    assert told.startswith("there is not enough memory")
    assert "loader.batch_size" in told
    assert "remove" not in told


@pytest.mark.parametrize("kind", ["attribute", "runtime"])
def test_values_that_nothing_can_be_made_of_are_told_with_their_key(kind):
    config = OmegaConf.create({"data": {"_target_": f"{__name__}.broken", "kind": kind}})
    told = explain(raised(instantiate, config.data), "train")
    assert "data" in told
    assert "why" in told
    assert "HYDRA_FULL_ERROR=1" in told
    assert "\n" not in told


def test_memory_that_runs_out_where_something_is_made_is_told_as_such():
    config = OmegaConf.create({"data": {"_target_": f"{__name__}.broken", "kind": "memory"}})
    assert explain(raised(instantiate, config.data), "train").startswith("there is not enough mem")


def test_a_config_file_that_is_no_yaml_is_named_with_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: 1\nb: [1, 2\nc: 3\n")
    with path.open() as file:
        told = explain(raised(yaml.safe_load, file), "train")
    assert told.startswith(f"{path}, line 3: expected YAML")
    path.write_bytes(b"a: \x00\n")
    with path.open() as file:
        assert "no YAML in UTF-8" in explain(raised(yaml.safe_load, file), "train")


@pytest.mark.parametrize("override", ["data.root=a=b", "data.root=it's", "data.root=a{b"])
def test_how_a_value_is_quoted_is_told(override):
    error = raised(OverridesParser.create().parse_overrides, [override])
    assert isinstance(error, HydraException)
    told = explain(error, "train")
    assert told.startswith(f"{override} cannot be read: a value with one of =")
    assert "'data.root=\"VALUE\"'" in told
    quoted = override.partition("=")[2].replace('"', '\\"')
    (parsed,) = OverridesParser.create().parse_overrides([f'data.root="{quoted}"'])
    assert parsed.value() == override.partition("=")[2]


def test_other_errors_are_faults_of_ours():
    assert explain(KeyError("ours"), "train") is None
