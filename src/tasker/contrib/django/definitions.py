"""What a task is in Django, with the options that Tasker adds; and how its arguments travel."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tasker import Context, SyncContext
from tasker.contrib.django import framework

POSITIONAL = "django_positional"
"""The member of a task's metadata that says how many of its named params were given by position."""
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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


def is_packed(parameters: Sequence[inspect.Parameter]) -> bool:
    """Tell whether the arguments travel as two params, `args` and `kwargs`, rather than each by its name.

    They do for functions that take any (`*args`, `**kwargs`), and for those with a default that JSON cannot hold.
    """
    return any(parameter.kind in _VARIADIC or not _is_json(parameter.default) for parameter in parameters)


def _is_json(default: Any) -> bool:
    try:
        msgspec.to_builtins(default if default is not inspect.Parameter.empty else None)
    except (TypeError, ValueError):
        return False
    return True


def to_params(task: framework.Task, args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, dict[str, int]]:
    """Return the params of a submission for the arguments of a task, and its metadata.

    Raises TypeError for arguments that do not fit the function.
    """
    parameters = parameters_of(task)
    if is_packed(parameters):
        return {name: value for name, value in (("args", args), ("kwargs", kwargs)) if value}, {}
    bound = inspect.Signature(parameters).bind(*args, **kwargs).arguments
    if not args or not kwargs:
        return kwargs or args, {}
    return bound, {POSITIONAL: len(args)}


def to_arguments(task: framework.Task, params: Any, metadata: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that `to_params` made the params of; params of other clients count as keywords."""
    if isinstance(params, list):
        return params, {}
    parameters = parameters_of(task)
    if is_packed(parameters):
        return list(params.get("args", ())), dict(params.get("kwargs", {}))
    count = metadata.get(POSITIONAL, 0)
    names = [parameter.name for parameter in parameters[:count]]
    return [params[name] for name in names], {name: value for name, value in params.items() if name not in names}
