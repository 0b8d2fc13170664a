"""Removes the secrets of tasks from the log, and from what their code prints in the service's process.

Users' functions run in other threads than the main one, where the service runs. It is not always known which task a
line comes from (a function may start threads), so each line is searched for the secrets of all running attempts.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TextIO, cast

from tasker.logs.attempt import ATTEMPT

Redact = Callable[[str], str]

_active: dict[object, Redact] = {}


def begin_redaction(attempt: object, redact: Redact) -> None:
    """Apply `redact` to all text from outside the main thread until `end_redaction(attempt)`."""
    _active[attempt] = redact


def end_redaction(attempt: object) -> None:
    """End what `begin_redaction` began. Idempotent."""
    _active.pop(attempt, None)


def redacted(text: str) -> str:
    """Return the text without the secrets of running attempts."""
    if _active and threading.get_ident() != threading.main_thread().ident:
        for redact in tuple(_active.values()):
            text = redact(text)
    return text


def redact_prints() -> None:
    """Redact what is printed outside the main thread from now on, and pass what attempts print to their logs."""
    sys.stdout = sys.__stdout__ = cast(Any, RedactingStream(sys.stdout, "stdout"))  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = cast(Any, RedactingStream(sys.stderr, "stderr"))  # type: ignore[misc]


class RedactingStream:
    """Replaces sys.stdout or sys.stderr of the service."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        shown = redacted(text)
        self._stream.write(shown)
        if "\n" in text:  # usually not a terminal: the stream would buffer what a task prints
            self._stream.flush()
        attempt = ATTEMPT.get(None)
        if attempt is not None and attempt.printed is not None:
            attempt.printed(self._name, shown)
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
