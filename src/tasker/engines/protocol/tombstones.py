"""Tombstones: traces of expired tasks."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from tasker.model import (
    Tombstone,
)


class TombstoneStore(Protocol):
    """Remembers expired tasks for as long as they were kept."""

    async def find(self, task_id: UUID) -> Tombstone | None:
        """Return the tombstone of an expired task, erased or not; None for other tasks, and once it is forgotten."""
