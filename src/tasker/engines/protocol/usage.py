"""What attempts used up, by day."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from tasker.model.usage import Group, UsageFilter, UsageRow


class UsageStore(Protocol):
    """What attempts used up, counted in the transactions that store it: `usage` as it grows, the rest at their ends.

    It outlives the tasks.
    """

    async def find_many(self, where: UsageFilter, *, group: Collection[Group], limit: int) -> list[UsageRow]:
        """Return the first sums by `group`, in order of day, owner and type."""

    async def spent_today(self, owner: str) -> int:
        """Return the nano-dollars that the owner's tasks have cost since midnight UTC."""
