"""Usage of attempts by day: tokens, cost, run time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from tasker.model.usage import Group, UsageFilter, UsageRow


class UsageStore(Protocol):
    """Daily usage, counted in the transactions of attempts: tokens and cost with each report, the rest at the end.

    It outlives the tasks.
    """

    async def find_many(self, where: UsageFilter, *, group: Collection[Group], limit: int) -> list[UsageRow]:
        """Return sums by `group`, in order of day, owner and type, at most `limit`."""

    async def spent_today(self, owner: str) -> int:
        """Return the cost of the owner's tasks since midnight UTC, in nano-dollars."""
