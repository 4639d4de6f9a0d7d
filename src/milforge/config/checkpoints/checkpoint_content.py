"""Whether a checkpoint holds what a run writes into it, in sizes that a run has."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from milforge.config.keys.odd_values import odd_values

_MOST_NUMBERS = 10**8  # of an instance
_MOST_STEPS = 2**53


def check_content(checkpoint: Mapping[str, Any], origin: str) -> None:
    """Checks the keys that evaluation, prediction and going on read.

    Args:
        checkpoint: as it was loaded, with a mapping under `milforge`.
        origin: the key and the file, which begin an error.

    Raises:
        ValueError: names the first key that is missing or odd.
    """
    for key in ("epoch", "global_step"):
        _expect(origin, key, checkpoint.get(key), _is_count, "a number of steps")
    version = "pytorch-lightning_version"
    _expect(origin, version, checkpoint.get(version), lambda value: isinstance(value, str), "text")
    _check_weights(checkpoint["state_dict"], origin)
    stored = checkpoint["milforge"]
    kinds: dict[str, tuple[Callable[[Any], bool], str]] = {
        "config": (_is_mapping, "keys and values"),
        "instance_shape": (_is_shape, "the sizes of an instance, or of each stream"),
        "feature_names": (_are_words, "names"),
        "standardised": (lambda value: isinstance(value, bool), "true or false"),
        "task": (_is_mapping, "keys and values"),
        "class_names": (_are_words, "names"),
        "split": (_is_split, "the bags of train, val and test, or nothing"),
        "covariates": (_are_covariates, "the statistics of columns, or nothing"),
        "fingerprints": (_are_hashes, "the hashes of the data of each part"),
        "history": (_is_history, "the values of each metric by epoch"),
        "seen": (_are_seen, "what was seen of an epoch"),
    }
    for key, (fits, expected) in kinds.items():
        if key not in stored:
            raise ValueError(
                f"{origin} lacks the key 'milforge.{key}': it is damaged, or of another version; "
                "give a file from a run's checkpoints/ folder"
            )
        _expect(origin, f"milforge.{key}", stored[key], fits, expected)
    count = stored.get("num_covariates", 0)  # earlier versions did not write it
    _expect(origin, "milforge.num_covariates", count, _is_width, "a number of covariates")


def _expect(origin: str, key: str, value: Any, fits: Callable[[Any], bool], expected: str) -> None:
    if not fits(value):
        raise ValueError(
            f"{origin} holds {value!r:.100} as {key!r}, expected {expected}: it is damaged; give a "
            "file from a run's checkpoints/ folder"
        )


def _check_weights(weights: Any, origin: str) -> None:
    from torch import Tensor, strided

    if not _is_mapping(weights):
        raise ValueError(f"{origin} holds no weights by name: it is damaged")
    for name, value in weights.items():
        whole = isinstance(value, Tensor) and value.layout == strided
        # A tensor may be a view that repeats a few numbers: of any size, in a small file.
        if not whole or value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError(
                f"{origin} holds weights {name!r:.100} that are no whole tensor: it is damaged"
            )


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_STEPS


def _is_width(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST_NUMBERS


def _are_words(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _is_shape(value: Any) -> bool:
    if isinstance(value, dict):
        return _is_mapping(value) and bool(value) and all(map(_is_sizes, value.values()))
    return _is_sizes(value)


def _is_sizes(value: Any) -> bool:
    sizes = isinstance(value, list | tuple) and all(type(n) is int and n > 0 for n in value)
    return sizes and math.prod(value) <= _MOST_NUMBERS


def _is_split(value: Any) -> bool:
    parts = ("train", "val", "test")
    if value is None:
        return True
    if not _is_mapping(value) or not _are_words(value.get("calibration", ())):
        return False
    return all(_are_words(value.get(part)) for part in parts)


def _are_hashes(value: Any) -> bool:
    return _is_mapping(value) and all(
        _is_mapping(part) and _are_words(list(part.values())) for part in value.values()
    )


def _are_covariates(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_covariate, value)))


def _is_covariate(value: Any) -> bool:
    if not _is_mapping(value) or not isinstance(value.get("name"), str):
        return False
    if "values" in value:
        return _are_words(value["values"])
    return all(isinstance(value.get(key), int | float) for key in ("mean", "std"))


def _is_history(value: Any) -> bool:
    def point(each: Any) -> bool:
        pair = isinstance(each, list | tuple) and len(each) == 2
        return pair and all(isinstance(number, int | float) for number in each)

    return _is_mapping(value) and all(
        isinstance(points, list) and all(map(point, points)) for points in value.values()
    )


def _are_seen(value: Any) -> bool:
    from torch import Tensor

    return isinstance(value, list) and all(
        _is_mapping(each) and all(isinstance(column, Tensor) for column in each.values())
        for each in value
    )


def name_odd_values(origin: str) -> AbstractContextManager[None]:
    """Turns what odd values of a checkpoint lead to into a sentence that names it."""
    return odd_values(f"{origin} holds values that this version cannot use")
