"""Calls about the schedules of a service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tasker.client.core.effects import Call, Flow
from tasker.client.core.exchange import Exchange
from tasker.client.core.paths import segment
from tasker.wire.schedules import Schedule, SchedulePage, TickPage
from tasker.wire.tasks import Task


@dataclass(frozen=True)
class ScheduleCalls:
    """What `Schedules` and `AsyncSchedules` do; see there."""

    exchange: Exchange

    def create(self, name: str, task: Mapping[str, Any], fields: Mapping[str, Any]) -> Call[Schedule]:
        body = {"name": name, "task": dict(task), **_as_json(fields)}
        return self.exchange.read("POST", "/schedule", Schedule, body=body, retries=0)

    def get(self, schedule_id: UUID | str, *, firings: bool) -> Call[Schedule]:
        query = {"include": "firings" if firings else None}
        return self.exchange.read("GET", f"/schedule/{segment(schedule_id)}", Schedule, query=query)

    def find(self, name: str) -> Call[Schedule | None]:
        found = yield from self.exchange.read("GET", "/schedule", SchedulePage, query={"name": name})
        return found.items[0] if found.items else None

    def find_many(self, name: str | None, limit: int | None) -> Flow[Schedule]:
        return self.exchange.read_list("/schedule", SchedulePage, {"name": name}, limit)

    def change(self, schedule_id: UUID | str, fields: Mapping[str, Any]) -> Call[Schedule]:
        return self.exchange.read("PATCH", f"/schedule/{segment(schedule_id)}", Schedule, body=_as_json(fields))

    def delete(self, schedule_id: UUID | str) -> Call[None]:
        yield from self.exchange.send("DELETE", f"/schedule/{segment(schedule_id)}", retries=0)

    def trigger(self, schedule_id: UUID | str, idempotency_key: str) -> Call[Task]:
        headers = {"Idempotency-Key": idempotency_key}
        return self.exchange.read("POST", f"/schedule/{segment(schedule_id)}/trigger", Task, headers=headers)

    def next_ticks(self, schedule_id: UUID | str, count: int) -> Call[list[datetime]]:
        path = f"/schedule/{segment(schedule_id)}/next"
        return (yield from self.exchange.read("GET", path, TickPage, query={"count": count})).items


def _as_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value
