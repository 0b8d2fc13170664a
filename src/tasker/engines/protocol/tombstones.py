"""Tombstones: traces of expired tasks."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from tasker.model import (
    Tombstone,
)


class TombstoneStore(Protocol):
    """Knows which tasks existed and expired, for as long again as the tasks were kept."""

    async def find(self, task_id: UUID) -> Tombstone | None:
        """Return the tombstone of a task that has expired, erased or not; None for others, and once it is forgotten."""
