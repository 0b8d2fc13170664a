"""The attempt that code runs for: its log lines name it."""

from __future__ import annotations

from contextvars import ContextVar

from structlog.typing import EventDict, WrappedLogger

from tasker.model import Claim

ATTEMPT: ContextVar[Claim] = ContextVar("tasker_logged_attempt")
"""Set in the context of each attempt on a loop; its tasks, callbacks and to_thread() calls inherit it.

One variable for all: to bind each value with `structlog.contextvars` costs several times as much.
"""


def add_attempt(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add task_id, attempt and type of the attempt to an event; the event's own values win."""
    claim = ATTEMPT.get(None)
    if claim is None:
        return event
    return {"task_id": str(claim.task_id), "attempt": claim.attempt, "type": claim.type, **event}
