"""Results as Celery has them, read from the service."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError

from tasker.client import Conflict, NotFound, Task, Tasker, WaitTimeout
from tasker.contrib.celery.options import unsupported
from tasker.contrib.clients import client_of
from tasker.model import Status, TaskProblem

_ENDS: dict[str, type[Exception]] = {
    "timed-out": TimeLimitExceeded,
    "worker-crashed": WorkerLostError,
    "memory-limit": WorkerLostError,
}
"""The exceptions of ends without one, by the name of the problem."""
_AGAIN = frozenset({"retrying", "snoozed"})
"""Reasons of a task that runs again because it asked for it."""
_READY = frozenset({"SUCCESS", "FAILURE", "REVOKED"})


class AsyncResult:
    """A submitted task. Every look at it asks the service, until it has ended.

    client: default that of the service that TASKER_URL and TASKER_TOKEN name.
    """

    def __init__(self, id: str | UUID, *, client: Tasker | None = None) -> None:
        self.id = str(id)
        self._client = client_of() if client is None else client
        self._ended: Task | None = None

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def task_id(self) -> str:
        """The id."""
        return self.id

    def get(self, timeout: float | timedelta | None = None, propagate: bool = True, **_: Any) -> Any:
        """Wait until the task has ended, and return its result.

        It raises what the task raised: the same class where this process has loaded it, else one of the same name;
        TaskRevokedError if it was revoked or has expired, TimeLimitExceeded, WorkerLostError. propagate: False to
        return the exception instead. Raises celery.exceptions.TimeoutError after `timeout` seconds, and NotFound for an
        id that the service does not know (Celery waits for ever).
        """
        if self._ended is None:
            try:
                self._ended = self._client.wait(self.id, timeout)
            except WaitTimeout as error:
                raise CeleryTimeoutError("The operation timed out.") from error
        outcome = _outcome_of(self._ended)
        if propagate and self._ended.status is not Status.COMPLETED:
            raise outcome
        return outcome

    wait = get

    @property
    def state(self) -> str:
        """PENDING (also for an id that is not known), STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED."""
        task = self._look()
        return "PENDING" if task is None else _state_of(task)

    status = state

    def ready(self) -> bool:
        """Tell whether the task has ended."""
        return self.state in _READY

    def successful(self) -> bool:
        """Tell whether the task has ended with a result."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """Tell whether the task has failed; a revoked one has not."""
        return self.state == "FAILURE"

    @property
    def result(self) -> Any:
        """The result, the exception of a task without one, what the task has reported (PROGRESS), or None."""
        task = self._look()
        if task is None:
            return None
        if task.status.is_terminal:
            return _outcome_of(task)
        progress = task.progress
        return {"current": progress.current, "total": progress.total, "status": progress.message} if progress else None

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task."""
        task = self._look()
        return task.error.traceback if task is not None and task.error is not None else None

    @property
    def date_done(self) -> datetime | None:
        """When it ended."""
        task = self._look()
        return task.finished_at if task is not None else None

    @property
    def name(self) -> str | None:
        """The name of the task's type."""
        task = self._look()
        return task.type if task is not None else None

    @property
    def queue(self) -> str | None:
        """Its queue."""
        task = self._look()
        return task.queue if task is not None else None

    @property
    def retries(self) -> int:
        """How many attempts there were before the current, or the last one."""
        task = self._look()
        return max(0, task.attempt - 1) if task is not None else 0

    def revoke(self, terminate: bool = True, **_: Any) -> None:
        """Cancel the task; a running one is stopped, whatever `terminate` says. One that has ended stays as it is."""
        try:
            self._client.cancel(self.id)
        except Conflict:
            return

    def forget(self) -> None:
        """Erase the task with its result. One that is open stays."""
        self._ended = None
        try:
            self._client.delete(self.id)
        except (Conflict, NotFound):
            return

    def then(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotImplementedError."""
        unsupported("AsyncResult.then", "wait for the result, or use a webhook (docs/webhooks.md)")

    def collect(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotImplementedError."""
        unsupported("AsyncResult.collect", "read the children: `tasker ls --parent TASK`")

    def _look(self) -> Task | None:
        """Return the task as it is now, None if there is no such task."""
        if self._ended is not None:
            return self._ended
        try:
            task = self._client.get(self.id)
        except NotFound:
            return None
        if task.status.is_terminal:
            self._ended = task
        return task


class GroupResult:
    """The results of the tasks of a group, in their order."""

    def __init__(self, id: str, results: Sequence[AsyncResult]) -> None:
        self.id = id
        self.results = list(results)

    def __iter__(self) -> Iterator[AsyncResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> AsyncResult:
        return self.results[index]

    def get(self, timeout: float | None = None, propagate: bool = True, **_: Any) -> list[Any]:
        """Wait for all, and return their results in order. Raises as AsyncResult.get, for the first that failed."""
        start = time.monotonic()
        found = []
        for result in self.results:
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - start))
            found.append(result.get(left, propagate))
        return found

    join = get

    def ready(self) -> bool:
        """Tell whether all have ended."""
        return all(result.ready() for result in self.results)

    def successful(self) -> bool:
        """Tell whether all have ended with a result."""
        return all(result.successful() for result in self.results)

    def failed(self) -> bool:
        """Tell whether one of them has failed."""
        return any(result.failed() for result in self.results)

    def completed_count(self) -> int:
        """Return how many have ended with a result."""
        return sum(result.successful() for result in self.results)

    def revoke(self, **_: Any) -> None:
        """Cancel those that are open."""
        for result in self.results:
            result.revoke()


def _state_of(task: Task) -> str:
    match task.status:
        case Status.PENDING:
            return "RETRY" if task.reason in _AGAIN else "PENDING"
        case Status.RUNNING:
            return "STARTED" if task.progress is None else "PROGRESS"
        case Status.COMPLETED:
            return "SUCCESS"
        case Status.CANCELLED:
            return "REVOKED"
        case Status.FAILED:
            return "REVOKED" if _has_expired(task) else "FAILURE"


def _outcome_of(task: Task) -> Any:
    """Return the result of a task that has ended, or the exception that stands for its end."""
    if task.status is Status.COMPLETED:
        return task.result
    if task.status is Status.CANCELLED or _has_expired(task):
        return TaskRevokedError("revoked" if task.status is Status.CANCELLED else "expired")
    return RuntimeError("the task failed") if task.error is None else _exception_of(task.error)


def _has_expired(task: Task) -> bool:
    return task.error is not None and _name_of(task.error) == "deadline-passed"


def _name_of(problem: TaskProblem) -> str:
    return problem.type.rpartition("/")[2]


def _exception_of(problem: TaskProblem) -> Exception:
    message = problem.detail if problem.exception is None else problem.exception.message
    kind = _class_of(problem)
    with suppress(Exception):  # its constructor takes something else
        return kind(message)
    return _made(kind.__name__, kind.__module__)(message)


def _class_of(problem: TaskProblem) -> type[Exception]:
    """Return the class of the exception that stands for a failure: one that is loaded, else one of the same name."""
    if problem.exception is None:
        return _ENDS.get(_name_of(problem), RuntimeError)
    module, _, name = problem.exception.class_.rpartition(".")
    found = getattr(sys.modules.get(module or "builtins"), name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else _made(name, module)


def _made(name: str, module: str) -> type[Exception]:
    made: type[Exception] = type(name, (Exception,), {"__module__": module})
    return made
