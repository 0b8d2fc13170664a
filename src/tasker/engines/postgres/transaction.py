"""One transaction: its connection, and the changes to notify others of once it is durable."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg

from tasker.engines.postgres.notifications import for_channels, for_processes, for_workers, statements
from tasker.engines.shared.groups import GroupChanges
from tasker.engines.shared.journal import packed_rows
from tasker.errors import RequestError
from tasker.model import Change, Status
from tasker.model.steps import Wait

Connection: TypeAlias = Any
"""A connection of asyncpg, which has no types."""
Freed = tuple[str, str, str | None]
"""Queue, owner and concurrency key of an attempt that has ended."""

SETTLED_AT_ONCE = 500
"""Limit of the dependants that one transaction settles: other ends and heartbeats wait for it."""


class Told(NamedTuple):
    """Who is told of a transaction's new tasks. held: numbers of tasks by partition, of which others are told later.

    channels: partitions by the workers' channels. chosen: the ids of the workers chosen for each partition; its tasks
    were left to them and to this process. no_longer_held: tasks of earlier transactions that it tells of as well.
    """

    everybody: Sequence[str] = ()
    channels: Mapping[str, Sequence[str]] = {}
    chosen: Mapping[str, Collection[str]] = {}
    held: Mapping[str, int] = {}
    no_longer_held: Mapping[str, int] = {}


class FamilyWork:
    """What a transaction does about families before it commits (families.py). Tasks are given by seq."""

    def __init__(self) -> None:
        self.ended: dict[int, Status] = {}
        """Tasks that have ended, and whose end concerns others."""
        self.unsettled: set[int] = set()
        """Tasks that had ended before, with children for which that is to be settled."""
        self.deleted: set[int] = set()
        """Tasks that were deleted, with children that are still to be erased."""
        self.reopened: dict[int, Status] = {}
        """Tasks that were run again, and how they had ended."""
        self.held: set[int] = set()
        """Those of these that are held until there is room in their step."""
        self.retried: set[int] = set()
        """Tasks of which a new try begins: their children may run again."""
        self.parked: dict[int, Wait] = {}
        """Parked tasks, and what they wait for."""
        self.present: dict[int, bool] = {}
        """Tasks of which something is there, for example an answer, and whether they await it."""
        self.forgotten: list[tuple[int, int]] = []
        """Steps to forget: task and number."""
        self.attended: set[int] = set()
        """Open parents of which an earlier transaction has left something, since others had locked rows."""
        self.recounted: set[int] = set()
        """Those of these whose children are counted again."""

    def note_present(self, seq: int, *, is_awaited: bool) -> None:
        """Note that something of a task is there."""
        self.present[seq] = is_awaited or self.present.get(seq, False)

    def copy(self) -> FamilyWork:
        """Return a copy that stays as it is."""
        other = FamilyWork()
        for name, value in vars(self).items():
            setattr(other, name, value.copy())
        return other


def tell_everybody(tasks: Mapping[str, int]) -> Told:
    """Have everybody told of all new tasks."""
    return Told(everybody=list(tasks))


class Transaction:
    """Runs statements on its connection, and gathers what it changes.

    journal_table: where its journal goes. sender: the process, as notifications name it.
    is_retry: whether an earlier try may have been stored, without its notifications. route: says who is told of new
    tasks, given as their numbers by partition.
    """

    __slots__ = (
        "changes",
        "connection",
        "family_work",
        "freed",
        "groups",
        "is_commit_sent",
        "is_retry",
        "journal",
        "journal_table",
        "left_to_settle",
        "partitions",
        "route",
        "sender",
        "told",
        "unattended",
        "unsettled",
        "waiters",
        "woken",
    )

    def __init__(
        self,
        *,
        journal_table: str = "",
        sender: str = "",
        is_retry: bool = False,
        route: Callable[[Mapping[str, int]], Told] = tell_everybody,
    ) -> None:
        self.connection: Connection = None
        self.journal_table = journal_table
        self.sender = sender
        self.is_retry = is_retry
        self.is_commit_sent = False
        self.journal: list[bytes] = []
        """Entries for the journal."""
        self.changes: list[Change] = []
        """What listeners are notified of."""
        self.waiters: dict[UUID, str | None] = {}
        """Tasks that one process alone waits for, or none: of their changes it is notified, besides listeners here."""
        self.partitions: Counter[str] = Counter()
        """The numbers of tasks that were added, by partition: workers who wait for them are woken."""
        self.route = route
        self.told = Told()
        self.freed: list[Freed] = []
        """Attempts that it has ended: other tasks may start in their place."""
        self.groups = GroupChanges()
        """What it changes about the counts of groups, written right before the end."""
        self.unsettled: set[UUID] = set()
        """Tasks and groups that have ended, with dependants that are left to another transaction."""
        self.left_to_settle = SETTLED_AT_ONCE
        self.family_work: FamilyWork | None = None
        self.unattended: set[int] = set()
        """Parents, by seq, with something that is left to another transaction: others had locked rows."""
        self.woken: dict[str, list[Change]] = {}
        """Running tasks for which something is there that they may wait for, by the channel of their workers."""

    @property
    def family(self) -> FamilyWork:
        """What is to be done about families before the commit."""
        if self.family_work is None:
            self.family_work = FamilyWork()
        return self.family_work

    def fetch(self, query: str, *values: Any) -> Awaitable[Any]:
        return self.connection.fetch(query, *values)  # type: ignore[no-any-return]

    def fetchrow(self, query: str, *values: Any) -> Awaitable[Any]:
        return self.connection.fetchrow(query, *values)  # type: ignore[no-any-return]

    def fetchval(self, query: str, *values: Any) -> Awaitable[Any]:
        return self.connection.fetchval(query, *values)  # type: ignore[no-any-return]

    def fetchmany(self, query: str, rows: Sequence[Any]) -> Awaitable[Any]:
        return self.connection.fetchmany(query, rows)  # type: ignore[no-any-return]

    def execute(self, query: str, *values: Any, timeout: float | None = None) -> Awaitable[str]:
        return self.connection.execute(query, *values, timeout=timeout)  # type: ignore[no-any-return]

    def executemany(self, query: str, rows: Sequence[Any]) -> Awaitable[None]:
        return self.connection.executemany(query, rows)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what the block does, and what it gathers, if it is refused (RequestError, UniqueViolationError)."""
        await self.execute("SAVEPOINT inner_work")
        journal, changes, partitions = len(self.journal), len(self.changes), Counter(self.partitions)
        family_work = None if self.family_work is None else self.family_work.copy()
        groups = self.groups.copy()
        try:
            yield
        except (RequestError, asyncpg.UniqueViolationError):  # others end the whole transaction
            await self.execute("ROLLBACK TO SAVEPOINT inner_work")
            del self.journal[journal:], self.changes[changes:]
            self.partitions, self.family_work, self.groups = partitions, family_work, groups
            raise

    def tell_of(self, task_id: UUID, *, awaited: bool, waiter: str | None) -> None:
        """Notify the processes that wait for a task of its changes: the waiter, or all if it is None; else nobody."""
        if not awaited:
            self.waiters[task_id] = None
        elif waiter is not None:
            self.waiters[task_id] = waiter

    def last_statements(self) -> str:
        """Return the statements to run right before COMMIT: notifications, then the journal, which must come last."""
        rows = ", ".join(f"(now(), decode('{row.hex()}', 'hex'))" for row in packed_rows(self.journal))
        entries = f"INSERT INTO {self.journal_table} (noted_at, notes) VALUES {rows};" if rows else ""  # noqa: S608
        self.told = self.route(self.partitions) if self.partitions else Told()
        for_all, for_one = self._changes_by_waiter() if self.waiters else (self.changes, {})
        news = [*statements(self.sender, self.told.everybody, for_all), *for_channels(self.sender, self.woken)]
        to_workers, to_waiters = for_workers(self.sender, self.told.channels), for_processes(self.sender, for_one)
        return "".join([*news, to_workers, *to_waiters, entries])

    def _changes_by_waiter(self) -> tuple[list[Change], dict[str, list[Change]]]:
        """Return the changes that all processes are notified of, and by process those that it alone is notified of."""
        for_all: list[Change] = []
        for_one: dict[str, list[Change]] = {}
        for change in self.changes:
            waiter = self.waiters.get(change.task_id, "")
            if waiter == "":
                for_all.append(change)
            elif waiter is not None and waiter != self.sender:
                for_one.setdefault(waiter, []).append(change)
        return for_all, for_one
