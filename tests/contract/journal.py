"""Read a journal to its end, and compare it with the logs of the tasks."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from tasker.engines.protocol import Engine
from tasker.model import Event
from tasker.model.journal import JournalEntry


async def read_all(engine: Engine, after: str | None = None, *, limit: int = 100) -> list[JournalEntry]:
    """Return every entry after a cursor."""
    found: list[JournalEntry] = []
    while True:
        page = await engine.journal.read(after, limit=limit)
        assert not page.was_reset
        assert len(page.entries) <= limit
        found += page.entries
        if page.cursor == after:
            return found
        after = page.cursor


def by_task(entries: list[JournalEntry]) -> dict[UUID, list[Event]]:
    """Return the events of each task, in the order of the journal."""
    found: dict[UUID, list[Event]] = defaultdict(list)
    for entry in entries:
        found[entry.event.task_id].append(entry.event)
    return dict(found)
