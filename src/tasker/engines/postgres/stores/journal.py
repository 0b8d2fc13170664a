"""The JournalStore of the distributed engine: rows may become visible in another order than that of their numbers.

A transaction takes its number at its very end, so an event that follows from another always has the larger one. But
between taking its number and its commit, a transaction may be overtaken: a reader that continued from the last number
it saw would never see that row. So no reader passes a missing number until it is certain that it will stay missing,
because its transaction was rolled back: when every transaction has ended that was running as a larger number was seen.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any
from uuid import UUID

from tasker.engines.postgres.clock_steps import EraseUntil
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.rows import event_of, head_of, task_of
from tasker.engines.postgres.transaction import Connection, Transaction
from tasker.engines.shared import journal
from tasker.engines.shared.log import Entry
from tasker.model import Task
from tasker.model.journal import JournalEntry, JournalLimits, JournalPage

_LOOK_AGAIN = 0.01
"""Seconds between looks for a missing number: usually its commit is about to finish."""
_LONGEST_LOOK = 0.5
"""Seconds after which a read that found nothing returns."""

Prune = Callable[[Callable[[Connection], Awaitable[int]]], Awaitable[int]]


class Settled:
    """Tracks the number up to which missing numbers are known to stay missing."""

    def __init__(self) -> None:
        self.number = 0
        self._seen: tuple[int, int] | None = None

    def has_ended(self, xmin: int) -> None:
        """Note that every transaction below `xmin` has ended."""
        if self._seen is not None and xmin >= self._seen[1]:
            self.number, self._seen = max(self.number, self._seen[0]), None

    async def ask(self, connection: Connection, last: int) -> None:
        """Begin to settle `last`, a visible number: all transactions with smaller numbers have already begun.

        A snapshot does not suffice: its xmax follows the last transaction that ended, not the last one that began.
        """
        if self._seen is None:
            self._seen = (last, await connection.fetchval("SELECT pg_current_xact_id()::text::bigint"))


@dataclass
class PostgresJournal:
    """prune: runs a function in a transaction, unless another process is pruning."""

    _connections: Connections
    _queries: dict[str, str]
    _prune: Prune
    _limits: JournalLimits
    _erase_until: EraseUntil
    _settled: Settled = field(default_factory=Settled, init=False)

    async def tail(self) -> str:
        """Running transactions with a smaller number count as before the tail."""
        ends = await self._connections.read(lambda connection: connection.fetchrow(self._queries["journal_ends"]))
        return journal.to_cursor(ends["name"], journal.Place(ends["last"] + 1))

    async def read(self, after: str | None = None, *, limit: int = 100) -> JournalPage:
        asked = None if after is None else journal.from_cursor(after)
        begun = time.monotonic()
        while True:
            page, is_held = await self._connections.read(lambda connection: self._page(connection, asked, limit))
            if not is_held or time.monotonic() - begun > _LONGEST_LOOK:
                return page
            await asyncio.sleep(_LOOK_AGAIN)

    async def prune(self, *, limit: int) -> int:
        return await self._prune(lambda connection: self._prune_some(connection, limit))

    async def _prune_some(self, tx: Transaction, limit: int) -> int:
        ends = await tx.fetchrow(self._queries["journal_ends"])
        row_size = await tx.fetchval(self._queries["journal_row_size"]) or 1.0
        from_id = ends["last"] - int(self._limits.size / row_size) + 1
        until = await self._erase_until(tx)
        done = await tx.execute(self._queries["prune_journal"], self._limits.keep, from_id, limit, until)
        return int(done.split()[-1])

    async def _page(
        self, connection: Connection, asked: tuple[bytes, journal.Place] | None, limit: int
    ) -> tuple[JournalPage, bool]:
        """Return a page, and whether more rows wait for a missing number."""
        ends = await connection.fetchrow(self._queries["journal_ends"])
        name, first, last = ends["name"], ends["first"], ends["last"]
        self._settled.has_ended(ends["xmin"])
        if asked is not None and (asked[0] != name or not first <= asked[1].row <= last + 1):
            return JournalPage(entries=[], cursor=journal.to_cursor(name, journal.Place(first)), was_reset=True), False
        after = journal.Place(first) if asked is None else asked[1]
        rows = await connection.fetch(self._queries["journal_rows"], after.row, journal.ROWS_AT_ONCE)
        ready = _ready(rows, after.row, self._settled.number)
        is_held = len(ready) < len(rows)
        if is_held:
            await self._settled.ask(connection, last)
        placed = journal.spread(ready, after, limit)
        found = await self._find_events(connection, placed)
        first = journal.first_page(found, await self._sizes(connection, found))
        end = first[-1].placed.place if len(first) < len(found) else journal.end_of(placed, after)
        page = JournalPage(entries=await self._entries(connection, name, first), cursor=journal.to_cursor(name, end))
        return page, is_held and not placed

    async def _find_events(
        self, connection: Connection, placed: Sequence[journal.PlacedEvent]
    ) -> list[journal.FoundEvent]:
        """Read these events: first the rows, then the logs, which contain whatever a row no longer shows."""
        ids = [UUID(bytes=task_id) for task_id in dict.fromkeys(one.ref.task_id for one in placed)]
        rows = await connection.fetch(self._queries["subjects"], ids) if ids else ()
        subjects = {
            row["task_id"].bytes: journal.Subject(
                row["seq"], row["type"], row["queue"], tuple(row["tags"]), row["owner"], head_of(row)
            )
            for row in rows
        }
        want = journal.wanted(placed, subjects)
        kept: dict[int, dict[int, Entry]] = defaultdict(dict)
        if want.ranges or want.ends:
            columns = [list(column) for column in zip(*want.ranges, strict=True)] or [[], [], []]
            for row in await connection.fetch(self._queries["events_between"], *columns, want.ends):
                seq, *entry = row.values()
                kept[seq][entry[0]] = Entry(*entry)
        return journal.find_events(placed, subjects, kept)

    async def _sizes(self, connection: Connection, found: Sequence[journal.FoundEvent]) -> dict[bytes, int]:
        """Return the sizes of the tasks that ended here, without reading them."""
        ended = [UUID(bytes=one.placed.ref.task_id) for one in found if one.is_end]
        rows = await connection.fetch(self._queries["task_sizes"], ended) if ended else ()
        return {row["task_id"].bytes: row["size"] for row in rows}

    async def _entries(
        self, connection: Connection, name: bytes, found: Sequence[journal.FoundEvent]
    ) -> list[JournalEntry]:
        ended = [UUID(bytes=one.placed.ref.task_id) for one in found if one.is_end]
        rows = await connection.fetch(self._queries["tasks_by_id"], ended) if ended else ()
        tasks = {row["task_id"]: task_of(row) for row in rows}
        return [_entry(name, one, tasks) for one in found]


def _ready(rows: Sequence[Any], first: int, settled: int) -> list[tuple[int, bytes]]:
    """Return the rows before the first missing number that is not settled."""
    numbers = zip(rows, [first, *(row["id"] + 1 for row in rows)], strict=False)
    ready = takewhile(lambda pair: pair[0]["id"] == pair[1] or pair[0]["id"] <= settled + 1, numbers)
    return [(row["id"], row["notes"]) for row, _ in ready]


def _entry(name: bytes, found: journal.FoundEvent, tasks: dict[UUID, Task]) -> JournalEntry:
    task_id, entry = UUID(bytes=found.placed.ref.task_id), found.entry
    task = tasks.get(task_id) if found.is_end else None
    if task is not None and (task.status != entry.type or task.attempt != entry.attempt):  # the task already runs again
        task = None
    return journal.entry_of(name, found, event_of(entry, task_id), task)
