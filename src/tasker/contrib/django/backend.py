"""The backend: it submits Django's tasks to a Tasker service, and reads their results from it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.core import checks
from django.db import transaction
from django.utils import timezone

from tasker.client import InvalidRequest, NotFound, SubmitOptions, Tasker
from tasker.contrib.clients import client_of
from tasker.contrib.django import framework
from tasker.contrib.django.definitions import TaskerTask, to_submission
from tasker.contrib.django.results import in_project_time, read_result
from tasker.model import queue_name_pattern
from tasker.validation.encoding import NotJson, encode_strict, place_of_fault

OPTIONS = ("ENQUEUE_ON_COMMIT", "MODULES", "RETRY", "TIMEOUT", "TOKEN", "URL")


class TaskerBackend(framework.BaseTaskBackend):
    """Runs Django's tasks on a Tasker service, each @task as a task type that is named by its module path.

    OPTIONS: URL and TOKEN of the service (default TASKER_URL and TASKER_TOKEN); ENQUEUE_ON_COMMIT: submit when the
    transaction that is open commits, and never if it rolls back (default false); RETRY: attempts in all (default 1) and
    TIMEOUT: seconds of an attempt (default the service's), of tasks without their own; MODULES: modules with tasks
    besides `tasks` of each installed app.
    """

    task_class = TaskerTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    @property
    def client(self) -> Tasker:
        """The client of the service, which all threads of the process share."""
        return client_of(self.options.get("URL"), self.options.get("TOKEN"))

    def validate_task(self, task: framework.Task) -> None:
        """Raise InvalidTask for what the service cannot run: as Django does, and for the name of a queue."""
        super().validate_task(task)
        if not re.fullmatch(queue_name_pattern, task.queue_name):
            raise framework.InvalidTask(
                f"Queue '{task.queue_name}': expected letters, digits, '_', '.' and '-', at most 100."
            )

    def enqueue(self, task: framework.Task, args: Any, kwargs: Any) -> framework.TaskResult:
        """Submit a task; it is stored when this returns, or once the transaction commits (ENQUEUE_ON_COMMIT).

        Raises InvalidTask (the service does not know the task), TypeError (arguments that do not fit the function, or
        that JSON cannot hold; ValueError for NaN), InvalidRequest (arguments that do not fit the annotations), and
        ClientError. On commit, TypeError and ValueError are raised at once, the others when the transaction commits.
        """
        self.validate_task(task)
        result = self._make_result(task, args, kwargs)
        submission = to_submission(task, result.args, result.kwargs) | self._options(task).as_json()
        if self.options.get("ENQUEUE_ON_COMMIT"):
            _check_json(submission)
            transaction.on_commit(lambda: self._submit(result, submission))
        else:
            self._submit(result, submission)
        return result

    def get_result(self, result_id: str) -> framework.TaskResult:
        """Return the result as it is now. Raises TaskResultDoesNotExist, and ClientError."""
        try:
            found = self.client.get(result_id, attempts=True)
        except NotFound:
            raise framework.TaskResultDoesNotExist(result_id) from None
        return read_result(found, self.alias)

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """Yield what is wrong with the settings of this backend."""
        where = f"TASKS[{self.alias!r}]"
        if not self.options.get("URL") and not os.environ.get("TASKER_URL"):
            hint = "Set it, or the environment variable TASKER_URL, for example to http://127.0.0.1:5000"
            yield checks.Error(f"{where} has no URL in its OPTIONS", hint=hint, id="tasker.E001")
        else:
            try:
                client_of(self.options.get("URL"), self.options.get("TOKEN"))
            except ValueError as error:
                yield checks.Error(f"{where}: {error}", id="tasker.E002")
        for name in sorted(set(self.options) - set(OPTIONS)):
            yield checks.Warning(
                f"{where}: OPTIONS has no {name!r}", hint=f"One of {', '.join(OPTIONS)}", id="tasker.W003"
            )

    def _make_result(self, task: framework.Task, args: Any, kwargs: Any) -> framework.TaskResult:
        return framework.TaskResult(
            task=task,
            id=str(uuid4()),
            status=framework.TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )

    def _options(self, task: framework.Task) -> SubmitOptions:
        run_at: datetime | None = task.run_after
        if run_at is not None and timezone.is_naive(run_at):
            run_at = timezone.make_aware(run_at)
        return SubmitOptions(
            queue=task.queue_name,
            priority=task.priority,
            run_at=run_at,
            retry=getattr(task, "retry", None) or self.options.get("RETRY"),
            timeout=getattr(task, "timeout", None) or self.options.get("TIMEOUT"),
        )

    def _submit(self, result: framework.TaskResult, submission: Mapping[str, Any]) -> None:
        """Submit the task of a result under the result's id, and note in the result when it was."""
        try:
            task = self.client.put(result.id, submission)
        except InvalidRequest as error:
            if any(fault.pointer == "/type" for fault in error.faults):
                raise framework.InvalidTask(f"The service does not know {result.task.module_path}: {error}") from error
            raise
        object.__setattr__(result, "enqueued_at", in_project_time(task.created_at or timezone.now()))
        framework.task_enqueued.send(type(self), task_result=result)


def _check_json(submission: Mapping[str, Any]) -> None:
    """Raise ValueError for what JSON cannot hold."""
    try:
        encode_strict(submission)
    except NotJson as error:
        raise ValueError(f"the task is not submitted, for {place_of_fault(submission)}: {error}") from None
