"""The Python client: submit tasks to a running service and wait for their results.

with Tasker() as tasker:
    total = tasker.run("sum", 4, 2)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

from httpx2 import Response

from tasker.client.connection import PATIENCE, Connection, decode, read_body, read_retry_after
from tasker.client.errors import (
    AwaitsRestart,
    ClientError,
    Conflict,
    GroupTimeout,
    InvalidRequest,
    NotAllowed,
    NotFound,
    ServiceError,
    TaskCancelled,
    TaskFailed,
    Unavailable,
    UnexpectedReply,
    Unreachable,
    WaitTimeout,
)
from tasker.client.groups import Groups
from tasker.client.keys import Keys
from tasker.client.options import SubmitOptions, as_timedelta
from tasker.client.queues import Queues
from tasker.client.schedules import Schedules
from tasker.model import JsonObject, Status
from tasker.wire.events import Event, Reset
from tasker.wire.groups import Group
from tasker.wire.keys import Key, NewKey
from tasker.wire.queues import Queue
from tasker.wire.queues import Rate as QueueRate
from tasker.wire.schedules import Schedule
from tasker.wire.steps import Question, Step
from tasker.wire.tasks import Task, TaskPage
from tasker.wire.usage import Usage

__all__ = [
    "AwaitsRestart",
    "ClientError",
    "Conflict",
    "Event",
    "Group",
    "GroupTimeout",
    "Groups",
    "InvalidRequest",
    "Key",
    "Keys",
    "NewKey",
    "NotAllowed",
    "NotFound",
    "Question",
    "Queue",
    "QueueRate",
    "Reset",
    "Schedule",
    "Schedules",
    "ServiceError",
    "Step",
    "SubmitOptions",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskHandle",
    "Tasker",
    "Unavailable",
    "UnexpectedReply",
    "Unreachable",
    "Usage",
    "WaitTimeout",
]

DEFAULT_URL = "http://127.0.0.1:5000"
_LONGEST_POLL = timedelta(seconds=60)
"""Longest `wait` of one request."""
_SHORTEST_POLL = 1.0
"""Seconds."""


class Tasker:
    """A client of one service. Threads may share it; close it, or use it as a context manager.

    `url` defaults to TASKER_URL, else http://127.0.0.1:5000; `token` to TASKER_TOKEN. `timeout` bounds each step of
    a request, in seconds; waiting for a task is not limited by it. A value that JSON cannot hold (NaN, for example)
    raises ValueError with its place, and nothing is sent. Every method may raise Unreachable and ServiceError (see
    tasker.client.errors). Requests without answer are sent again up to `retries` times; a submission keeps one
    idempotency key, so that it makes one task.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 2,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        url = url or os.environ.get("TASKER_URL") or DEFAULT_URL
        token = token or os.environ.get("TASKER_TOKEN") or None
        self._connection = Connection(url, token, timeout=timeout, retries=retries, sleep=sleep)
        self._sleep = sleep
        self.groups = Groups(self._connection, self._pace)
        self.keys = Keys(self._connection)
        self.queues = Queues(self._connection)
        self.schedules = Schedules(self._connection)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url_of(self, task_id: UUID | str) -> str:
        """Return the address of a task."""
        return f"{self._connection.url}/task/{task_id}"

    def submit(self, type: str, /, *args: Any, options: SubmitOptions | None = None, **kwargs: Any) -> TaskHandle:
        """Submit a task of `type` with params by position or by name; it is stored when this returns.

        Raises InvalidRequest with every fault of the params, TypeError for params both by position and by name.
        """
        return self.submit_params(type, _params(args, kwargs), options=options)

    def submit_params(
        self, type: str, params: Sequence[Any] | Mapping[str, Any], *, options: SubmitOptions | None = None
    ) -> TaskHandle:
        """Submit a task with params as one list or mapping. Raises InvalidRequest."""
        reply = self._submit(type, params, options or SubmitOptions(), wait=timedelta(0))
        task = _task(reply)
        return TaskHandle(self, task.task_id, awaits_restart=_awaits_restart(reply, task))

    def run(self, type: str, /, *args: Any, options: SubmitOptions | None = None, **kwargs: Any) -> Any:
        """Submit a task, wait until it has ended, and return its result.

        Raises TaskFailed, TaskCancelled, AwaitsRestart (the service is stopping; the task is stored, and runs later),
        NotAllowed (the task is stored, but the key lacks the scope `read`).
        To limit the wait: `submit(...).result(timeout)`.
        """
        reply = self._submit(type, _params(args, kwargs), options or SubmitOptions(), wait=_LONGEST_POLL)
        task = _task(reply)
        if _awaits_restart(reply, task):
            raise AwaitsRestart(task.task_id)
        has_result = task.status.is_terminal and task.is_whole
        return self.result_of(task if has_result else self.wait(task.task_id))

    def get(self, task_id: UUID | str, *, attempts: bool = False, steps: bool = False, children: bool = False) -> Task:
        """Return the task as it is now, with its attempts, steps and newest children if asked for. Raises NotFound."""
        wanted = {"attempts": attempts, "steps": steps, "children": children}
        include = ",".join(name for name, is_wanted in wanted.items() if is_wanted)
        return _task(self._read(task_id, query={"include": include} if include else None))

    def steps(self, task_id: UUID | str) -> Sequence[Step]:
        """Return what the task has done once and remembers, or waits for, the oldest first. Raises NotFound."""
        return self.get(task_id, steps=True).steps or ()

    def wait(self, task_id: UUID | str, timeout: timedelta | float | None = None) -> Task:
        """Return the task once it has ended. Raises WaitTimeout after `timeout` (None: never), NotFound.

        It outlasts a restart of the service.
        """
        limit = None if timeout is None else as_timedelta(timeout)
        start = time.monotonic()
        while True:
            waited = timedelta(seconds=time.monotonic() - start)
            left = _LONGEST_POLL if limit is None else min(max(limit - waited, timedelta(0)), _LONGEST_POLL)
            reply = self._read(task_id, wait=left, retries=PATIENCE)
            task = _task(reply)
            if task.status.is_terminal:
                return task
            waited = timedelta(seconds=time.monotonic() - start)
            if limit is not None and waited >= limit:
                raise WaitTimeout(task, limit)
            self._pace(reply)

    def events(self, task_id: UUID | str, *, after: int = 0) -> Iterator[Event]:
        """Yield the task's events as they happen, beginning after the sequence `after`, until it has ended.

        Each event comes once, even if the service restarts in between. Raises NotFound.
        """

        def read(text: bytes) -> tuple[Event, str]:
            event = decode(text, Event, self.url_of(task_id))
            return event, str(event.sequence)

        def has_ended() -> bool:
            return self.get(task_id).status.is_terminal

        return self._connection.follow(f"/task/{task_id}/events", read, last_id=str(after), has_ended=has_ended)

    def follow(
        self,
        *,
        after: str | None = None,
        event: Sequence[str] = (),
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
    ) -> Iterator[Event | Reset]:
        """Yield the events of all tasks as they happen, without end.

        after: the `cursor` of an event, to begin with the next one; None to begin now, "oldest" with the oldest that is
        kept. Each event comes once, even if the service restarts in between. A Reset stands for events that the service
        no longer keeps.
        """
        query = {"after": after, "event": ",".join(event) or None, "type": type, "queue": queue, "tag": tag}
        path = "/events?" + urlencode({name: value for name, value in query.items() if value is not None})

        def read(text: bytes) -> tuple[Event | Reset, str]:
            kind: Any = Reset if text.startswith(b'{"type":"reset"') else Event
            event: Event | Reset = decode(text, kind, self._connection.url)
            return event, event.cursor or ""

        return self._connection.follow(path, read, last_id="", has_ended=lambda: False)

    def cancel(self, task_id: UUID | str) -> Task:
        """Cancel the task; a running one may still end otherwise. Raises NotFound, Conflict (it has ended)."""
        return self._connection.read("POST", f"/task/{task_id}/cancel", Task)

    def input(self, task_id: UUID | str, name: str, value: Any, *, asked_at: datetime | None = None) -> Task:
        """Answer the task's question of that name (Task.input); asked_at: only the one that was asked then.

        Raises NotFound, Conflict (it does not ask this, it is answered, or its time is over), InvalidRequest with every
        fault of the value.
        """
        body = {"name": name, "value": value}
        if asked_at is not None:
            body["asked_at"] = asked_at
        return self._connection.read("POST", f"/task/{task_id}/input", Task, body=body)

    def retry(self, task_id: UUID | str, *, from_: str | None = None, forget: Sequence[str] = ()) -> Task:
        """Run a failed or cancelled task again, under the same id; it keeps its steps and its completed children.

        from_: a step to forget, with all that were stored after it; or forget: only these. Not sent again without an
        answer. Raises NotFound, Conflict (any other status), InvalidRequest (there is no such step).
        """
        body: dict[str, Any] = {"from": from_} if from_ is not None else {}
        body |= {"forget": list(forget)} if forget else {}
        return self._connection.read("POST", f"/task/{task_id}/retry", Task, body=body or None, retries=0)

    def replay(
        self,
        task_id: UUID | str,
        params: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        keep_steps: bool = False,
        options: SubmitOptions | None = None,
    ) -> TaskHandle:
        """Submit a task once more as a new one, by default with the same params and options.

        keep_steps: it begins with the steps of the other one, its children excepted. Raises NotFound, InvalidRequest.
        """
        options = options or SubmitOptions()
        body = {**options.as_json(), **({} if params is None else {"params": params})}
        body |= {"keep_steps": True} if keep_steps else {}
        headers = {"Idempotency-Key": options.idempotency_key or str(uuid4())}
        reply = self._connection.send("POST", f"/task/{task_id}/replay", body=body, headers=headers)
        task = _task(reply)
        return TaskHandle(self, task.task_id, awaits_restart=_awaits_restart(reply, task))

    def find_many(
        self,
        *,
        status: str | None = None,
        type: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        parent: UUID | str | None = None,
        group: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Task]:
        """Yield tasks, newest first, at most `limit`; pages are read as they are needed. parent: only its children."""
        filters = {"status": status, "type": type, "queue": queue, "tag": tag, "group": group}
        filters["limit"] = None if limit is None else str(min(limit, 100))
        filters["parent"] = None if parent is None else str(parent)
        query = {name: value for name, value in filters.items() if value is not None}
        return self._connection.read_list("/task", TaskPage, query, limit)

    def find_type(self, name: str) -> dict[str, Any]:
        """Return a task type as `GET /type/{name}` shows it: its schemas, defaults and an example. Raises NotFound."""
        return self._connection.read("GET", f"/type/{quote(name, safe='')}", dict[str, Any])

    def usage(
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
        given = {"from": first, "to": last, "group": group and ",".join(group), "type": type, "owner": owner}
        query = {name: str(value) for name, value in given.items() if value is not None}
        return self._connection.read("GET", "/usage", Usage, query=query)

    def result_of(self, task: Task) -> Any:
        """Return the result of a task that has ended. Raises TaskFailed, TaskCancelled."""
        if task.status is Status.FAILED and task.error is not None:
            raise TaskFailed(task.task_id, self.url_of(task.task_id), task.error)
        if task.status is Status.CANCELLED:
            raise TaskCancelled(task.task_id, self.url_of(task.task_id))
        return task.result

    def _submit(self, type: str, params: Any, options: SubmitOptions, *, wait: timedelta) -> Response:
        body: JsonObject = {"type": type, "params": params, **options.as_json()}
        key = options.idempotency_key or str(uuid4())
        return self._connection.send("POST", "/task", body=body, headers={"Idempotency-Key": key}, wait=wait)

    def _read(
        self,
        task_id: UUID | str,
        *,
        query: dict[str, str] | None = None,
        wait: timedelta = timedelta(0),
        retries: int | None = None,
    ) -> Response:
        return self._connection.send("GET", f"/task/{task_id}", query=query, wait=wait, retries=retries)

    def _pace(self, reply: Response) -> None:
        """Pause if the service answered without waiting (it is stopping, say), so as not to poll in a tight loop."""
        if reply.elapsed.total_seconds() < _SHORTEST_POLL:
            asked = read_retry_after(reply)
            self._sleep(asked.total_seconds() if asked else _SHORTEST_POLL)


@dataclass(frozen=True)
class TaskHandle:
    """A submitted task.

    awaits_restart: the service was stopping when it took the task, and runs it after its restart; `wait` and `result`
    wait for that, too.
    """

    client: Tasker
    task_id: UUID
    awaits_restart: bool = False

    def wait(self, timeout: timedelta | float | None = None) -> Task:
        """Return the task once it has ended. Raises WaitTimeout after `timeout` (None: never)."""
        return self.client.wait(self.task_id, timeout)

    def result(self, timeout: timedelta | float | None = None) -> Any:
        """Wait, and return the result. Raises TaskFailed, TaskCancelled, WaitTimeout."""
        return self.client.result_of(self.wait(timeout))

    def get(self) -> Task:
        """Return the task as it is now."""
        return self.client.get(self.task_id)

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """Yield the task's events as they happen, until it has ended."""
        return self.client.events(self.task_id, after=after)

    def status(self) -> Status:
        """Return the task's status now."""
        return self.get().status

    def steps(self) -> Sequence[Step]:
        """Return what the task has done once and remembers, or waits for."""
        return self.client.steps(self.task_id)

    def input(self, name: str, value: Any) -> Task:
        """Answer the task's question of that name. Raises Conflict, InvalidRequest."""
        return self.client.input(self.task_id, name, value)

    def cancel(self) -> Task:
        """Cancel the task. Raises Conflict if it has ended."""
        return self.client.cancel(self.task_id)


def _params(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if args and kwargs:
        raise TypeError("give the params by position or by name, not both")
    return kwargs or list(args)


def _awaits_restart(reply: Response, task: Task) -> bool:
    """Tell whether the service was stopping when it took a task, rather than began to stop during the wait."""
    return task.reason == "restart" and "Preference-Applied" not in reply.headers


def _task(reply: Response) -> Task:
    return read_body(reply, Task)
