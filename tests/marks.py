"""Marks of a test's examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def usually(values: Iterable[Any], *usual: Any) -> list[Any]:
    """Return the values for `parametrize`; all but the usual ones are `long`: tried by make test-all."""
    return [value if value in usual else pytest.param(value, marks=pytest.mark.long) for value in values]


def unusually(values: Iterable[Any], *unusual: Any) -> list[Any]:
    """Return the values for `parametrize`; the unusual ones are `long`."""
    return [pytest.param(value, marks=pytest.mark.long) if value in unusual else value for value in values]
