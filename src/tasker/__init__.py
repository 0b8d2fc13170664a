"""Tasker: a durable task runner behind a REST API. These are the names for those who write tasks or call them."""

from __future__ import annotations

from typing import Any

from tasker.errors import ChildFailed, Fail, InputTimeout, Retry, Snooze, StepChanged
from tasker.rules.secrets import secret
from tasker.tasktypes.context import Context
from tasker.tasktypes.registry import task
from tasker.tasktypes.steps import ChildOptions
from tasker.tasktypes.sync_context import SyncContext

__all__ = [
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


def __getattr__(name: str) -> Any:
    """Import the client when it is first asked for: a child process that runs a task needs no HTTP."""
    if name == "Tasker":
        from tasker.client import Tasker

        return Tasker
    raise AttributeError(f"module 'tasker' has no attribute {name!r}")
