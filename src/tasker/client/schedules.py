"""The schedules of a service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tasker.client.connection import Connection
from tasker.wire.schedules import Schedule, SchedulePage, TickPage
from tasker.wire.tasks import Task


class Schedules:
    """The schedules of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, name: str, task: Mapping[str, Any], **fields: Any) -> Schedule:
        """Create a schedule: `cron` or `interval`, and other fields of POST /schedule; takes datetimes and timedeltas.

        task: `type`, `params` and options. Raises InvalidRequest with every fault, Conflict (the name is taken).
        """
        body = {"name": name, "task": dict(task), **_as_json(fields)}
        return self._connection.read("POST", "/schedule", Schedule, body=body, retries=0)

    def get(self, schedule_id: UUID | str) -> Schedule:
        """Return the schedule as it is now. Raises NotFound."""
        return self._connection.read("GET", f"/schedule/{schedule_id}", Schedule)

    def find(self, name: str) -> Schedule | None:
        """Return the schedule of this name, or None."""
        return next(self.find_many(name=name), None)

    def find_many(self, *, name: str | None = None, limit: int | None = None) -> Iterator[Schedule]:
        """Yield schedules, newest first, at most `limit`; pages are read as they are needed."""
        query = {} if name is None else {"name": name}
        return self._connection.read_list("/schedule", SchedulePage, query, limit)

    def change(self, schedule_id: UUID | str, **fields: Any) -> Schedule:
        """Set the given fields; None unsets one. Raises NotFound, InvalidRequest, Conflict (the name is taken)."""
        return self._connection.read("PATCH", f"/schedule/{schedule_id}", Schedule, body=_as_json(fields))

    def pause(self, schedule_id: UUID | str) -> Schedule:
        """Stop its ticks until it is resumed. Raises NotFound."""
        return self.change(schedule_id, paused=True)

    def resume(self, schedule_id: UUID | str) -> Schedule:
        """Continue with its next tick. Raises NotFound."""
        return self.change(schedule_id, paused=False)

    def delete(self, schedule_id: UUID | str) -> None:
        """Erase a schedule; its tasks stay. Raises NotFound."""
        self._connection.send("DELETE", f"/schedule/{schedule_id}", retries=0)

    def trigger(self, schedule_id: UUID | str, *, idempotency_key: str) -> Task:
        """Submit a task of the schedule now, once for each key, and return it. Raises NotFound."""
        headers = {"Idempotency-Key": idempotency_key}
        return self._connection.read("POST", f"/schedule/{schedule_id}/trigger", Task, headers=headers)

    def next_ticks(self, schedule_id: UUID | str, count: int = 5) -> list[datetime]:
        """Return its next ticks. Raises NotFound."""
        return self._connection.read("GET", f"/schedule/{schedule_id}/next", TickPage, query={"count": count}).items


def _as_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value
