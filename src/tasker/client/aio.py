"""The client for coroutines: `AsyncTasker`. `tasker.client.sync` is its twin."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, overload
from uuid import UUID

import httpx2

from tasker.client.core.batches import MOST_ROWS, BatchCalls
from tasker.client.core.events import EventCalls
from tasker.client.core.exchange import Exchange
from tasker.client.core.mapping import MapCalls, Mapped
from tasker.client.core.targets import Target, codec_of_results, settle
from tasker.client.core.tasks import Submitted, TaskCalls
from tasker.client.driving import AsyncDriver, Last, find_service, iterate
from tasker.client.handles import AsyncHandle
from tasker.client.options import SubmitOptions
from tasker.client.raw import AsyncRaw, RawResponse, answered
from tasker.client.resources.audit import AsyncAudit
from tasker.client.resources.bulk import AsyncBulkActions
from tasker.client.resources.failures import AsyncFailures
from tasker.client.resources.groups import AsyncGroups
from tasker.client.resources.keys import AsyncKeys
from tasker.client.resources.questions import AsyncQuestions
from tasker.client.resources.queues import AsyncQueues
from tasker.client.resources.schedules import AsyncSchedules
from tasker.client.resources.types import AsyncTypes
from tasker.client.resources.webhooks import AsyncWebhooks
from tasker.client.resources.workers import AsyncWorkers
from tasker.model import LogLevel
from tasker.model.stats import StatsGroup, Window
from tasker.wire.batches import BatchItem
from tasker.wire.events import Event, LogEntry, Reset
from tasker.wire.stats import Stats
from tasker.wire.steps import Step
from tasker.wire.tasks import Task
from tasker.wire.usage import Usage

if TYPE_CHECKING:
    from tasker.tasktypes.codecs import Codec
    from tasker.tasktypes.functions import Submittable

P = ParamSpec("P")
R = TypeVar("R")


async def _sleep(seconds: float) -> None:
    from asyncio import sleep  # a program that uses Tasker alone need not import it

    await sleep(seconds)


class AsyncTasker:
    """A client of one service. Coroutines of one event loop may share it; close it, or use it with `async with`.

    `url` defaults to TASKER_URL, else http://127.0.0.1:5000; `token` to TASKER_TOKEN. `timeout` bounds each step of
    a request, in seconds; waiting for a task is not limited by it. A value that JSON cannot hold (NaN, for example)
    raises ValueError with its place, and nothing is sent. Every method may raise Unreachable and ServiceError (see
    tasker.client.errors). Requests without answer are sent again up to `retries` times; a submission keeps one
    idempotency key, so that it makes one task. transport: what carries the requests instead of the network; one of
    httpx2. sleep: pauses for some seconds.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 2,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = _sleep,
    ) -> None:
        url, token = find_service(url, token)
        self._take(AsyncDriver.connect(Exchange(url, timeout, retries), token, transport, sleep))

    def _take(self, driver: AsyncDriver) -> None:
        self._driver = driver
        self._tasks = TaskCalls(driver.exchange)
        self._events = EventCalls(driver.exchange)
        self.audit = AsyncAudit(driver)
        self.bulk = AsyncBulkActions(driver)
        self.failures = AsyncFailures(driver)
        self.types = AsyncTypes(driver)
        self.webhooks = AsyncWebhooks(driver)
        self.workers = AsyncWorkers(driver)
        self._batches = BatchCalls(driver.exchange)
        self._maps = MapCalls(driver.exchange)
        self.questions = AsyncQuestions(driver)
        self.groups = AsyncGroups(driver)
        self.keys = AsyncKeys(driver)
        self.queues = AsyncQueues(driver)
        self.schedules = AsyncSchedules(driver)

    def with_options(self, *, timeout: float | None = None, retries: int | None = None) -> Self:
        """Return a client with another `timeout` or number of `retries`, over the same connections; None keeps them.

        `client.with_options(timeout=2, retries=0).get(task_id)`. Closing either closes both.
        """
        other = object.__new__(type(self))
        other._take(self._driver.altered(timeout, retries))
        return other

    @property
    def with_raw_response(self) -> AsyncRawTasker:
        """The same methods, each returning its reply as well: `client.with_raw_response.get(task_id).headers`."""
        return AsyncRawTasker(self)

    def _recording(self, last: Last) -> Self:
        other = object.__new__(type(self))
        other._take(self._driver.recording(last))
        return other

    async def close(self) -> None:
        """Close the connections."""
        await self._driver.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def url_of(self, task_id: UUID | str) -> str:
        """Return the address of a task."""
        return self._tasks.url_of(task_id)

    @overload
    def handle_of(self, task_id: UUID | str, target: Submittable[..., R]) -> AsyncHandle[R]: ...
    @overload
    def handle_of(self, task_id: UUID | str, target: str | None = None) -> AsyncHandle[Any]: ...
    def handle_of(self, task_id: UUID | str, target: Target | None = None) -> AsyncHandle[Any]:
        """Return a handle of a task that exists. target: its function, for results of the type that it returns."""
        return AsyncHandle(self._driver, UUID(str(task_id)), codec=codec_of_results(target))

    @overload
    async def submit(self, target: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> AsyncHandle[R]: ...
    @overload
    async def submit(
        self, target: Submittable[..., R], /, *args: Any, options: SubmitOptions, **kwargs: Any
    ) -> AsyncHandle[R]: ...
    @overload
    async def submit(
        self, target: str, /, *args: Any, options: SubmitOptions | None = None, **kwargs: Any
    ) -> AsyncHandle[Any]: ...
    async def submit(self, target: Any, /, *args: Any, options: Any = None, **kwargs: Any) -> Any:
        """Submit a task with its params; it is stored when this returns.

        target: a function with @task, called as it would be without its context, perhaps with options
        (`thumbnail.options(delay=60)`); or the name of a task type, with its params by position or by name. Raises
        InvalidRequest with every fault of the params, TypeError for params of a named type given in both ways.
        """
        wanted = settle(target, args, kwargs, options)
        return self._handle(await self._driver.run(self._tasks.submit(wanted)), wanted.codec)

    async def submit_params(
        self, type: str, params: Sequence[Any] | Mapping[str, Any], *, options: SubmitOptions | None = None
    ) -> AsyncHandle[Any]:
        """Submit a task with params as one list or mapping. Raises InvalidRequest."""
        return self._handle(await self._driver.run(self._tasks.submit_params(type, params, options)))

    async def put(self, task_id: UUID | str, submission: Mapping[str, Any], *, wait: bool = False) -> Task:
        """Submit a task under an id of your own, and return it: the same again, at any time, gives the same task.

        submission: a body of POST /task, with `type`, `params` and options. wait: return it once it has ended; this
        outlasts a restart of the service. Raises InvalidRequest, Conflict (that id has another submission), NotFound
        (no such type, or the task is kept no longer).
        """
        return await self._driver.run(self._tasks.put(task_id, submission, wait=wait))

    @overload
    async def run(self, target: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def run(self, target: Submittable[..., R], /, *args: Any, options: SubmitOptions, **kwargs: Any) -> R: ...
    @overload
    async def run(self, target: str, /, *args: Any, options: SubmitOptions | None = None, **kwargs: Any) -> Any: ...
    async def run(self, target: Any, /, *args: Any, options: Any = None, **kwargs: Any) -> Any:
        """Submit a task, wait until it has ended, and return its result.

        target: as for `submit`. Raises TaskFailed, TaskCancelled, AwaitsRestart (the service is stopping; the task is
        stored, and runs later), NotAllowed (the task is stored, but the key lacks the scope `read`). To limit the wait:
        `submit(...).result(timeout)`. The task goes on whatever ends the wait.
        """
        return await self._driver.run(self._tasks.run(settle(target, args, kwargs, options)))

    @overload
    def map(
        self,
        target: Submittable[..., R],
        rows: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 50,
        options: SubmitOptions | None = None,
    ) -> AsyncIterator[Mapped[R]]: ...
    @overload
    def map(
        self,
        target: str,
        rows: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 50,
        options: SubmitOptions | None = None,
    ) -> AsyncIterator[Mapped[Any]]: ...
    def map(
        self,
        target: Target,
        rows: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 50,
        options: SubmitOptions | None = None,
    ) -> AsyncIterator[Mapped[Any]]:
        """Submit a task for each row, and yield what becomes of each as it ends: `one.index`, `one.result()`.

        target: as for `submit`. A row is a mapping of params by name, a tuple of params by position, or the only param.
        max_in_flight: tasks that are open at a time; more rows are taken as they end. A task that fails stops no other:
        its `result()` raises. Tasks that are open when the iteration is left go on.
        """
        source = iterate(rows)
        return self._driver.iterate(self._maps.map(target, source, max_in_flight=max_in_flight, options=options))

    def batch(
        self,
        rows: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        group: str | None = None,
        validate: bool = False,
        chunk: int = MOST_ROWS,
    ) -> AsyncIterator[BatchItem]:
        """Submit many tasks, and yield the answer to each, in order: its task_id, or the problem of this row alone.

        rows: what POST /task takes, `{"type": ..., "params": ..., **options}`; they are sent `chunk` at a time, as they
        are needed. With the same `idempotency_key` the same rows (and the same chunk) are the same tasks, for a day.
        group: that of rows which name none. validate: check only. Raises ServiceError where the service takes no more,
        ValueError for a row that JSON cannot hold; rows that have been answered are stored.
        """
        call = self._batches.batch(
            iterate(rows), idempotency_key=idempotency_key, group=group, validate=validate, chunk=chunk
        )
        return self._driver.iterate(call)

    async def get(
        self, task_id: UUID | str, *, attempts: bool = False, steps: bool = False, children: bool = False
    ) -> Task:
        """Return the task as it is now, with its attempts, steps and newest children if asked for. Raises NotFound."""
        return await self._driver.run(self._tasks.get(task_id, attempts=attempts, steps=steps, children=children))

    async def steps(self, task_id: UUID | str) -> Sequence[Step]:
        """Return what the task has done once and remembers, or waits for, the oldest first. Raises NotFound."""
        return await self._driver.run(self._tasks.steps(task_id))

    async def wait(self, task_id: UUID | str, timeout: timedelta | float | None = None) -> Task:
        """Return the task once it has ended. Raises WaitTimeout after `timeout` (None: never), NotFound.

        It outlasts a restart of the service.
        """
        return await self._driver.run(self._tasks.wait(task_id, timeout))

    async def result(self, task_id: UUID | str, timeout: timedelta | float | None = None) -> Any:
        """Wait for the task, and return its result. Raises TaskFailed, TaskCancelled, WaitTimeout, NotFound."""
        return await self._driver.run(self._tasks.result(task_id, timeout))

    def result_of(self, task: Task) -> Any:
        """Return the result of a task that has ended. Raises TaskFailed, TaskCancelled."""
        return self._tasks.result_of(task)

    def events(self, task_id: UUID | str, *, after: int = 0) -> AsyncIterator[Event]:
        """Yield the task's events as they happen, beginning after the sequence `after`, until it has ended.

        Each event comes once, even if the service restarts in between. Raises NotFound.
        """
        return self._driver.iterate(self._events.events(task_id, after))

    def output(self, task_id: UUID | str) -> AsyncIterator[str]:
        """Yield the text that the task puts out as it comes, from its beginning, until it has ended.

        If an attempt fails, the text of the next one follows. Raises NotFound.
        """
        return self._driver.iterate(self._events.output(task_id))

    def logs(
        self, task_id: UUID | str, *, follow: bool = False, level: LogLevel = "debug", tail: int | None = None
    ) -> AsyncIterator[LogEntry]:
        """Yield the records of the task's log, oldest first; with `follow` also those to come, until it has ended.

        level: only records of this level, or a higher one. tail: begin with at most so many. Raises NotFound.
        """
        return self._driver.iterate(self._events.logs(task_id, follow=follow, level=level, tail=tail))

    def follow(
        self,
        *,
        after: str | None = None,
        event: Sequence[str] = (),
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
    ) -> AsyncIterator[Event | Reset]:
        """Yield the events of all tasks as they happen, without end.

        after: the `cursor` of an event, to begin with the next one; None to begin now, "oldest" with the oldest that is
        kept. Each event comes once, even if the service restarts in between. A Reset stands for events that the service
        no longer keeps.
        """
        return self._driver.iterate(self._events.follow(after, event, type=type, queue=queue, tag=tag))

    async def cancel(self, task_id: UUID | str) -> Task:
        """Cancel the task; a running one may still end otherwise. Raises NotFound, Conflict (it has ended)."""
        return await self._driver.run(self._tasks.cancel(task_id))

    async def input(self, task_id: UUID | str, name: str, value: Any, *, asked_at: datetime | None = None) -> Task:
        """Answer the task's question of that name (Task.input); asked_at: only the one that was asked then.

        Raises NotFound, Conflict (it does not ask this, it is answered, or its time is over), InvalidRequest with every
        fault of the value.
        """
        return await self._driver.run(self._tasks.input(task_id, name, value, asked_at))

    async def retry(self, task_id: UUID | str, *, from_: str | None = None, forget: Sequence[str] = ()) -> Task:
        """Run a failed or cancelled task again, under the same id; it keeps its steps and its completed children.

        from_: a step to forget, with all that were stored after it; or forget: only these. Not sent again without an
        answer. Raises NotFound, Conflict (any other status), InvalidRequest (there is no such step).
        """
        return await self._driver.run(self._tasks.retry(task_id, from_, forget))

    async def replay(
        self,
        task_id: UUID | str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        keep_steps: bool = False,
        options: SubmitOptions | None = None,
    ) -> AsyncHandle[Any]:
        """Submit a task once more as a new one, by default with the same params and options.

        keep_steps: it begins with the steps of the other one, its children excepted. Raises NotFound, InvalidRequest.
        """
        return self._handle(
            await self._driver.run(self._tasks.replay(task_id, params, keep_steps=keep_steps, options=options))
        )

    async def delete(self, task_id: UUID | str) -> None:
        """Erase a task that has ended, with everything that belongs to it. Raises NotFound, Conflict (it is open)."""
        return await self._driver.run(self._tasks.delete(task_id))

    def find_many(
        self,
        *,
        status: str | Sequence[str] | None = None,
        type: str | Sequence[str] | None = None,
        queue: str | Sequence[str] | None = None,
        tag: str | None = None,
        parent: UUID | str | None = None,
        group: str | None = None,
        schedule_id: UUID | str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        ended_after: datetime | None = None,
        ended_before: datetime | None = None,
        error: str | None = None,
        q: str | None = None,
        owner: str | None = None,
        bulk: UUID | str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Task]:
        """Yield tasks, newest first, at most `limit`; pages are read as they are needed.

        parent: only its children. error: the id of a failure group. q: a text in the params or the error. owner: whose,
        for admins. bulk: the tasks that a bulk action has cancelled or retried.
        """
        filters = {
            "status": status, "type": type, "queue": queue, "tag": tag, "parent": parent, "group": group,
            "schedule_id": schedule_id, "created_after": created_after, "created_before": created_before,
            "ended_after": ended_after, "ended_before": ended_before, "error": error, "q": q, "owner": owner,
            "bulk": bulk,
        }  # fmt: skip
        return self._driver.iterate(self._tasks.find_many(limit, **filters))

    async def find_type(self, name: str) -> dict[str, Any]:
        """Return a task type as `GET /type/{name}` shows it: its schemas, defaults and an example. Raises NotFound."""
        return await self._driver.run(self._tasks.find_type(name))

    async def usage(
        self,
        *,
        first: date | None = None,
        last: date | None = None,
        group: Sequence[Literal["day", "owner", "type"]] | None = None,
        type: str | None = None,
        owner: str | None = None,
    ) -> Usage:
        """Return the usage of the days from `first` to `last` (UTC), both included; by default the last 30 days.

        Rows are by day, owner and type, or by `group`. Raises InvalidRequest.
        """
        query = {"from": first, "to": last, "group": group or None, "type": type, "owner": owner}
        return await self._driver.run(self._tasks.usage(**query))

    async def stats(
        self,
        *,
        window: Window = "1h",
        group: StatsGroup = "none",
        type: str | None = None,
        queue: str | None = None,
        owner: str | None = None,
    ) -> Stats:
        """Return what happened to tasks in a window of time, and how many are open. group: what to tell apart."""
        query = {"window": window, "group": group, "type": type, "queue": queue, "owner": owner}
        return await self._driver.run(self._tasks.stats(**query))

    def _handle(self, submitted: Submitted, codec: Codec | None = None) -> AsyncHandle[Any]:
        return AsyncHandle(self._driver, submitted.task_id, submitted.awaits_restart, codec)


class AsyncRawTasker:
    """Methods of AsyncTasker that return a RawResponse: the last reply, and by `parse()` what the method returns."""

    def __init__(self, client: AsyncTasker) -> None:
        self._client = client

    def recording(self, last: Last) -> AsyncTasker:
        """Return the client, which gives `last` its replies."""
        return self._client._recording(last)

    @overload
    async def submit(
        self, target: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> RawResponse[AsyncHandle[R]]: ...
    @overload
    async def submit(
        self, target: Submittable[..., R], /, *args: Any, options: SubmitOptions, **kwargs: Any
    ) -> RawResponse[AsyncHandle[R]]: ...
    @overload
    async def submit(
        self, target: str, /, *args: Any, options: SubmitOptions | None = None, **kwargs: Any
    ) -> RawResponse[AsyncHandle[Any]]: ...
    async def submit(self, target: Any, /, *args: Any, options: Any = None, **kwargs: Any) -> Any:
        """Submit a task as `AsyncTasker.submit` does."""
        last = Last()
        return answered(last, await self.recording(last).submit(target, *args, options=options, **kwargs))

    @overload
    async def run(self, target: Submittable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RawResponse[R]: ...
    @overload
    async def run(
        self, target: Submittable[..., R], /, *args: Any, options: SubmitOptions, **kwargs: Any
    ) -> RawResponse[R]: ...
    @overload
    async def run(
        self, target: str, /, *args: Any, options: SubmitOptions | None = None, **kwargs: Any
    ) -> RawResponse[Any]: ...
    async def run(self, target: Any, /, *args: Any, options: Any = None, **kwargs: Any) -> Any:
        """Run a task as `AsyncTasker.run` does."""
        last = Last()
        return answered(last, await self.recording(last).run(target, *args, options=options, **kwargs))

    submit_params = AsyncRaw(AsyncTasker.submit_params)
    put = AsyncRaw(AsyncTasker.put)
    get = AsyncRaw(AsyncTasker.get)
    steps = AsyncRaw(AsyncTasker.steps)
    wait = AsyncRaw(AsyncTasker.wait)
    result = AsyncRaw(AsyncTasker.result)
    cancel = AsyncRaw(AsyncTasker.cancel)
    input = AsyncRaw(AsyncTasker.input)
    retry = AsyncRaw(AsyncTasker.retry)
    replay = AsyncRaw(AsyncTasker.replay)
    delete = AsyncRaw(AsyncTasker.delete)
    find_type = AsyncRaw(AsyncTasker.find_type)
    usage = AsyncRaw(AsyncTasker.usage)
    stats = AsyncRaw(AsyncTasker.stats)
