"""Tasker: a durable task runner behind a REST API. These are the names for those who write tasks or call them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasker.client import AsyncTasker, Tasker
    from tasker.errors import ChildFailed, Fail, InputTimeout, Retry, Snooze, StepChanged
    from tasker.rules.secrets import secret
    from tasker.tasktypes.context import Context
    from tasker.tasktypes.registry import task
    from tasker.tasktypes.steps import ChildOptions
    from tasker.tasktypes.sync_context import SyncContext

__all__ = [
    "AsyncTasker",
    "ChildFailed",
    "ChildOptions",
    "Context",
    "Fail",
    "InputTimeout",
    "Retry",
    "Snooze",
    "StepChanged",
    "SyncContext",
    "Tasker",
    "secret",
    "task",
]

_HOMES = {
    "AsyncTasker": "tasker.client",
    "ChildFailed": "tasker.errors",
    "ChildOptions": "tasker.tasktypes.steps",
    "Context": "tasker.tasktypes.context",
    "Fail": "tasker.errors",
    "InputTimeout": "tasker.errors",
    "Retry": "tasker.errors",
    "Snooze": "tasker.errors",
    "StepChanged": "tasker.errors",
    "SyncContext": "tasker.tasktypes.sync_context",
    "Tasker": "tasker.client",
    "secret": "tasker.rules.secrets",
    "task": "tasker.tasktypes.registry",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: a command needs no task types, and a child process no HTTP."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tasker' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
