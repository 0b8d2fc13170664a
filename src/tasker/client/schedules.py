"""What a client does with schedules."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from msgspec import Struct

from tasker.client.connection import read_body
from tasker.client.values import Task

if TYPE_CHECKING:
    from tasker.client.connection import Connection


class SkippedTick(Struct, frozen=True, kw_only=True):
    """A tick that submitted nothing, and why: `missed`, `overlap` or `refused`."""

    tick: datetime
    reason: str
    detail: str = ""


class Schedule(Struct, frozen=True, kw_only=True):
    """A schedule as the service showed it. `task` is what it submits; `interval` is in seconds.

    With a key that lacks the scope `read` a change is answered with its id and what was changed.
    """

    schedule_id: UUID
    name: str = ""
    task: dict[str, Any] = {}
    cron: str | None = None
    interval: float | None = None
    time_zone: str = "UTC"
    missed: str = "once"
    overlap: str = "allow"
    paused: bool = False
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    next_fire_at: datetime | None = None
    last_fired_at: datetime | None = None
    last_task_id: UUID | None = None
    last_skip: SkippedTick | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class _Page(Struct):
    items: list[Schedule]
    next_cursor: str | None = None


class _Ticks(Struct):
    items: list[datetime]


class Schedules:
    """The schedules of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, name: str, task: Mapping[str, Any], **fields: Any) -> Schedule:
        """Make a schedule: `cron` or `interval`, and what else POST /schedule takes; times and durations as Python's.

        task: `type`, `params` and options. Raises InvalidRequest with every fault, Conflict (the name is taken).
        """
        body = {"name": name, "task": dict(task), **_as_json(fields)}
        return read_body(self._connection.send("POST", "/schedule", body=body, retries=0), Schedule)

    def get(self, schedule_id: UUID | str) -> Schedule:
        """Return the schedule as it is now. Raises NotFound."""
        return read_body(self._connection.send("GET", f"/schedule/{schedule_id}"), Schedule)

    def find(self, name: str) -> Schedule | None:
        """Return the schedule of this name, or None."""
        return next(self.find_many(name=name), None)

    def find_many(self, *, name: str | None = None, limit: int | None = None) -> Iterator[Schedule]:
        """Yield schedules, newest first, at most `limit`; pages are read as they are needed."""
        query: dict[str, Any] = {} if name is None else {"name": name}
        yield from itertools.islice(self._read_pages(query), limit)

    def _read_pages(self, query: dict[str, Any]) -> Iterator[Schedule]:
        while True:
            page = read_body(self._connection.send("GET", "/schedule", query=query), _Page)
            yield from page.items
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def change(self, schedule_id: UUID | str, **fields: Any) -> Schedule:
        """Set what is given, None taking back what was set. Raises NotFound, InvalidRequest, Conflict (the name)."""
        body = _as_json(fields)
        return read_body(self._connection.send("PATCH", f"/schedule/{schedule_id}", body=body), Schedule)

    def pause(self, schedule_id: UUID | str) -> Schedule:
        """Let no tick come until it is resumed. Raises NotFound."""
        return self.change(schedule_id, paused=True)

    def resume(self, schedule_id: UUID | str) -> Schedule:
        """Let its ticks come again, from the next one on. Raises NotFound."""
        return self.change(schedule_id, paused=False)

    def delete(self, schedule_id: UUID | str) -> None:
        """Erase a schedule; its tasks stay. Raises NotFound."""
        self._connection.send("DELETE", f"/schedule/{schedule_id}", retries=0)

    def trigger(self, schedule_id: UUID | str, *, idempotency_key: str) -> Task:
        """Submit a task of the schedule now, once for each key, and return it. Raises NotFound."""
        headers = {"Idempotency-Key": idempotency_key}
        return read_body(self._connection.send("POST", f"/schedule/{schedule_id}/trigger", headers=headers), Task)

    def next_ticks(self, schedule_id: UUID | str, count: int = 5) -> list[datetime]:
        """Return its next ticks. Raises NotFound."""
        path = f"/schedule/{schedule_id}/next"
        return read_body(self._connection.send("GET", path, query={"count": count}), _Ticks).items


def _as_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value
