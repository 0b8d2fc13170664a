"""Runs one attempt of a task and returns its Outcome: `async def` on the event loop, `def` in a child process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasker.executor.stop import Stop

if TYPE_CHECKING:
    from tasker.executor.executor import Executor

__all__ = ["Executor", "Stop"]


def __getattr__(name: str) -> Any:
    """Import the service's side when it is asked for: a child process starts through this module and needs it not."""
    if name == "Executor":
        from tasker.executor.executor import Executor

        return Executor
    raise AttributeError(f"module 'tasker.executor' has no attribute {name!r}")
