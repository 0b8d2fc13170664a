"""Handles of submitted tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from tasker.client.core.events import EventCalls
from tasker.client.core.tasks import TaskCalls
from tasker.client.driving import AsyncDriver, Driver
from tasker.client.options import SubmitOptions
from tasker.model import LogLevel, Status
from tasker.wire.events import Event, LogEntry
from tasker.wire.steps import Step
from tasker.wire.tasks import Task

if TYPE_CHECKING:
    from tasker.tasktypes.codecs import Codec

R = TypeVar("R")


@dataclass(frozen=True)
class Handle(Generic[R]):
    """A submitted task.

    awaits_restart: the service was stopping when it took the task, and runs it after its restart; `wait` and `result`
    wait for that, too.
    """

    driver: Driver = field(repr=False)
    task_id: UUID
    awaits_restart: bool = False
    codec: Codec | None = field(default=None, repr=False)

    @property
    def _tasks(self) -> TaskCalls:
        return TaskCalls(self.driver.exchange)

    @property
    def _events(self) -> EventCalls:
        return EventCalls(self.driver.exchange)

    @property
    def url(self) -> str:
        """The address of the task."""
        return self._tasks.url_of(self.task_id)

    def wait(self, timeout: timedelta | float | None = None) -> Task:
        """Return the task once it has ended. Raises WaitTimeout after `timeout` (None: never)."""
        return self.driver.run(self._tasks.wait(self.task_id, timeout))

    def result(self, timeout: timedelta | float | None = None) -> R:
        """Wait, and return the result. Raises TaskFailed, TaskCancelled, WaitTimeout."""
        result: R = self.driver.run(self._tasks.result(self.task_id, timeout, self.codec))
        return result

    def get(self, *, attempts: bool = False, steps: bool = False, children: bool = False) -> Task:
        """Return the task as it is now, with its attempts, steps and newest children if asked for."""
        return self.driver.run(self._tasks.get(self.task_id, attempts=attempts, steps=steps, children=children))

    def status(self) -> Status:
        """Return the task's status now."""
        return self.get().status

    def steps(self) -> Sequence[Step]:
        """Return what the task has done once and remembers, or waits for."""
        return self.driver.run(self._tasks.steps(self.task_id))

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """Yield the task's events as they happen, until it has ended."""
        return self.driver.iterate(self._events.events(self.task_id, after))

    def output(self) -> Iterator[str]:
        """Yield the text that the task puts out as it comes, from its beginning, until it has ended."""
        return self.driver.iterate(self._events.output(self.task_id))

    def logs(self, *, follow: bool = False, level: LogLevel = "debug", tail: int | None = None) -> Iterator[LogEntry]:
        """Yield the records of the task's log, oldest first; with `follow` also those to come, until it has ended."""
        return self.driver.iterate(self._events.logs(self.task_id, follow=follow, level=level, tail=tail))

    def input(self, name: str, value: Any, *, asked_at: datetime | None = None) -> Task:
        """Answer the task's question of that name. Raises Conflict, InvalidRequest."""
        return self.driver.run(self._tasks.input(self.task_id, name, value, asked_at))

    def cancel(self) -> Task:
        """Cancel the task. Raises Conflict if it has ended."""
        return self.driver.run(self._tasks.cancel(self.task_id))

    def retry(self, *, from_: str | None = None, forget: Sequence[str] = ()) -> Task:
        """Run the task again, failed or cancelled, under the same id. Raises Conflict, InvalidRequest."""
        return self.driver.run(self._tasks.retry(self.task_id, from_, forget))

    def replay(self, /, *, keep_steps: bool = False, options: SubmitOptions | None = None, **edited: Any) -> Handle[R]:
        """Submit the task once more as a new one, with some params edited: `handle.replay(width=5)`.

        keep_steps: it begins with the steps of this one, its children excepted. Raises InvalidRequest, also for secret
        params, which have to be given again.
        """
        call = self._tasks.replay_edited(self.task_id, edited, keep_steps=keep_steps, options=options)
        submitted = self.driver.run(call)
        return Handle(self.driver, submitted.task_id, submitted.awaits_restart, self.codec)

    def delete(self) -> None:
        """Erase the task, with everything that belongs to it. Raises Conflict if it is open."""
        return self.driver.run(self._tasks.delete(self.task_id))


@dataclass(frozen=True)
class AsyncHandle(Generic[R]):
    """A submitted task. `await handle` is its result, `async for event in handle` are its events.

    awaits_restart: the service was stopping when it took the task, and runs it after its restart; `wait` and `result`
    wait for that, too.
    """

    driver: AsyncDriver = field(repr=False)
    task_id: UUID
    awaits_restart: bool = False
    codec: Codec | None = field(default=None, repr=False)

    @property
    def _tasks(self) -> TaskCalls:
        return TaskCalls(self.driver.exchange)

    @property
    def _events(self) -> EventCalls:
        return EventCalls(self.driver.exchange)

    @property
    def url(self) -> str:
        """The address of the task."""
        return self._tasks.url_of(self.task_id)

    def __await__(self) -> Generator[Any, Any, R]:
        return self.result().__await__()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.events()

    async def wait(self, timeout: timedelta | float | None = None) -> Task:
        """Return the task once it has ended. Raises WaitTimeout after `timeout` (None: never)."""
        return await self.driver.run(self._tasks.wait(self.task_id, timeout))

    async def result(self, timeout: timedelta | float | None = None) -> R:
        """Wait, and return the result. Raises TaskFailed, TaskCancelled, WaitTimeout."""
        result: R = await self.driver.run(self._tasks.result(self.task_id, timeout, self.codec))
        return result

    async def get(self, *, attempts: bool = False, steps: bool = False, children: bool = False) -> Task:
        """Return the task as it is now, with its attempts, steps and newest children if asked for."""
        return await self.driver.run(self._tasks.get(self.task_id, attempts=attempts, steps=steps, children=children))

    async def status(self) -> Status:
        """Return the task's status now."""
        return (await self.get()).status

    async def steps(self) -> Sequence[Step]:
        """Return what the task has done once and remembers, or waits for."""
        return await self.driver.run(self._tasks.steps(self.task_id))

    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield the task's events as they happen, until it has ended."""
        return self.driver.iterate(self._events.events(self.task_id, after))

    def output(self) -> AsyncIterator[str]:
        """Yield the text that the task puts out as it comes, from its beginning, until it has ended."""
        return self.driver.iterate(self._events.output(self.task_id))

    def logs(
        self, *, follow: bool = False, level: LogLevel = "debug", tail: int | None = None
    ) -> AsyncIterator[LogEntry]:
        """Yield the records of the task's log, oldest first; with `follow` also those to come, until it has ended."""
        return self.driver.iterate(self._events.logs(self.task_id, follow=follow, level=level, tail=tail))

    async def input(self, name: str, value: Any, *, asked_at: datetime | None = None) -> Task:
        """Answer the task's question of that name. Raises Conflict, InvalidRequest."""
        return await self.driver.run(self._tasks.input(self.task_id, name, value, asked_at))

    async def cancel(self) -> Task:
        """Cancel the task. Raises Conflict if it has ended."""
        return await self.driver.run(self._tasks.cancel(self.task_id))

    async def retry(self, *, from_: str | None = None, forget: Sequence[str] = ()) -> Task:
        """Run the task again, failed or cancelled, under the same id. Raises Conflict, InvalidRequest."""
        return await self.driver.run(self._tasks.retry(self.task_id, from_, forget))

    async def replay(
        self, /, *, keep_steps: bool = False, options: SubmitOptions | None = None, **edited: Any
    ) -> AsyncHandle[R]:
        """Submit the task once more as a new one, with some params edited: `handle.replay(width=5)`.

        keep_steps: it begins with the steps of this one, its children excepted. Raises InvalidRequest, also for secret
        params, which have to be given again.
        """
        call = self._tasks.replay_edited(self.task_id, edited, keep_steps=keep_steps, options=options)
        submitted = await self.driver.run(call)
        return AsyncHandle(self.driver, submitted.task_id, submitted.awaits_restart, self.codec)

    async def delete(self) -> None:
        """Erase the task, with everything that belongs to it. Raises Conflict if it is open."""
        return await self.driver.run(self._tasks.delete(self.task_id))
