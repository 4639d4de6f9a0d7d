"""Whether the values of a config are of the types that signatures say."""

import math
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
}
_LISTS = (list, tuple, set, frozenset, Sequence, Iterable, Collection)
_LONGEST = 100  # characters of a value in a message
_LARGEST = 2**63  # what a whole number of torch's is below


def check_values(path: str, node: Mapping[Any, Any], named: Any) -> None:
    """Checks the values of a target by the types in the signature of what it names.

    A type that is none of Python's own is not judged, nor is a value that is a target itself, holds
    one, or is an interpolation; but a number is written as such. A list stands for a tuple; a whole
    number for a float; the default of a parameter for itself, whatever its type says.

    Args:
        path: where the target stands in the config, for the message.
        node: its keys and their values.
        named: the class or function.

    Raises:
        ValueError: names the first key with a value of another type, or one that is NaN.

    Example:
        >>> def pool(dim: int, act: Literal["tanh", "relu"] = "tanh", sizes: Sequence[int] = ()):
        ...     pass
        >>> check_values("model.pool", {"dim": 3, "act": "relu", "sizes": [1, 2]}, pool)
        >>> check_values("model.pool", {"dim": 1.5}, pool)
        Traceback (most recent call last):
        ValueError: model.pool.dim: expected a whole number, got 1.5
        >>> check_values("model.pool", {"sizes": [1, "a"]}, pool)
        Traceback (most recent call last):
        ValueError: model.pool.sizes: expected a list (each a whole number), got [1, 'a']
    """
    for key, value in node.items():
        if _has_nan(value):
            raise ValueError(f"{path}.{key}: expected a number, got nan")
    hints, defaults = _hints(named), _defaults(named)
    for key, value in node.items():
        if key not in hints or _is_default(value, defaults.get(key)):
            continue
        if _is_open(value) and not (isinstance(value, dict) and _is_number(hints[key])):
            continue
        if not _fits(value, hints[key]):
            raise ValueError(f"{path}.{key}: expected {_words(hints[key])}, got {_short(value)}")


def _hints(named: Any) -> dict[str, Any]:
    function = named.__init__ if isinstance(named, type) else named  # type: ignore[misc]
    try:
        return get_type_hints(function)
    except Exception:  # of another package, whose annotations name what is not imported
        return {}


def _defaults(named: Any) -> dict[str, Any]:
    try:
        parameters = signature(named).parameters
    except (TypeError, ValueError):  # some builtins have none
        return {}
    return {name: each.default for name, each in parameters.items()}


def _is_default(value: Any, default: Any) -> bool:
    return default is not Parameter.empty and type(value) is type(default) and value == default


def _is_open(value: Any) -> bool:
    """Whether a value is, or holds, what only becomes one."""
    if isinstance(value, str):
        return "${" in value or value == "???"
    if isinstance(value, dict):
        return "_target_" in value or any(map(_is_open, value.values()))
    return isinstance(value, list) and any(map(_is_open, value))


def _is_number(hint: Any) -> bool:
    """Whether a type takes numbers, words of a list and null alone."""
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        return _is_number(arguments[0])
    if kind in (Union, types.UnionType):
        return all(map(_is_number, arguments))
    return kind in (bool, int, float, type(None), Literal)


def _has_nan(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" not in value and any(map(_has_nan, value.values()))
    if isinstance(value, list):
        return any(map(_has_nan, value))
    return isinstance(value, float) and math.isnan(value)


def _fits(value: Any, hint: Any) -> bool:
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        return _fits(value, arguments[0])
    if kind in (Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if kind is Literal:
        return any(type(value) is type(each) and value == each for each in arguments)
    if kind is float:
        return type(value) is float or (type(value) is int and abs(value) < _LARGEST)
    if kind in (bool, int, str, type(None)):
        return type(value) is kind and (kind is not int or abs(value) < _LARGEST)
    if kind in _LISTS:
        return isinstance(value, list) and _fit_each(value, arguments)
    if kind in (dict, Mapping):
        return isinstance(value, dict) and all(_fits(v, arguments[-1]) for v in value.values())
    # A class may be made of text, such as a path is; a function is not.
    is_class = isinstance(kind, type) and kind not in (object, Any)
    return not is_class or (isinstance(value, str) and kind is not Callable)


def _fit_each(values: list[Any], hints: tuple[Any, ...]) -> bool:
    if len(hints) > 1 and hints[-1] is not Ellipsis:  # a tuple, each of its values of its own type
        return len(values) == len(hints) and all(map(_fits, values, hints))
    return not hints or all(_fits(value, hints[0]) for value in values)


def _words(hint: Any) -> str:
    kind, arguments = get_origin(hint) or hint, get_args(hint)
    if kind is Annotated:
        return _words(arguments[0])
    if kind in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, arguments)))
    if kind is Literal:
        return " or ".join(map(str, arguments))
    if kind in _LISTS:
        each = [_words(a) for a in arguments if a is not Ellipsis]
        if not each:
            return "a list"
        several = len(arguments) > 1 and arguments[-1] is not Ellipsis
        return f"a list ({', '.join(each) if several else f'each {each[0]}'})"
    if kind in (dict, Mapping):
        return "keys and values"
    return _WORDS.get(kind, f"a {getattr(kind, '__name__', kind)} (with a _target_)")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
