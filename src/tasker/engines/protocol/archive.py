"""Export and import of a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol
from uuid import UUID

from tasker.model.archive import StoredRecord, StoredTask


class ArchiveStore(Protocol):
    """Reads everything that is stored, and stores what another store had."""

    def read(self, *, at_once: int, size: int) -> AsyncGenerator[list[StoredRecord] | list[StoredTask]]:
        """Yield batches of all records, then of all tasks with everything that belongs to them, in order of submission.

        All are as they were at one moment. A batch ends after `at_once` items, or the one that brings it to `size`
        characters.
        """

    async def put(self, tasks: Sequence[StoredTask], *, rehearsal: bool = False) -> int:
        """Store tasks that are not there yet and were not erased here, in order, in one commit; return how many.

        A running task gets an expired lease. rehearsal: roll all of it back.
        Raises Conflict if a task is there with content that it cannot have got from the given one, or if another task
        has its id or a key of it; ArchiveError if a task cannot be stored as it is. Nothing has changed then.
        """

    async def find_many(self, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
        """Return each task with everything that belongs to it, or None, in order."""

    async def find_erased(self, task_ids: Sequence[UUID]) -> set[UUID]:
        """Return the tasks that have a tombstone here: they expired, or were deleted."""

    async def put_records(self, records: Sequence[StoredRecord], *, rehearsal: bool = False) -> int:
        """Store records whose key is not there yet, in order, in one commit; return how many.

        A record that is there stays as it is. rehearsal: roll all of it back. Raises ArchiveError for a record that is
        not valid, and Conflict, naming it, for one that another record excludes. Nothing has changed then.
        """

    async def find_records(self, records: Sequence[StoredRecord]) -> list[StoredRecord | None]:
        """Return the stored record with the key of each given one, or None, in order."""
