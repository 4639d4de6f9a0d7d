"""Fewer of many alike cases in `make test`; all of them in `make nightly`."""

import pytest


def thinned(cases, every=4):
    """The cases for `parametrize`, of which each fourth (or so) is not left to the night.

    For cases of one rule whose code is the same: each costs a run or a composition, and which of
    them is tested says little. Cases that take paths of their own are not thinned. A case of one
    value that is a tuple is given as `pytest.param(value)`.
    """
    return [case if n % every == 0 else _at_night(case) for n, case in enumerate(cases)]


def _at_night(case):
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*getattr(case, "values", values), marks=pytest.mark.nightly)
