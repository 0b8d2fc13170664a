"""An attempt as Django sees it: its context, its signals, its result."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from traceback import format_exception
from types import TracebackType
from typing import Any, Self

import msgspec
from django.utils import timezone

from tasker import Context, SyncContext
from tasker.contrib.django import framework
from tasker.contrib.django.backend import TaskerBackend
from tasker.contrib.django.definitions import TaskContext
from tasker.contrib.django.results import in_project_time
from tasker.errors import Retry, Snooze
from tasker.validation.encoding import as_json


class DjangoAttempt:
    """One attempt of a task of Django, while it is entered: sends task_started and task_finished.

    args, kwargs: those of the function, its context among them if it takes one.
    """

    def __init__(
        self, definition: framework.Task, context: Context | SyncContext, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        now = in_project_time(timezone.now())
        self._result = framework.TaskResult(
            task=definition,
            id=str(context.task_id),
            status=framework.TaskResultStatus.RUNNING,
            enqueued_at=None,  # refresh() reads it
            started_at=now,
            finished_at=None,
            last_attempted_at=now,
            args=msgspec.to_builtins(args, enc_hook=as_json),
            kwargs=msgspec.to_builtins(kwargs, enc_hook=as_json),
            backend=definition.backend,
            errors=[],
            worker_ids=[f"{socket.gethostname()}:{os.getpid()}"] * context.attempt,
        )
        self.kwargs = kwargs
        self.args = list(args)
        if definition.takes_context:
            self.args.insert(0, TaskContext(task_result=self._result, tasker=context))

    def normalize(self, value: Any) -> Any:
        """Return what the function returned as JSON has it. Raises TypeError, ValueError."""
        self._set(_return_value=framework.normalize_json(value))
        return self._result._return_value

    def __enter__(self) -> Self:
        framework.task_started.send(TaskerBackend, task_result=self._result)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send task_finished, unless the attempt ends for now only: it is to be tried again, waits or is cancelled."""
        if error is None:
            self._set(status=framework.TaskResultStatus.SUCCESSFUL)
        elif isinstance(error, Exception | SystemExit) and not isinstance(error, Retry | Snooze):
            path = f"{type(error).__module__}.{type(error).__qualname__}"
            text = "".join(format_exception(error))
            self._result.errors.append(framework.TaskError(exception_class_path=path, traceback=text))
            self._set(status=framework.TaskResultStatus.FAILED)
        else:
            return
        self._set(finished_at=in_project_time(timezone.now()))
        framework.task_finished.send(TaskerBackend, task_result=self._result)

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self._result, name, value)
