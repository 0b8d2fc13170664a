"""The journal: the events of all tasks in the order in which they became durable."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from msgspec import Struct

from tasker.model.events import Event
from tasker.model.tasks import Task


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One event, its position in the journal, and the fields of its task that filters use.

    cursor: the position after this entry. commit: the number of its commit; later commits have larger numbers. type,
    queue, tags, owner: the task's. task: for the event that ends a task, the task as it ended; None for other events,
    and for a task that was retried since.
    """

    cursor: str
    event: Event
    type: str
    queue: str
    tags: tuple[str, ...]
    owner: str
    commit: int
    task: Task | None = None

    @property
    def size(self) -> int:
        """Bytes of its large parts: the event's data, and the params and result of its task."""
        task = self.task
        of_task = 0 if task is None else len(memoryview(task.params)) + len(memoryview(task.result or b""))
        return len(memoryview(self.event.data)) + of_task


class JournalPage(Struct, frozen=True, kw_only=True):
    """Entries in order, and the cursor to read on from, even if there are no entries.

    was_reset: the entries after the requested cursor are no longer stored, or never were in this store. Such a page has
    no entries, and its cursor is before the oldest stored entry.
    """

    entries: list[JournalEntry]
    cursor: str
    was_reset: bool = False


class JournalLimits(NamedTuple):
    """How long journal entries are kept, and the limit of their size, about that many bytes."""

    keep: timedelta = timedelta(hours=24)
    size: int = 256 << 20
