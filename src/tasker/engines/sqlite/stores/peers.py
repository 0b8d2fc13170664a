"""The other processes of an embedded store: there are none."""

from __future__ import annotations

from uuid import UUID


class SqlitePeers:
    """The Peers of the embedded engine."""

    async def follow_task(self, task_id: UUID) -> bool:
        """Do nothing: listeners hear of everything."""
        return True

    async def follow_clock(self) -> None:
        """Do nothing: the store's clock is the machine's, and commits notice when it is set."""
