"""Failure groups."""

from __future__ import annotations

from typing import Protocol

from tasker.model.failures import FailureFilter, FailurePage


class FailureStore(Protocol):
    """Failures of tasks by group and hour, counted in the transactions that end the tasks. They outlive the tasks."""

    async def find_many(self, where: FailureFilter, *, limit: int, cursor: str | None = None) -> FailurePage:
        """Return groups with their counts, those that failed last first. Raises Invalid for another list's cursor.

        A call reads a limited number of hourly counts: the page says from which hour on it has counted.
        """
