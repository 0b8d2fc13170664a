"""The workers there are, and the task types they publish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tasker.model import (
    WorkerInfo,
    WorkerState,
)
from tasker.model.types import KnownType, PublishedType


class WorkerStore(Protocol):
    """Which workers there are. For people and for noticing the dead: no lease depends on it."""

    async def announce(self, worker: WorkerInfo) -> None:
        """Note that the worker lives now, and what it says of itself: at its start and with each heartbeat."""

    async def withdraw(self, worker_id: str) -> None:
        """Forget a worker that has ended in good order. Idempotent."""

    async def find_all(self) -> list[WorkerState]:
        """Return the workers heard of within KEEP_WORKERS_FOR, in order of their start."""

    async def publish(self, types: Sequence[PublishedType]) -> None:
        """Store what a worker that starts tells of its types. Of two workers' words on one name the newest counts."""

    async def find_types(self) -> list[KnownType]:
        """Return the types of workers heard of within KEEP_TYPES_FOR, by name."""
