"""The events of all tasks, in one order."""

from __future__ import annotations

from typing import Protocol

from tasker.model.journal import JournalPage


class JournalStore(Protocol):
    """The events of all tasks in one line: each event that a reader can find in a task's log stands in it once.

    An event of a task never stands before an earlier one of that task, and nothing is ever put before what was read:
    who reads on from page to page misses nothing and meets nothing twice, over ends of the process, and through any
    process of a shared store. Events of tasks that were erased or have expired are left out. Cursors are opaque.
    """

    async def tail(self) -> str:
        """Return the cursor of what is stored from now on."""

    async def read(self, after: str | None = None, *, limit: int = 100) -> JournalPage:
        """Return the entries behind a cursor, at most `limit`, fewer where they are large; None: from the oldest.

        It does not wait for any: listen to `watch`, and look again now and then where the store is shared. A page
        without entries may have a new cursor all the same: read on until it stays.
        Raises Invalid for a cursor that no journal gave out.
        """

    async def prune(self, *, limit: int) -> int:
        """Erase the oldest of what is past the engine's JournalLimits, at most `limit` rows; return how many."""
