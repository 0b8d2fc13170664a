"""Tests of tasks, and of Tasker itself. No test framework is needed, and nothing here sleeps.

`run` gives a test a service with a clock moved by hand; `docs/testing.md` shows how.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasker.testing.clients import client
    from tasker.testing.clock import START, ManualClock
    from tasker.testing.contexts import RecordingContext, RecordingSyncContext, make_context
    from tasker.testing.drafts import make_draft, make_key
    from tasker.testing.driver import Driver
    from tasker.testing.kit import AsyncKit, Kit, arun, run
    from tasker.testing.patience import StillOpen
    from tasker.testing.stage import Ran, TooManyRuns

__all__ = [
    "START",
    "AsyncKit",
    "Driver",
    "Kit",
    "ManualClock",
    "Ran",
    "RecordingContext",
    "RecordingSyncContext",
    "StillOpen",
    "TooManyRuns",
    "arun",
    "client",
    "make_context",
    "make_draft",
    "make_key",
    "run",
]

_HOMES = {
    "START": "clock",
    "AsyncKit": "kit",
    "Driver": "driver",
    "Kit": "kit",
    "ManualClock": "clock",
    "Ran": "stage",
    "RecordingContext": "contexts",
    "RecordingSyncContext": "contexts",
    "StillOpen": "patience",
    "TooManyRuns": "stage",
    "arun": "kit",
    "client": "clients",
    "make_context": "contexts",
    "make_draft": "drafts",
    "make_key": "drafts",
    "run": "kit",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: pytest loads the plugin in every run of everybody."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tasker.testing' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"tasker.testing.{_HOMES[name]}"), name)
    return value
