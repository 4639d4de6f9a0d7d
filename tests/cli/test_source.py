"""What the source of a class tells of its parameters, against what Python says once imported."""

import inspect
import sys
from pathlib import Path

import pytest
from hydra.utils import get_object

from milforge.cli.explain import config_dir
from milforge.cli.source import _look_up, parameters_in_source

TARGETS = sorted(
    {
        line.partition("_target_: ")[2].strip()
        for path in Path(config_dir()).rglob("*.yaml")
        for line in path.read_text().splitlines()
        if "_target_: " in line
    }
)
# The rest take **kwargs, are dataclasses, or inherit their __init__.
UNTOLD = {
    "lightning.pytorch.loggers.TensorBoardLogger",
    "lightning.pytorch.loggers.WandbLogger",
    "milforge.graph.AdjacencyBuilder",
    "milforge.nn.MaxPool",
    "milforge.nn.MeanPool",
    "milforge.cli.sweep.Sweep",
    "milforge.training.WholeCheckpointIO",
    "wandb.Settings",
}


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_of_the_configs(target):
    found = parameters_in_source(target)
    if found is None:
        assert target in UNTOLD
    else:
        assert found == list(inspect.signature(get_object(target)).parameters)


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "strange_package"
    (folder / "below").mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from .below import Renamed as Public\nfrom .below.deep import Deep\n"
        "from strange_package.below import function\nfrom .missing import Gone\n"
        "raise RuntimeError('imported')\n"
    )
    (folder / "below" / "__init__.py").write_text(
        "from .deep import Deep as Renamed\nfrom ..other import function\n"
    )
    (folder / "below" / "deep.py").write_text(
        "class Deep:\n    def __init__(self, a, /, b, *, c=1): ...\n"
    )
    (folder / "other.py").write_text(
        "import functools\ndef function(x, *args, y=2): ...\n"
        "def free(x, **options): ...\n@functools.cache\ndef decorated(x): ...\n"
        "class Bare: ...\nclass Child(Bare): ...\n"
        "@functools.total_ordering\nclass Decorated:\n    def __init__(self, x): ...\n"
        "class Wrapped:\n    @functools.cache\n    def __init__(self, x): ...\n"
        "class Meta(metaclass=type):\n    def __init__(self, x): ...\n"
        "made = function\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "strange_package"
    _look_up.cache_clear()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Public", ["a", "b", "c"]),
        ("Deep", ["a", "b", "c"]),
        ("function", ["x", "y"]),
        ("below.deep.Deep", ["a", "b", "c"]),
        ("other.function", ["x", "y"]),
        *((f"other.{name}", None) for name in ("free", "decorated", "Bare", "Child", "Decorated")),
        *((f"other.{name}", None) for name in ("Wrapped", "Meta", "made", "absent")),
        ("Gone", None),
        ("absent.Class", None),
    ],
)
def test_names_are_followed_without_an_import(package, name, expected):
    assert parameters_in_source(f"{package}.{name}") == expected
    assert package not in sys.modules


@pytest.mark.parametrize("target", ["", "Name", "no_such_package.Name", "sys.exit", "math.sin"])
def test_what_has_no_source_is_left_to_python(target):
    assert parameters_in_source(target) is None
