"""The Journal of the embedded engine: one row for each commit, so the order of the rows is that of the commits."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import apsw

from tasker.clock import Clock, to_micros
from tasker.engines.shared.journal import (
    PAGE_BYTES,
    ROWS_AT_ONCE,
    Note,
    Noted,
    Place,
    Subject,
    Told,
    end_of,
    from_cursor,
    pack,
    spread,
    tell,
    to_cursor,
    wanted,
)
from tasker.engines.shared.log import Entry, Head
from tasker.engines.sqlite import reads
from tasker.engines.sqlite.result_files import Results
from tasker.engines.sqlite.rows import Row, event_of, tags_of, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.model.journal import JournalEntry, JournalLimits, JournalPage

Run = Callable[[Callable[[apsw.Connection], Any]], Awaitable[Any]]
_MICRO = timedelta(microseconds=1)


class Notes:
    """What the transaction under way has to note; `write` belongs to its end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._notes: list[Note] = []
        self.add = self._notes.append

    def write(self, connection: apsw.Connection) -> None:
        """Store the notes of this transaction."""
        if not self._notes:
            return
        now = to_micros(self._clock.now())
        for row in pack(self._notes):
            connection.execute(QUERIES["note"], (now, row))
        self._notes.clear()

    def forget(self) -> None:
        """The transaction is undone."""
        self._notes.clear()


class SqliteJournal:
    """read, write: do work on the reading connection, or in a transaction of the writing one.

    erase_until: tells by what time to erase, in microseconds.
    """

    def __init__(
        self, read: Run, write: Run, clock: Clock, limits: JournalLimits, results: Results,
        erase_until: Callable[[], int],
    ) -> None:  # fmt: skip
        self._results = results
        self._read = read
        self._write = write
        self._clock = clock
        self._limits = limits
        self._erase_until = erase_until

    async def tail(self) -> str:
        tail: str = await self._read(_tail)
        return tail

    async def read(self, after: str | None = None, *, limit: int = 100) -> JournalPage:
        name, place = (b"", Place(0)) if after is None else from_cursor(after)
        now = to_micros(self._clock.now())
        known = None if after is None else name
        work = functools.partial(_page, results=self._results, name=known, after=place, limit=limit, now=now)
        page: JournalPage = await self._read(work)
        return page

    async def prune(self, *, limit: int) -> int:
        first, last, row_size = await self._read(_extent)
        from_id = last - int(self._limits.size / max(row_size, 1)) + 1
        before = self._erase_until() - self._limits.keep // _MICRO
        if first >= last:
            return 0
        pruned: int = await self._write(functools.partial(_prune, before=before, from_id=from_id, limit=limit))
        return pruned


def _extent(connection: apsw.Connection) -> tuple[int, int, float]:
    first, last = connection.execute(QUERIES["journal_ends"]).get
    return first, last, connection.execute(QUERIES["journal_row_size"]).get or 0.0


def _prune(connection: apsw.Connection, before: int, from_id: int, limit: int) -> int:
    connection.execute(QUERIES["prune_journal"], {"before": before, "from_id": from_id, "limit": limit})
    return connection.changes()


def _tail(connection: apsw.Connection) -> str:
    _, last = connection.execute(QUERIES["journal_ends"]).get
    return to_cursor(connection.execute(QUERIES["journal_name"]).get, Place(last + 1))


def _page(
    connection: apsw.Connection, results: Results, name: bytes | None, after: Place, limit: int, now: int
) -> JournalPage:
    with connection:  # one snapshot for all of it
        own = connection.execute(QUERIES["journal_name"]).get
        first, last = connection.execute(QUERIES["journal_ends"]).get
        if name is not None and (name != own or not first <= after.row <= last + 1):
            return JournalPage(entries=[], cursor=to_cursor(own, Place(first)), was_reset=True)
        if name is None:
            after = Place(first)
        rows: list[Row] = connection.execute(QUERIES["journal_rows"], (after.row, ROWS_AT_ONCE)).fetchall()
        noted = spread(rows, after, limit)
        entries: list[JournalEntry] = []
        size = 0
        for told in _told(connection, noted, now):
            if size > PAGE_BYTES:
                return JournalPage(entries=entries, cursor=entries[-1].cursor)
            entries.append(_entry(connection, results, own, told, now))
            size += entries[-1].size
    return JournalPage(entries=entries, cursor=to_cursor(own, end_of(noted, after)))


def _told(connection: apsw.Connection, noted: Sequence[Noted], now: int) -> list[Told]:
    """Read what these events say."""
    subjects = {}
    for task_id in dict.fromkeys(one.note.task_id for one in noted):
        row = connection.execute(QUERIES["subject"], (task_id, now)).fetchone()
        if row is not None:
            seq, type_, queue, tags, owner, *head = row
            subjects[task_id] = Subject(seq, type_, queue, tags_of(tags), owner, Head(*head))
    want = wanted(noted, subjects)
    kept: dict[int, dict[int, Entry]] = defaultdict(dict)
    for seq, low, high in want.ranges:
        kept[seq] |= _entries(connection, "events_between", (seq, low, high))
    for seq in want.ends:
        kept[seq] |= _entries(connection, "starts_and_ends", (seq,))
    return tell(noted, subjects, kept)


def _entries(connection: apsw.Connection, query: str, values: tuple[int, ...]) -> dict[int, Entry]:
    return {row[0]: Entry(*row) for row in connection.execute(QUERIES[query], values)}


def _entry(connection: apsw.Connection, results: Results, name: bytes, told: Told, now: int) -> JournalEntry:
    noted, subject, entry, is_end = told
    task_id = task_id_of(noted.note.task_id)
    return JournalEntry(
        cursor=to_cursor(name, noted.place), event=event_of(entry, task_id), type=subject.type, queue=subject.queue,
        tags=subject.tags, owner=subject.owner, commit=noted.row,
        task=reads.find_whole(connection, task_id, now, results) if is_end else None,
    )  # fmt: skip
