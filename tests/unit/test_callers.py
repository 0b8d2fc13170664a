"""What callers see."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasker.model import TaskFilter
from tasker.model.failures import FailureFilter
from tasker.model.keys import ANYBODY, Caller

ADA = Caller(owner="ada", scopes=frozenset({"read"}))
NO_OWNER = Caller(scopes=frozenset({"read"}))
ADMIN = Caller(owner="ada", scopes=frozenset({"admin"}))


@pytest.mark.parametrize(
    ("caller", "asked", "seen"),
    [
        (ADA, None, "ada"),
        (ADA, "ada", "ada"),
        (ADA, "eve", False),
        (ADA, "", False),
        (NO_OWNER, None, ""),
        (NO_OWNER, "", ""),
        (NO_OWNER, "ada", False),
        (ADMIN, None, None),
        (ADMIN, "eve", "eve"),
        (ANYBODY, "", ""),
    ],
)
def test_a_filter_is_narrowed_to_what_the_caller_sees(
    caller: Caller, asked: str | None, seen: str | bool | None
) -> None:
    tasks = caller.narrow(TaskFilter(owner=asked, types=("sum",)))
    failures = caller.narrow(FailureFilter(owner=asked, since=datetime(2026, 1, 1, tzinfo=UTC), types=("sum",)))
    for found in (tasks, failures):
        assert found is None if seen is False else found is not None and (found.owner, found.types) == (seen, ("sum",))
