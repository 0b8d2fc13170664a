"""The events of all tasks, in one order."""

from __future__ import annotations

from typing import Protocol

from tasker.model.journal import JournalPage


class JournalStore(Protocol):
    """The events of all tasks in one order: each event of a task's log is in it once.

    Events of one task are in the order of its log, and no event is inserted before one that was read. A reader that
    goes on from page to page misses none and sees none twice, across restarts and through any process of a shared
    store. Events of tasks that were erased or have expired are left out. Cursors are opaque.
    """

    async def tail(self) -> str:
        """Return the cursor behind the last event."""

    async def read(self, after: str | None = None, *, limit: int = 100) -> JournalPage:
        """Return the entries behind a cursor, at most `limit`, fewer if they are large. after: None for the oldest.

        It does not wait for entries: listen to `watch`, and poll now and then if the store is shared. A page without
        entries may have a new cursor: read on until the cursor stays the same.
        Raises Invalid for a cursor that no journal gave out.
        """

    async def prune(self, *, limit: int) -> int:
        """Erase the oldest rows beyond the engine's JournalLimits, at most `limit`; return how many."""
