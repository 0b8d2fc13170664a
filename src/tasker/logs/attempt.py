"""The attempt that code runs for: its log lines name it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple
from uuid import UUID

from structlog.typing import EventDict, WrappedLogger


class LoggedAttempt(NamedTuple):
    """What log lines say of an attempt. Not its claim: contexts may outlive it, and a claim has params and secrets.

    printed: called with the stream, `stdout` or `stderr`, and the text that its code prints.
    """

    task_id: UUID
    attempt: int
    type: str
    printed: Callable[[str, str], None] | None = None


ATTEMPT: ContextVar[LoggedAttempt] = ContextVar("tasker_logged_attempt")
"""Set in the context of each attempt on a loop; its tasks, callbacks and to_thread() calls inherit it.

One variable for all: to bind each value with `structlog.contextvars` costs several times as much.
"""


def add_attempt(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add task_id, attempt and type of the attempt to an event; the event's own values win."""
    one = ATTEMPT.get(None)
    if one is None:
        return event
    return {"task_id": str(one.task_id), "attempt": one.attempt, "type": one.type, **event}
