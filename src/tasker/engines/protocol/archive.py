"""Everything stored, to be read and put elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol
from uuid import UUID

from tasker.model.archive import StoredRecord, StoredTask


class ArchiveStore(Protocol):
    """All that is stored, to carry it to another store."""

    def read(self, *, at_once: int, size: int) -> AsyncGenerator[list[StoredRecord] | list[StoredTask]]:
        """Yield every record, then every task with all that belongs to it, as they are at one moment; tasks in order
        of submission.

        So many together: `at_once` at the most, and none behind the one with which they come to `size` characters.
        """

    async def put(self, tasks: Sequence[StoredTask], *, rehearsal: bool = False) -> int:
        """Store those that are not there yet and were not erased here, in order, in one commit; return how many.

        One that was running has an expired lease. rehearsal: all of it is taken back. Raises, and changes nothing,
        Conflict if a task is there with other content than it could have come to from the given one, or another one has
        what only one may have; ArchiveError if a task cannot be stored as it is.
        """

    async def find_many(self, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
        """Return each task with all that belongs to it, or None, in order."""

    async def find_erased(self, task_ids: Sequence[UUID]) -> set[UUID]:
        """Return those of which the store has a tombstone: they expired here, or were deleted."""

    async def put_records(self, records: Sequence[StoredRecord], *, rehearsal: bool = False) -> int:
        """Store those whose name is not there yet, in order, in one commit; return how many.

        What is there is left as it is, whatever it says. rehearsal: all of it is taken back. Raises ArchiveError for a
        record that is none of its kind, and Conflict for one that cannot be there together with another, which is
        named; nothing has changed then.
        """

    async def find_records(self, records: Sequence[StoredRecord]) -> list[StoredRecord | None]:
        """Return what is there under the name of each record, or None, in order."""
