"""Statistics: sums of what happened to tasks, and counts of the open ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from tasker.model import PartitionStats
from tasker.model.stats import StatsFilter, StatsRow


class StatsStore(Protocol):
    """Sums by minute and hour, owner, type and queue, and counts of open tasks.

    The transaction that changes tasks also stores what it changed. The sums outlive the tasks. An import counts its
    open tasks, but nothing as having happened now. No call scans tasks.
    """

    async def window(self, where: StatsFilter) -> list[StatsRow]:
        """Return the sums of a window by step and group, and those of the window before by group, in any order."""

    async def open_counts(
        self, owner: str | None = None, *, queues: Collection[str] | None = None
    ) -> list[PartitionStats]:
        """Count the open tasks, in order of queue and type; only this owner's, and only in these queues, if given."""

    async def fold(self, *, limit: int) -> int:
        """Add what at most `limit` transactions have stored to the sums; return how many. Reads count both."""

    async def prune(self, *, limit: int) -> int:
        """Erase sums that are past their time, at most `limit` of each kind; return how many."""
