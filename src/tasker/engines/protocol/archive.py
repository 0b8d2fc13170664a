"""Export and import of a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol
from uuid import UUID

from tasker.model.archive import StoredRecord, StoredTask


class ArchiveStore(Protocol):
    """Exports everything in the store, and imports an export of another store."""

    def read(self, *, at_once: int, size: int) -> AsyncGenerator[list[StoredRecord] | list[StoredTask]]:
        """Yield batches of all records, then of all tasks with their attempts, events and keys, in order of submission.

        All are from one snapshot. A batch ends after `at_once` items, or with the item that reaches `size` characters.
        """

    async def put(self, tasks: Sequence[StoredTask], *, rehearsal: bool = False) -> int:
        """Store the tasks that are new and were not erased here, in order, in one commit; return how many.

        A running task gets an expired lease. rehearsal: roll all of it back.
        Raises Conflict if the store has the task with content that is no later state of the given one, or if another
        task has one of its keys; ArchiveError if a task cannot be stored as it is. Nothing has changed then.
        """

    async def find_many(self, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
        """Return each task with its attempts, events and keys, or None, in order."""

    async def find_erased(self, task_ids: Sequence[UUID]) -> set[UUID]:
        """Return the ids of tasks that have a tombstone here: they expired, or were deleted."""

    async def put_records(self, records: Sequence[StoredRecord], *, rehearsal: bool = False) -> int:
        """Store the records with new keys, in order, in one commit; return how many.

        Existing records stay as they are. rehearsal: roll all of it back. Raises ArchiveError for an invalid record,
        and Conflict, naming it, for one that needs a unique value of another record. Nothing has changed then.
        """

    async def find_records(self, records: Sequence[StoredRecord]) -> list[StoredRecord | None]:
        """Return the stored record with the key of each given one, or None, in order."""
