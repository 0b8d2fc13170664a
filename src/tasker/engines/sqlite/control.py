"""The Control of the embedded engine: what is chosen is read beside the writer, and acted on in small commits."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import apsw

from tasker.clock import Clock, to_micros
from tasker.engines.shared.values import to_cursor
from tasker.engines.sqlite import changes, reads
from tasker.engines.sqlite.claim import Lines
from tasker.engines.sqlite.retention import References
from tasker.engines.sqlite.rows import Row, draft_of, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.errors import Conflict, NotFound
from tasker.model import Change, Draft, TaskFilter
from tasker.model.control import Action, Chosen, ChosenTask, Counted

Read = Callable[..., asyncio.Future[Any]]
Act = Callable[[apsw.Connection, UUID], list[Change]]
Run = Callable[[Callable[[apsw.Connection], tuple[int, list[Change]]]], asyncio.Future[int]]
Erase = Callable[[Callable[[apsw.Connection], tuple[int, References]]], Awaitable[int]]


class SqliteControl:
    """run: runs work in a commit and tells its news. erase: the same for work that erases."""

    def __init__(self, clock: Clock, lines: Lines, read: Read, run: Run, erase: Erase) -> None:
        self._erase = erase
        self._clock = clock
        self._lines = lines
        self._read = read
        self._run = run

    async def find_draft(self, task_id: UUID) -> Draft | None:
        return await self._read(_find_draft, task_id)  # type: ignore[no-any-return]

    async def count(self, where: TaskFilter) -> Counted:
        return await self._read(_count, where, self._now())  # type: ignore[no-any-return]

    async def choose(self, where: TaskFilter, *, limit: int, cursor: str | None) -> Chosen:
        return await self._read(_choose, where, limit, cursor, self._now())  # type: ignore[no-any-return]

    async def act(self, action: Action, task_ids: Sequence[UUID]) -> int:
        if action == "delete":
            return await self._erase(functools.partial(_delete, lines=self._lines, task_ids=task_ids, now=self._now()))
        return await self._run(functools.partial(_act, act=self._acts(action), task_ids=task_ids))

    def _now(self) -> int:
        return to_micros(self._clock.now())

    def _acts(self, action: Action) -> Act:
        now, lines = self._now(), self._lines
        acts: dict[Action, Act] = {
            "cancel": lambda connection, task_id: changes.cancel(connection, lines, task_id, now)[1],
            "retry": lambda connection, task_id: changes.retry(connection, lines, task_id, now)[1],
        }
        return acts[action]


def _act(connection: apsw.Connection, *, act: Act, task_ids: Sequence[UUID]) -> tuple[int, list[Change]]:
    """Do to each what is asked; one that refuses it has written nothing."""
    done, news = 0, []
    for task_id in task_ids:
        try:
            news += act(connection, task_id)
        except (Conflict, NotFound):  # another status by now, or gone
            continue
        done += 1
    return done, news


def _delete(connection: apsw.Connection, *, lines: Lines, task_ids: Sequence[UUID], now: int) -> tuple[int, References]:
    """Erase each; one that refuses it has written nothing."""
    done, references = 0, References()
    for task_id in task_ids:
        try:
            references += changes.delete(connection, lines, task_id, now)
        except (Conflict, NotFound):
            continue
        done += 1
    return done, references


def _find_draft(connection: apsw.Connection, task_id: UUID) -> Draft | None:
    row = connection.execute(QUERIES["draft_by_id"], (task_id.bytes,)).fetchone()
    return None if row is None else draft_of(row)


def _count(connection: apsw.Connection, where: TaskFilter, now: int) -> Counted:
    query, values = reads.count_query(where, now)
    count, newest = connection.execute(query, values).fetchone()  # type: ignore[misc]
    return Counted(count, None if newest is None else to_cursor(newest + 1))


def _choose(connection: apsw.Connection, where: TaskFilter, limit: int, cursor: str | None, now: int) -> Chosen:
    query, values = reads.page_query("seq, task_id, owner, queue", where, cursor, now, limit + 1)
    rows: list[Row] = connection.execute(query, values).fetchall()
    tasks = [ChosenTask(task_id_of(task_id), owner, queue) for _, task_id, owner, queue in rows[:limit]]
    return Chosen(tasks, to_cursor(rows[limit - 1][0]) if len(rows) > limit else None)
