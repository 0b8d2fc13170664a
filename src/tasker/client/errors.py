"""The exceptions of the client, as one tree:

ClientError
├── Unreachable        no answer came, not even to the retries
├── UnexpectedReply    the reply is not one of a Tasker service
├── ServiceError       the service refused; `status`, `name`, `detail` and `faults` are its problem (RFC 9457)
│   ├── InvalidRequest     400, 413, 414, 415, 422, 431: correct the request
│   ├── NotAllowed         401, 403
│   ├── NotFound           404
│   ├── Conflict           409
│   └── Unavailable        429, 5xx: ask again later
├── TaskFailed         the task ended as failed
├── TaskCancelled      the task was cancelled
├── AwaitsRestart      the service is stopping: it has stored the task, and runs it after its restart
├── WaitTimeout        the task was still open when the timeout passed
├── GroupTimeout       tasks of the group were still open when the timeout passed
└── BulkTimeout        the bulk action was not over when the timeout passed
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from tasker.errors import Fault, TaskerError
from tasker.model import TaskProblem
from tasker.wire.bulk import Bulk
from tasker.wire.groups import Group
from tasker.wire.tasks import Task


class ClientError(TaskerError):
    """Root of what the client raises."""


class Unreachable(ClientError):
    """No answer came from `url`."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(f"no answer from {url}: {detail}")
        self.url = url


class UnexpectedReply(ClientError):
    """The reply of `url` is not one of a Tasker service that this client understands."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(f"{url}: the reply is not what a Tasker service replies: {detail}")
        self.url = url


class ServiceError(ClientError):
    """The service refused. `name` is the last part of the problem's type, "" if the reply holds no problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        name: str = "",
        title: str = "",
        faults: Sequence[Fault] = (),
        request_id: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(": ".join(part for part in (title, detail) if part) or f"HTTP status {status}")
        self.status = status
        self.name = name
        self.title = title
        self.detail = detail
        self.faults = tuple(faults)
        self.request_id = request_id
        self.retry_after = retry_after


class InvalidRequest(ServiceError):
    """The request is wrong; `faults` names each field."""


class NotAllowed(ServiceError):
    """The token is missing, wrong, or may not do this."""


class NotFound(ServiceError):
    """No such task or type."""


class Conflict(ServiceError):
    """The task's status does not allow this."""


class Unavailable(ServiceError):
    """The service cannot do it now; `retry_after` says when to ask again, if the service knows."""


class TaskFailed(ClientError):
    """The task failed: `type` is the class of the exception if one was raised, else the problem's name."""

    def __init__(self, task_id: UUID, url: str, problem: TaskProblem) -> None:
        exception = problem.exception
        self.type = exception.class_ if exception else problem.type.rpartition("/")[2]
        self.message = exception.message if exception else problem.detail
        super().__init__(f"task {task_id} failed in attempt {problem.attempt}: {problem.detail}")
        self.task_id = task_id
        self.url = url
        self.problem = problem
        self.attempt = problem.attempt
        self.traceback = problem.traceback


class TaskCancelled(ClientError):
    """The task was cancelled before it had a result."""

    def __init__(self, task_id: UUID, url: str) -> None:
        super().__init__(f"task {task_id} was cancelled")
        self.task_id = task_id
        self.url = url


class AwaitsRestart(ClientError):
    """The service was stopping when it took the task: it is stored, and runs after the restart."""

    def __init__(self, task_id: UUID) -> None:
        super().__init__(f"the service is stopping: task {task_id} is stored, and runs after the restart")
        self.task_id = task_id


class WaitTimeout(ClientError, TimeoutError):
    """The task was still open when the timeout passed; it goes on. `task` is how it was last seen."""

    def __init__(self, task: Task, waited: timedelta) -> None:
        super().__init__(f"task {task.task_id} is not finished after {waited.total_seconds():g} s; it goes on")
        self.task = task
        self.task_id = task.task_id
        self.waited = waited


class GroupTimeout(ClientError, TimeoutError):
    """Tasks of the group were still open when the timeout passed; they go on. `group` is how it was last seen."""

    def __init__(self, group: Group, waited: timedelta) -> None:
        super().__init__(f"the group {group.name} has open tasks after {waited.total_seconds():g} s; they go on")
        self.group = group
        self.waited = waited


class BulkTimeout(ClientError, TimeoutError):
    """The bulk action was not over when the timeout passed; it goes on. `bulk` is how it was last seen."""

    def __init__(self, bulk: Bulk, waited: timedelta) -> None:
        super().__init__(f"bulk action {bulk.bulk_id} is not over after {waited.total_seconds():g} s; it goes on")
        self.bulk = bulk
        self.waited = waited


def error_class(status: int) -> type[ServiceError]:
    """Return the class for an HTTP status of 300 or more."""
    match status:
        case 401 | 403:
            return NotAllowed
        case 404 | 410:
            return NotFound
        case 409:
            return Conflict
        case 429:
            return Unavailable
        case _:
            return Unavailable if status >= 500 else InvalidRequest
