"""The other processes of a store: how a process hears of their changes, and agrees with them on the time."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID


class Peers(Protocol):
    """Keeps the processes of a shared store together; with a store of one process there is nothing to do."""

    async def follow_task(self, task_id: UUID) -> bool:
        """Have this process notified of the task's end and reports from now on; look at the task after this call.

        Return False if that is to be tried again soon: another transaction is writing the task, maybe its end.
        Of other tasks than these, listeners of a shared store hear only what their own process has changed, and which
        running tasks are to be cancelled. Raises Unavailable.
        """

    async def follow_clock(self) -> None:
        """Follow the store's clock; every process of a shared store calls it regularly. Raises Unavailable."""
