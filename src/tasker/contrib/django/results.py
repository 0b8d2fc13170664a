"""The result of a task as Django sees it, made of the task as the service shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from tasker.client import Task, TaskCancelled
from tasker.contrib.django import framework
from tasker.contrib.django.definitions import to_arguments
from tasker.model import Status, TaskProblem

_STATUSES = {
    Status.PENDING: framework.TaskResultStatus.READY,
    Status.RUNNING: framework.TaskResultStatus.RUNNING,
    Status.COMPLETED: framework.TaskResultStatus.SUCCESSFUL,
    Status.FAILED: framework.TaskResultStatus.FAILED,
    Status.CANCELLED: framework.TaskResultStatus.FAILED,
}


class AttemptFailed(Exception):
    """Stands for the end of an attempt without an exception (a timeout, a crash); the error's traceback says why."""


def read_result(task: Task, alias: str) -> framework.TaskResult:
    """Return the result of a task that was read with its attempts.

    A cancelled task counts as failed, with an error of the class TaskCancelled. Raises TaskResultDoesNotExist for a
    task of another kind.
    """
    definition = find_definition(task.type)
    if definition is None:
        raise framework.TaskResultDoesNotExist(str(task.task_id))
    args, kwargs = to_arguments(definition, task.params, task.metadata)
    attempts = task.attempts or ()
    run_after = {"run_after": in_project_time(task.run_at)} if task.run_at and task.run_at != task.created_at else {}
    result = framework.TaskResult(
        task=definition.using(priority=task.priority, queue_name=task.queue, backend=alias, **run_after),
        id=str(task.task_id),
        status=_STATUSES[task.status],
        enqueued_at=in_project_time(task.created_at),
        started_at=in_project_time(attempts[0].started_at) if attempts else None,
        finished_at=in_project_time(task.finished_at),
        last_attempted_at=in_project_time(attempts[-1].started_at) if attempts else None,
        args=args,
        kwargs=kwargs,
        backend=alias,
        errors=_errors_of(task),
        worker_ids=[attempt.worker for attempt in attempts],
    )
    object.__setattr__(result, "_return_value", task.result)
    return result


def find_definition(path: str) -> framework.Task | None:
    """Return the task that is defined at a module path, or None."""
    try:
        found = import_string(path)
    except ImportError:
        return None
    return found if isinstance(found, framework.Task) else None


def in_project_time(moment: datetime | None) -> Any:
    """Return a moment as the project has them: with a zone if USE_TZ is set."""
    return moment if moment is None or settings.USE_TZ else timezone.make_naive(moment)


def _errors_of(task: Task) -> list[framework.TaskError]:
    errors = [_error(attempt.error) for attempt in task.attempts or () if attempt.error is not None]
    if task.error is not None and not errors:  # it failed without an attempt, by its deadline for example
        errors.append(_error(task.error))
    if task.status is Status.CANCELLED:
        path = f"{TaskCancelled.__module__}.{TaskCancelled.__qualname__}"
        errors.append(framework.TaskError(exception_class_path=path, traceback="The task was cancelled.\n"))
    return errors


def _error(problem: TaskProblem) -> framework.TaskError:
    path = problem.exception.class_ if problem.exception else f"{AttemptFailed.__module__}.{AttemptFailed.__qualname__}"
    path = path if "." in path else f"builtins.{path}"
    traceback = problem.traceback or f"{path}: {problem.detail}\n"
    return framework.TaskError(exception_class_path=path, traceback=traceback)
