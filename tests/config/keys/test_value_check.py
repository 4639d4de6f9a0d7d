"""Values of a config against the types in signatures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from torch import Tensor

from milforge.config.keys.value_check import check_values


def target(
    count: int = 1,
    share: float = 0.5,
    word: str = "",
    flag: bool = False,
    most: int | None = None,
    old: Optional[int] = None,  # noqa: UP045 (as torch writes it)
    kind: Literal["a", "b"] = "a",
    sizes: Sequence[int] = (),
    pair: tuple[float, float] = (0.0, 1.0),
    many: tuple[int, ...] = (),
    words: Mapping[str, int] | None = None,
    path: Path | None = None,
    build: Callable[..., Any] | None = None,
    weight: Tensor | None = None,
    lies: int = None,  # noqa: RUF013 (its default is of another type)
    anything: Any = None,
    untyped=None,
) -> None:
    """Takes one of each type."""


RIGHT = [
    *(("count", 3), ("share", 3), ("share", 0.1), ("share", float("inf")), ("word", "x")),
    *(("flag", True), ("most", None), ("most", 2), ("old", None), ("old", 2), ("kind", "b")),
    *(("sizes", [1, 2]), ("sizes", []), ("pair", [0, 1.0]), ("many", [1, 2, 3])),
    *(("words", {"a": 1}), ("words", None), ("path", "a/b"), ("lies", None), ("lies", 1)),
    *(("anything", [{}]), ("untyped", 3), ("unknown", 3)),
    *(("count", "${seed}"), ("sizes", ["${seed}"]), ("build", {"_target_": "a.B"})),
    *(("sizes", [{"_target_": "a.B"}]), ("words", {"a": {"_target_": "a.B"}})),
]


@pytest.mark.parametrize(("key", "value"), RIGHT, ids=str)
def test_values_of_the_type_are_taken(key, value):
    check_values("data", {"_target_": "x", key: value}, target)


WRONG = [
    ("count", {"_target_": "os.getcwd"}, "a whole number"),
    ("most", {"_target_": "os.getcwd"}, "a whole number or null"),
    ("share", 10**25, "a number"),
    ("count", -(10**25), "a whole number"),
    ("count", 1.0, "a whole number"),
    ("count", True, "a whole number"),
    ("count", "3", "a whole number"),
    ("count", None, "a whole number"),
    ("count", float("inf"), "a whole number"),
    ("share", "1e-3", "a number"),
    ("share", True, "a number"),
    ("share", [], "a number"),
    ("word", 3, "text"),
    ("flag", 1, "true or false"),
    ("most", 1.5, "a whole number or null"),
    ("old", "x", "a whole number or null"),
    ("kind", "c", "a or b"),
    ("kind", ["a"], "a or b"),
    ("sizes", 3, "a list (each a whole number)"),
    ("sizes", "12", "a list (each a whole number)"),
    ("sizes", [1, None], "a list (each a whole number)"),
    ("pair", [1.0], "a list (a number, a number)"),
    ("many", [1, "a"], "a list (each a whole number)"),
    ("words", {"a": "b"}, "keys and values or null"),
    ("path", 3, "a Path (with a _target_) or null"),
    ("build", "tanh", "a Callable (with a _target_) or null"),
    ("weight", [1.0], "a Tensor (with a _target_) or null"),
]


@pytest.mark.parametrize(("key", "value", "expected"), WRONG, ids=str)
def test_values_of_another_type_are_refused(key, value, expected):
    with pytest.raises(ValueError, match=r"^data\." + key) as told:
        check_values("data", {key: value}, target)
    assert str(told.value) == f"data.{key}: expected {expected}, got {value!r}"


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("nan")], {"a": float("nan")}])
@pytest.mark.parametrize("key", ["share", "untyped", "unknown"])
def test_nan_is_no_value(key, value):
    with pytest.raises(ValueError, match=f"optimizer.{key}: expected a number, got nan"):
        check_values("optimizer", {key: value}, target)


def test_a_long_value_is_cut_off():
    with pytest.raises(ValueError, match="got 'xxx") as told:
        check_values("data", {"count": "x" * 5000}, target)
    assert len(str(told.value)) < 200


def test_classes_of_others_are_checked_by_their_own_signatures():
    import lightning
    import torch

    check_values("optimizer", {"lr": 1e-3, "betas": [0.9, 0.99]}, torch.optim.Adam)
    check_values("trainer", {"devices": "auto", "precision": "32-true"}, lightning.Trainer)
    with pytest.raises(ValueError, match=r"optimizer\.lr: expected a number or a Tensor"):
        check_values("optimizer", {"lr": []}, torch.optim.Adam)
    with pytest.raises(ValueError, match=r"trainer\.max_epochs: expected a whole number or null"):
        check_values("trainer", {"max_epochs": "many"}, lightning.Trainer)
