"""The JournalStore of the embedded engine: one row for each commit, in the order of the commits."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw

from tasker.clock import MICROSECOND, Clock, to_micros
from tasker.engines.shared import journal
from tasker.engines.shared.log import Entry, Head
from tasker.engines.sqlite import reads
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.result_files import Results
from tasker.engines.sqlite.rows import Row, event_of, tags_of, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction, Write
from tasker.model.journal import JournalEntry, JournalLimits, JournalPage


@dataclass
class SqliteJournal:
    """Implements JournalStore. erase_until: returns the time until which rows may be erased, in microseconds."""

    _read: Reader
    _write: Write
    _clock: Clock
    _limits: JournalLimits
    _results: Results
    _erase_until: Callable[[], int]

    async def tail(self) -> str:
        return await self._read(_tail)

    async def read(self, after: str | None = None, *, limit: int = 100) -> JournalPage:
        name, place = (b"", journal.Place(0)) if after is None else journal.from_cursor(after)
        now = to_micros(self._clock.now())
        known = None if after is None else name
        return await self._read(_page, self._results, known, place, limit, now)

    async def prune(self, *, limit: int) -> int:
        first, last, row_size = await self._read(_extent)
        from_id = last - int(self._limits.size / max(row_size, 1)) + 1
        before = self._erase_until() - self._limits.keep // MICROSECOND
        if first >= last:
            return 0
        return await self._write(functools.partial(_prune, before=before, from_id=from_id, limit=limit))


def _extent(connection: apsw.Connection) -> tuple[int, int, float]:
    first, last = connection.execute(QUERIES["journal_ends"]).get
    return first, last, connection.execute(QUERIES["journal_row_size"]).get or 0.0


def _prune(tx: Transaction, before: int, from_id: int, limit: int) -> int:
    tx.execute(QUERIES["prune_journal"], {"before": before, "from_id": from_id, "limit": limit})
    return tx.connection.changes()


def _tail(connection: apsw.Connection) -> str:
    _, last = connection.execute(QUERIES["journal_ends"]).get
    return journal.to_cursor(connection.execute(QUERIES["journal_name"]).get, journal.Place(last + 1))


def _page(
    connection: apsw.Connection, results: Results, name: bytes | None, after: journal.Place, limit: int, now: int
) -> JournalPage:
    with connection:  # one snapshot for all of it
        own = connection.execute(QUERIES["journal_name"]).get
        first, last = connection.execute(QUERIES["journal_ends"]).get
        if name is not None and (name != own or not first <= after.row <= last + 1):
            return JournalPage(entries=[], cursor=journal.to_cursor(own, journal.Place(first)), was_reset=True)
        if name is None:
            after = journal.Place(first)
        rows: list[Row] = connection.execute(QUERIES["journal_rows"], (after.row, journal.ROWS_AT_ONCE)).fetchall()
        placed = journal.spread(rows, after, limit)
        entries: list[JournalEntry] = []
        size = 0
        for found in _find_events(connection, placed, now):
            if size > journal.PAGE_BYTES:
                return JournalPage(entries=entries, cursor=entries[-1].cursor)
            entries.append(_entry(connection, results, own, found, now))
            size += entries[-1].size
    return JournalPage(entries=entries, cursor=journal.to_cursor(own, journal.end_of(placed, after)))


def _find_events(
    connection: apsw.Connection, placed: Sequence[journal.PlacedEvent], now: int
) -> list[journal.FoundEvent]:
    """Read the events that these references stand for."""
    subjects = {}
    for task_id in dict.fromkeys(one.ref.task_id for one in placed):
        row = connection.execute(QUERIES["subject"], (task_id, now)).fetchone()
        if row is not None:
            seq, type_, queue, tags, owner, *head = row
            subjects[task_id] = journal.Subject(seq, type_, queue, tags_of(tags), owner, Head(*head))
    want = journal.wanted(placed, subjects)
    kept: dict[int, dict[int, Entry]] = defaultdict(dict)
    for seq, low, high in want.ranges:
        kept[seq] |= _entries(connection, "events_between", (seq, low, high))
    for seq in want.ends:
        kept[seq] |= _entries(connection, "starts_and_ends", (seq,))
    return journal.find_events(placed, subjects, kept)


def _entries(connection: apsw.Connection, query: str, values: tuple[int, ...]) -> dict[int, Entry]:
    return {row[0]: Entry(*row) for row in connection.execute(QUERIES[query], values)}


def _entry(
    connection: apsw.Connection, results: Results, name: bytes, found: journal.FoundEvent, now: int
) -> JournalEntry:
    task_id = task_id_of(found.placed.ref.task_id)
    task = reads.find_whole(connection, task_id, now, results) if found.is_end else None
    return journal.entry_of(name, found, event_of(found.entry, task_id), task)
