"""What the source of a class says of its parameters, against what Python says once imported."""

import inspect
import sys
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from milforge.config.keys.key_check import check_targets
from milforge.config.keys.signatures import _bindings, documented_arguments, parameters_in_source
from milforge.config.messages import config_dir

TARGETS = {
    line.partition("_target_: ")[2].strip()
    for path in Path(config_dir()).rglob("*.yaml")
    for line in path.read_text().splitlines()
    if "_target_: " in line
}
# Re-exported by name and by a star, a function named like its module, an inherited `__init__`,
# keywords that are handed on.
TOLD = {
    "lightning.Trainer",
    "lightning.pytorch.callbacks.EarlyStopping",
    "milforge.data.digits_grid",
    "milforge.models.BagNetwork",
    "milforge.training.MILDataModule",
    "torch.nn.CrossEntropyLoss",
    "torch.nn.Dropout",
    "torch.nn.LSTM",
    "torch.optim.AdamW",
    "torch.utils.data.DataLoader",
}


def test_every_target_of_the_configs_and_others():
    found = {target: parameters_in_source(target) for target in TARGETS | TOLD}
    told = {target: names for target, names in found.items() if names is not None}
    assert told.keys() >= TOLD
    for target, names in told.items():
        parameters = inspect.signature(get_object(target)).parameters.values()
        named = [
            each.name
            for each in parameters
            if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
        handed_on = len(named) < len(parameters)
        assert (names[: len(named)] if handed_on else names) == named, target


INIT = """
from .below import Renamed as Public
from .below.deep import Deep
from strange_package.below import function
from .missing import Gone
from .starred import *
from . import itself
from .broken import Broken
raise RuntimeError('imported')
"""
OTHER = """
import functools
import strange_package.below.deep as there
from typing import Generic, NamedTuple
from dataclasses import dataclass
from .below import deep
from .below.deep import Deep
def function(x, *args, y=2): ...
def free(x, **options): ...
@functools.cache
def decorated(x): ...
class Bare: ...
class Child(Bare): ...
@functools.total_ordering
class Decorated:
    def __init__(self, x): ...
class Wrapped:
    @functools.cache
    def __init__(self, x): ...
class Meta(metaclass=type):
    def __init__(self, x): ...
class New:
    def __new__(cls, x): ...
    def __init__(self, y): ...
class ChildOfNew(New): ...
@dataclass
class Data:
    x: int
class Row(NamedTuple):
    x: int
made = function
def twice(x): ...
def twice(y): ...
def wrapped(x): ...
wrapped = functools.cache(wrapped)
class Heir(Deep[int]): ...
class HeirOfHeir(Heir):
    a = 1
class HeirByModule(deep.Deep): ...
class HeirByImport(there.Deep): ...
class HeirOfTwo(Deep, Bare): ...
class Circle(Ring): ...
class Ring(Circle): ...
class Handing(Heir):
    def __init__(self, own, **options):
        super().__init__(**options)
class HandingTwice(Handing):
    def __init__(self, *args, further=1, **kwargs):
        super().__init__('own', *args, b=2, **kwargs)
class HandingToTwo(Deep, Bare):
    def __init__(self, **options):
        super().__init__(**options)
class HandingElsewhere(Deep):
    def __init__(self, **options):
        self.options = options
        super().__init__(1, 2)
class HandingSome(Deep):
    def __init__(self, **options):
        options.pop('a')
        super().__init__(**options)
class HandingToAny(Free):
    def __init__(self, **options):
        super().__init__(**options)
"""
DEEP = '''
class Deep:
    """Deep.

    Args:
        a: the first,
            told at length.

            In two paragraphs.
        b (int, optional): the second: with a colon

    Returns:
        c: nothing of this.
    """
    def __init__(self, a, /, b, *, c=1):
        """Makes one.

        Args:
            c: the third.
        """
class Heir(Deep):
    """Heir.

    Args:
        own: new.
        b: stated again.
        strange: not taken.
    """
    def __init__(self, own, **options):
        super().__init__(**options)
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """One that lies on the path, installed nowhere, and cannot be imported."""
    folder = tmp_path / "strange_package"
    (folder / "below").mkdir(parents=True)
    for name, text in {
        "__init__": INIT,
        "below/__init__": "from .deep import Deep as Renamed\nfrom ..other import function\n",
        "below/deep": DEEP,
        "other": OTHER,
        "starred": "def starred(x): ...\ndef _private(x): ...\n",
        "above": "from ...above import Above\n",
        "broken": "class Broken(:\n",
        "lazy": "def __getattr__(name):\n    from .below import deep\n    return deep.Deep\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield "strange_package"
    _bindings.cache_clear()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("Public Deep below.deep.Deep", ["a", "b", "c"]),
        ("function other.function", ["x", "y"]),
        ("starred", ["x"]),
        ("other.Heir other.HeirOfHeir other.HeirByModule other.HeirByImport", ["a", "b", "c"]),
        ("other.Handing", ["own", "a", "b", "c"]),
        ("other.HandingTwice", ["further", "a", "c"]),
        ("other.HandingToTwo other.HandingElsewhere other.HandingSome other.HandingToAny", None),
        ("other.free other.decorated other.Bare other.Child other.Decorated", None),
        ("other.Wrapped other.Meta other.New other.ChildOfNew other.Data other.Row", None),
        ("other.made other.twice other.wrapped other.absent other.HeirOfTwo other.Circle", None),
        ("Gone _private itself broken.Broken above.Above absent.Class lazy.Deep", None),
    ],
)
def test_names_are_followed_without_an_import(package, names, expected):
    for name in names.split():
        assert parameters_in_source(f"{package}.{name}") == expected, name
    assert package not in sys.modules


def test_a_misspelt_key_that_would_be_handed_on_is_told(package):
    config = OmegaConf.create({"data": {"_target_": f"{package}.other.HandingTwice", "furhter": 1}})
    with pytest.raises(ValueError, match=r"data\.furhter: .* did you mean 'further'\? \(it takes"):
        check_targets(config)
    assert package not in sys.modules


@pytest.mark.parametrize(
    "target", ["", "Name", ".Name", "no_such_package.Name", "sys.exit", "math.sin", "__main__.x"]
)
def test_what_has_no_source_is_left_to_python(target):
    assert parameters_in_source(target) is None
    assert documented_arguments(target) == {}


def test_arguments_are_documented_by_the_class_its_init_and_its_parent(package):
    deep = {
        "a": "the first, told at length. In two paragraphs.",
        "b": "the second: with a colon",
        "c": "the third.",
    }
    assert documented_arguments(f"{package}.Public") == deep
    assert documented_arguments(f"{package}.below.deep.Heir") == {
        **deep,
        "own": "new.",
        "b": "stated again.",
    }
    assert package not in sys.modules


def test_all_that_a_class_of_ours_takes_is_documented():
    target = "milforge.data.feature_bags"
    assert list(documented_arguments(target)) == parameters_in_source(target)
