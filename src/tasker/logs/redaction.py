"""What the code of tasks must not show: taken out of the log, and of what it prints in the service's process.

Users' functions that run in this process do so in other threads than the main one, where the service is. Which task a
line is from cannot always be told (a thread that a function has started, say), so each is searched for what any of the
attempts under way must not show.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TextIO, cast

Redact = Callable[[str], str]

_active: dict[object, Redact] = {}


def begin_redaction(attempt: object, redact: Redact) -> None:
    """Have `redact` see to all that is said outside of the main thread until `end_redaction(attempt)`."""
    _active[attempt] = redact


def end_redaction(attempt: object) -> None:
    """Idempotent."""
    _active.pop(attempt, None)


def redacted(text: str) -> str:
    """Return the text as it may be shown."""
    if _active and threading.get_ident() != threading.main_thread().ident:
        for redact in tuple(_active.values()):
            text = redact(text)
    return text


def redact_prints() -> None:
    """Have what is printed outside of the main thread redacted from now on."""
    sys.stdout = sys.__stdout__ = cast(Any, RedactingStream(sys.stdout))  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = cast(Any, RedactingStream(sys.stderr))  # type: ignore[misc]


class RedactingStream:
    """Stands in for sys.stdout or sys.stderr of the service."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redacted(text))
        if "\n" in text:  # the stream of a service is no terminal as a rule, and would hold back what a task prints
            self._stream.flush()
        return len(text)

    def writelines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
