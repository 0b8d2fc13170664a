"""The transaction under way: its connection and time, and what is gathered to be written at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

import apsw

from tasker.clock import from_micros
from tasker.engines.shared.groups import GroupChanges
from tasker.engines.shared.journal import packed_rows
from tasker.engines.shared.looks import BLOCK
from tasker.engines.shared.rollup import Changes, pack
from tasker.engines.shared.usage import Tally
from tasker.engines.sqlite.partitions import Partitions
from tasker.engines.sqlite.sql import QUERIES
from tasker.model import Change

T = TypeVar("T")
DayTally: TypeAlias = Tally[tuple[int, str, str]]
"""Usage by day since 1970, owner and type."""
_DAY = 86_400_000_000


class Transaction:
    """One transaction of the writing connection. A rolled-back transaction is simply dropped.

    execute: the connection's own method; run: the same for a statement without rows, in half of its overhead.
    now: the wall clock when the work began, in microseconds: all of the work has this time. moment: the same.
    partitions: outlives the transaction. The engine undoes its changes after a rollback.
    journal: packed references for the journal; tally: sums of usage; counts: what changes about numbers of tasks.
    `finish` writes them. groups: what changes about the counts of groups; group_ends.py writes it before.
    changes: reported to listeners once the transaction is durable.
    """

    __slots__ = (
        "_spans",
        "changes",
        "connection",
        "counts",
        "execute",
        "groups",
        "journal",
        "moment",
        "now",
        "partitions",
        "run",
        "tally",
    )

    def __init__(self, connection: apsw.Connection, now: int, partitions: Partitions) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.run = connection.cursor().execute
        self.now = now
        self.moment = from_micros(now)
        self.partitions = partitions
        self.journal: list[bytes] = []
        self.tally: DayTally = Tally()
        self.counts = Changes(now)
        self.groups = GroupChanges()
        self.changes: list[Change] = []
        self._spans: dict[int, tuple[int, int]] = {}

    def finish(self) -> None:
        """Write what was gathered, and the spans of new tasks, as the last statements of the transaction.

        Usage is updated first and inserted if no row exists, which happens once a day: an upsert takes twice as long.
        """
        for day, owner, type_, *figures in self.tally.take():
            self.execute(QUERIES["add_usage"], (*figures, day, owner, type_))
            if not self.connection.changes():
                self.execute(QUERIES["insert_usage"], (day, owner, type_, *figures))
        if self.journal:
            for row in packed_rows(self.journal):
                self.execute(QUERIES["insert_journal"], (self.now, row))
            self.journal.clear()
        if counted := self.counts.take():
            self.execute(QUERIES["insert_change"], (pack(counted),))
        for block, span in self._spans.items():
            self.execute(QUERIES["note_spans"], (block, *span))
            if self.connection.changes():
                self.execute(QUERIES["forget_spans"])

    def stored(self, seq: int, created_at: int) -> None:
        """Note a new task: lists find it by its time (microseconds) only if the span of its block covers it."""
        block = seq // BLOCK
        first, last = self._spans.get(block, (created_at, created_at))
        self._spans[block] = min(first, created_at), max(last, created_at)


class Write(Protocol):
    """Do `work` in a transaction of the writing connection; return its result once that is durable.

    size: the bytes that it writes, if they may be many. Raises what `work` raises, and Unavailable.
    """

    def __call__(self, work: Callable[[Transaction], T], *, size: int = 0) -> asyncio.Future[T]: ...


def day_of(micros: int) -> int:
    """Return the UTC day of a time, counted from 1970."""
    return micros // _DAY
