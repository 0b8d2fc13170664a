"""The schedules of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from tasker.client.core.schedules import ScheduleCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.wire.schedules import Schedule
from tasker.wire.tasks import Task


class Schedules:
    """The schedules of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._calls = ScheduleCalls(driver.exchange)

    def create(self, name: str, task: Mapping[str, Any], **fields: Any) -> Schedule:
        """Create a schedule: `cron` or `interval`, and other fields of POST /schedule; takes datetimes and timedeltas.

        task: `type`, `params` and options. Raises InvalidRequest with every fault, Conflict (the name is taken).
        """
        return self._driver.run(self._calls.create(name, task, fields))

    def get(self, schedule_id: UUID | str, *, firings: bool = False) -> Schedule:
        """Return the schedule as it is now, with its last ticks if asked for. Raises NotFound."""
        return self._driver.run(self._calls.get(schedule_id, firings=firings))

    def find(self, name: str) -> Schedule | None:
        """Return the schedule of this name, or None."""
        return self._driver.run(self._calls.find(name))

    def find_many(self, *, name: str | None = None, limit: int | None = None) -> Iterator[Schedule]:
        """Yield schedules, newest first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(name, limit))

    def change(self, schedule_id: UUID | str, **fields: Any) -> Schedule:
        """Set the given fields; None unsets one. Raises NotFound, InvalidRequest, Conflict (the name is taken)."""
        return self._driver.run(self._calls.change(schedule_id, fields))

    def pause(self, schedule_id: UUID | str) -> Schedule:
        """Stop its ticks until it is resumed. Raises NotFound."""
        return self._driver.run(self._calls.change(schedule_id, {"paused": True}))

    def resume(self, schedule_id: UUID | str) -> Schedule:
        """Continue with its next tick. Raises NotFound."""
        return self._driver.run(self._calls.change(schedule_id, {"paused": False}))

    def delete(self, schedule_id: UUID | str) -> None:
        """Erase a schedule; its tasks stay. Raises NotFound."""
        return self._driver.run(self._calls.delete(schedule_id))

    def trigger(self, schedule_id: UUID | str, *, idempotency_key: str) -> Task:
        """Submit a task of the schedule now, once for each key, and return it. Raises NotFound."""
        return self._driver.run(self._calls.trigger(schedule_id, idempotency_key))

    def next_ticks(self, schedule_id: UUID | str, count: int = 5) -> list[datetime]:
        """Return its next ticks. Raises NotFound."""
        return self._driver.run(self._calls.next_ticks(schedule_id, count))


class AsyncSchedules:
    """The schedules of one service. Every method may raise Unreachable, NotAllowed and ServiceError."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._calls = ScheduleCalls(driver.exchange)

    async def create(self, name: str, task: Mapping[str, Any], **fields: Any) -> Schedule:
        """Create a schedule: `cron` or `interval`, and other fields of POST /schedule; takes datetimes and timedeltas.

        task: `type`, `params` and options. Raises InvalidRequest with every fault, Conflict (the name is taken).
        """
        return await self._driver.run(self._calls.create(name, task, fields))

    async def get(self, schedule_id: UUID | str, *, firings: bool = False) -> Schedule:
        """Return the schedule as it is now, with its last ticks if asked for. Raises NotFound."""
        return await self._driver.run(self._calls.get(schedule_id, firings=firings))

    async def find(self, name: str) -> Schedule | None:
        """Return the schedule of this name, or None."""
        return await self._driver.run(self._calls.find(name))

    def find_many(self, *, name: str | None = None, limit: int | None = None) -> AsyncIterator[Schedule]:
        """Yield schedules, newest first, at most `limit`; pages are read as they are needed."""
        return self._driver.iterate(self._calls.find_many(name, limit))

    async def change(self, schedule_id: UUID | str, **fields: Any) -> Schedule:
        """Set the given fields; None unsets one. Raises NotFound, InvalidRequest, Conflict (the name is taken)."""
        return await self._driver.run(self._calls.change(schedule_id, fields))

    async def pause(self, schedule_id: UUID | str) -> Schedule:
        """Stop its ticks until it is resumed. Raises NotFound."""
        return await self._driver.run(self._calls.change(schedule_id, {"paused": True}))

    async def resume(self, schedule_id: UUID | str) -> Schedule:
        """Continue with its next tick. Raises NotFound."""
        return await self._driver.run(self._calls.change(schedule_id, {"paused": False}))

    async def delete(self, schedule_id: UUID | str) -> None:
        """Erase a schedule; its tasks stay. Raises NotFound."""
        return await self._driver.run(self._calls.delete(schedule_id))

    async def trigger(self, schedule_id: UUID | str, *, idempotency_key: str) -> Task:
        """Submit a task of the schedule now, once for each key, and return it. Raises NotFound."""
        return await self._driver.run(self._calls.trigger(schedule_id, idempotency_key))

    async def next_ticks(self, schedule_id: UUID | str, count: int = 5) -> list[datetime]:
        """Return its next ticks. Raises NotFound."""
        return await self._driver.run(self._calls.next_ticks(schedule_id, count))
