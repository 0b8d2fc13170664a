"""Marks of a test's examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def usually(values: Iterable[Any], *usual: Any) -> list[Any]:
    """Return the values for `parametrize`; all but the usual ones are `long`: tried by make test-all."""
    values = _with(values, usual)
    return [value if value in usual else pytest.param(value, marks=pytest.mark.long) for value in values]


def unusually(values: Iterable[Any], *unusual: Any) -> list[Any]:
    """Return the values for `parametrize`; the unusual ones are `long`."""
    values = _with(values, unusual)
    return [pytest.param(value, marks=pytest.mark.long) if value in unusual else value for value in values]


def _with(values: Iterable[Any], chosen: Iterable[Any]) -> list[Any]:
    """Return the values, which have all that is chosen of them: another name would leave out a test unnoticed."""
    values = list(values)
    unknown = [one for one in chosen if one not in values]
    assert not unknown, f"expected some of {values}, got {unknown}"
    return values
