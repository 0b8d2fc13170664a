"""Calls about tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from msgspec import Struct

from tasker.client.core.effects import Call, Flow, Reply
from tasker.client.core.exchange import PATIENCE, Exchange, read_body
from tasker.client.core.paths import segment
from tasker.client.core.targets import Wanted, read_result
from tasker.client.core.waiting import LONGEST_POLL, wait_until
from tasker.client.errors import AwaitsRestart, ServiceError, TaskCancelled, TaskFailed, Unreachable, WaitTimeout
from tasker.client.options import SubmitOptions
from tasker.model import Status
from tasker.wire.stats import Stats
from tasker.wire.steps import Step
from tasker.wire.tasks import Task, TaskPage
from tasker.wire.usage import Usage

if TYPE_CHECKING:
    from tasker.tasktypes.codecs import Codec


ENDS = ("completed", "failed", "cancelled")
"""The events that end a task."""


class Submitted(Struct, frozen=True):
    """A task that the service has taken. awaits_restart: it was stopping, and runs the task after its restart."""

    task_id: UUID
    awaits_restart: bool


class _Takes(Struct, frozen=True):
    """What callers of `find_type` rely on: another program's reply lacks it."""

    input_schema: dict[str, Any]
    positional: list[str]


@dataclass(frozen=True)
class TaskCalls:
    """What `Tasker` and `AsyncTasker` do with tasks; see there."""

    exchange: Exchange

    def url_of(self, task_id: UUID | str) -> str:
        return f"{self.exchange.url}{_path(task_id)}"

    def submit(self, wanted: Wanted) -> Call[Submitted]:
        return _submitted((yield from self._submit(wanted, _key(wanted.options))))

    def submit_params(self, type: str, params: Any, options: SubmitOptions | None) -> Call[Submitted]:
        return self.submit(Wanted(type, params, options or SubmitOptions()))

    def put(self, task_id: UUID | str, submission: Mapping[str, Any], *, wait: bool) -> Call[Task]:
        path = _path(task_id)
        if not wait:
            return (yield from self.exchange.read("PUT", path, Task, body=submission))
        reply = yield from self.exchange.send("PUT", path, body=submission, wait=LONGEST_POLL, retries=PATIENCE)
        task = read_body(reply, Task)
        if task.status.is_terminal and task.is_whole:
            return task
        return (yield from self.wait(task_id, None))

    def run(self, wanted: Wanted) -> Call[Any]:
        reply = yield from self._submit_and_wait(wanted)
        task = read_body(reply, Task)
        if _awaits_restart(reply, task):
            raise AwaitsRestart(task.task_id)
        if not (task.status.is_terminal and task.is_whole):
            task = yield from self.wait(task.task_id, None)
        return self.result_of(task, wanted.codec)

    def get(self, task_id: UUID | str, **wanted: bool) -> Call[Task]:
        include = ",".join(name for name, is_wanted in wanted.items() if is_wanted)
        return self.exchange.read("GET", _path(task_id), Task, query={"include": include or None})

    def steps(self, task_id: UUID | str) -> Call[Sequence[Step]]:
        return (yield from self.get(task_id, steps=True)).steps or ()

    def wait(self, task_id: UUID | str, timeout: timedelta | float | None) -> Call[Task]:
        return wait_until(
            self.exchange,
            _path(task_id),
            Task,
            timeout,
            is_over=lambda task: task.status.is_terminal,
            late=WaitTimeout,
            watch={"task_id": task_id, "event": ENDS},
        )

    def result(self, task_id: UUID | str, timeout: timedelta | float | None, codec: Codec | None = None) -> Call[Any]:
        return self.result_of((yield from self.wait(task_id, timeout)), codec)

    def result_of(self, task: Task, codec: Codec | None = None) -> Any:
        """Return the result of a task that has ended, as `codec` reads it. Raises TaskFailed, TaskCancelled."""
        url = self.url_of(task.task_id)
        if task.status is Status.FAILED and task.error is not None:
            raise TaskFailed(task.task_id, url, task.error)
        if task.status is Status.CANCELLED:
            raise TaskCancelled(task.task_id, url)
        return read_result(task.result, codec, url)

    def cancel(self, task_id: UUID | str) -> Call[Task]:
        return self.exchange.read("POST", f"{_path(task_id)}/cancel", Task)

    def input(self, task_id: UUID | str, name: str, value: Any, asked_at: datetime | None) -> Call[Task]:
        body = {"name": name, "value": value} | ({} if asked_at is None else {"asked_at": asked_at})
        return self.exchange.read("POST", f"{_path(task_id)}/input", Task, body=body)

    def retry(self, task_id: UUID | str, from_: str | None, forget: Sequence[str]) -> Call[Task]:
        body: dict[str, Any] = {} if from_ is None else {"from": from_}
        body |= {"forget": list(forget)} if forget else {}
        return self.exchange.read("POST", f"{_path(task_id)}/retry", Task, body=body or None, retries=0)

    def replay(
        self,
        task_id: UUID | str,
        params: Sequence[Any] | Mapping[str, Any] | None,
        *,
        keep_steps: bool,
        options: SubmitOptions | None,
    ) -> Call[Submitted]:
        options = options or SubmitOptions()
        body = {**options.as_json(), **({} if params is None else {"params": params})}
        body |= {"keep_steps": True} if keep_steps else {}
        path, headers = f"{_path(task_id)}/replay", _key(options)
        return _submitted((yield from self.exchange.send("POST", path, body=body, headers=headers)))

    def replay_edited(
        self, task_id: UUID | str, edited: Mapping[str, Any], *, keep_steps: bool, options: SubmitOptions | None
    ) -> Call[Submitted]:
        params = None
        if edited:
            task = yield from self.get(task_id)
            params = {**(yield from self._by_name(task)), **edited}
        return (yield from self.replay(task_id, params, keep_steps=keep_steps, options=options))

    def _by_name(self, task: Task) -> Call[Mapping[str, Any]]:
        """Return the params of a task by their names."""
        if isinstance(task.params, dict):
            return task.params
        given: Sequence[Any] = task.params or ()
        names = (yield from self.find_type(task.type))["positional"] if given else []
        if len(given) > len(names):
            raise ValueError(f"a {task.type} has more params by position than names: give all params to `replay`")
        return dict(zip(names, given, strict=False))

    def delete(self, task_id: UUID | str) -> Call[None]:
        yield from self.exchange.send("DELETE", _path(task_id), retries=0)

    def find_many(self, limit: int | None, **filters: Any) -> Flow[Task]:
        page = None if limit is None else min(limit, 100)
        return self.exchange.read_list("/task", TaskPage, {**filters, "limit": page}, limit)

    def find_type(self, name: str) -> Call[dict[str, Any]]:
        reply = yield from self.exchange.send("GET", f"/type/{segment(name)}")
        read_body(reply, _Takes)
        return read_body(reply, dict[str, Any])

    def usage(self, **query: Any) -> Call[Usage]:
        return self.exchange.read("GET", "/usage", Usage, query=query)

    def stats(self, **query: Any) -> Call[Stats]:
        return self.exchange.read("GET", "/stats", Stats, query=query)

    def _submit_and_wait(self, wanted: Wanted) -> Call[Reply]:
        """Submit with the first poll; if that is cut off, once more without."""
        headers, retries = _key(wanted.options), self.exchange.retries
        try:
            return (yield from self._submit(wanted, headers, wait=LONGEST_POLL, retries=0))
        except (Unreachable, ServiceError) as error:
            if retries < 1 or not (yield from self.exchange.pause(error, 0)):
                raise
        return (yield from self._submit(wanted, headers, retries=retries - 1))

    def _submit(self, wanted: Wanted, headers: Mapping[str, str], **options: Any) -> Call[Reply]:
        return self.exchange.send("POST", "/task", body=wanted.as_json(), headers=headers, **options)


def _path(task_id: UUID | str) -> str:
    return f"/task/{segment(task_id)}"


def _key(options: SubmitOptions) -> dict[str, str]:
    """Return the header that makes one task of a submission, however often it is sent."""
    return {"Idempotency-Key": options.idempotency_key or str(uuid4())}


def _submitted(reply: Reply) -> Submitted:
    task = read_body(reply, Task)
    return Submitted(task.task_id, _awaits_restart(reply, task))


def _awaits_restart(reply: Reply, task: Task) -> bool:
    """Tell whether the service was stopping when it took a task, rather than began to stop during the wait."""
    return task.reason == "restart" and "Preference-Applied" not in reply.headers
