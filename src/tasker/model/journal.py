"""The events of all tasks in one line, as they became durable."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from msgspec import Struct

from tasker.model.events import Event
from tasker.model.tasks import Task


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One event with its place in the line, and what of its task is asked for.

    cursor: read on behind this entry by it. commit: a number; what became durable later has a larger one. type, queue,
    tags, owner: the task's. task: at the event that ends one, the task as it ended; None for any other event, and where
    it was run again since.
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
        """Bytes of what may be large in it: what the event says, and the params and result of its task."""
        task = self.task
        of_task = 0 if task is None else len(memoryview(task.params)) + len(memoryview(task.result or b""))
        return len(memoryview(self.event.data)) + of_task


class JournalPage(Struct, frozen=True, kw_only=True):
    """Entries in order, and the cursor to read on from, also where there are none.

    was_reset: what lay behind the cursor that was asked for is not kept any more, or was never here. Such a page has no
    entries, and its cursor is before the oldest that are kept.
    """

    entries: list[JournalEntry]
    cursor: str
    was_reset: bool = False


class JournalLimits(NamedTuple):
    """How long the journal is kept, and about how many bytes of it at the most."""

    keep: timedelta = timedelta(hours=24)
    size: int = 256 << 20
