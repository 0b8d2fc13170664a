"""What a task is in Django, with the options that Tasker adds; and how its arguments travel."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasker import Context, SyncContext
from tasker.contrib import arguments
from tasker.contrib.django import framework

_POSITIONAL = "django_positional"
"""The member of a task's metadata that says how many of its named params were given by position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskerTask(framework.Task):
    """A task of Django with two more options: `@task(retry=5, timeout=60)`; None stands for the backend's.

    retry: attempts in all. timeout: seconds of an attempt.
    """

    retry: int | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext(framework.TaskContext):
    """The context of Django, with that of Tasker, for progress, output, log and steps."""

    tasker: Context | SyncContext


def parameters_of(task: framework.Task) -> list[inspect.Parameter]:
    """Return the parameters of the task's function without its context."""
    parameters = list(inspect.signature(task.func).parameters.values())
    return parameters[1:] if task.takes_context else parameters


def to_submission(task: framework.Task, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the type, the params and the metadata of a submission with these arguments.

    Raises TypeError for arguments that do not fit the function.
    """
    parameters = parameters_of(task)
    submission = {"type": task.module_path, "params": arguments.to_params(parameters, args, kwargs)}
    if args and kwargs and not arguments.is_packed(parameters):
        submission["metadata"] = {_POSITIONAL: len(args)}
    return submission


def to_arguments(task: framework.Task, params: Any, metadata: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that a task was enqueued with; the params of other clients count as keywords."""
    return arguments.to_arguments(parameters_of(task), params, metadata.get(_POSITIONAL, 0))
