"""What a running function may say about its attempt, and learn: the public `Context`.

A function gets one by annotating a parameter with it. Where the words go is the Reporter's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Literal, Protocol, get_args
from uuid import UUID

import msgspec

from tasker.model import Progress

LogLevel = Literal["debug", "info", "warning", "error", "critical"]
_LEVELS = frozenset(get_args(LogLevel))
MAX_MESSAGE = 8 * 1024
"""Characters of a message that are kept."""
MAX_FIELDS = 16 * 1024
"""Bytes that the fields of one log line, or one report of usage, may take as JSON."""
_EXACT = 2**53


class Reporter(Protocol):
    """Takes what an attempt says. Its methods return at once and never raise."""

    def progress(self, progress: Progress) -> None:
        """Take the newest progress; it replaces the one before."""

    def output(self, chunk: str) -> None:
        """Take a further piece of the text that the attempt produces."""

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Take a line for the task's log."""

    def usage(self, usage: Mapping[str, Any]) -> None:
        """Take what the attempt used up; merged into the task's usage, newer values win."""


class Context:
    """The attempt that is running: its identity, its way to say how it goes, and whether it should stop.

    Safe to use from any thread of the function; once the attempt has ended, what it says is dropped.
    """

    __slots__ = ("_is_cancelled", "_reporter", "attempt", "task_id")

    def __init__(self, task_id: UUID, attempt: int, reporter: Reporter, is_cancelled: Callable[[], bool]) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self._reporter = reporter
        self._is_cancelled = is_cancelled

    @property
    def cancelled(self) -> bool:
        """True once a client has asked to cancel the task: return or raise soon, or be killed after the grace."""
        return self._is_cancelled()

    def progress(
        self,
        fraction: float | None = None,
        *,
        current: float | None = None,
        total: float | None = None,
        message: str | None = None,
    ) -> None:
        """Say how far the attempt is: a fraction of 1, or `current` of `total`, and a message.

        A fraction outside 0..1 is moved to the nearer end; without one it is current / total. Raises ValueError for
        numbers that are not finite.
        """
        fraction, current, total = _finite(fraction), _finite(current), _finite(total)
        if fraction is None and current is not None and total is not None and total > 0:
            fraction = current / total
        if fraction is not None:
            fraction = min(1.0, max(0.0, float(fraction)))
        text = None if message is None else _text(message)
        self._reporter.progress(Progress(fraction=fraction, current=current, total=total, message=text))

    def log(self, message: str, /, *, level: LogLevel = "info", **fields: Any) -> None:
        """Add a line to the task's log, with fields of JSON values (others are kept as text).

        Raises ValueError for an unknown level.
        """
        if level not in _LEVELS:
            raise ValueError(f"level must be one of {', '.join(get_args(LogLevel))}, got {level!r}")
        self._reporter.log(level, _text(message), _json_object(fields))

    def output(self, chunk: str) -> None:
        """Add a piece to the text that the task streams while it runs; it is not its result."""
        if chunk:
            self._reporter.output(_as_unicode(chunk))

    def usage(self, **values: Any) -> None:
        """Say what was used up (JSON values: tokens, a model's name...); shown as the task's `usage`."""
        self._reporter.usage(_json_object(values))


def _finite(number: float | None) -> float | None:
    """Return the number as one that JSON and every reader of it can hold."""
    if number is None:
        return None
    try:
        as_float = float(number)
    except OverflowError:
        raise ValueError("progress must be a number that a float can hold") from None
    if not isfinite(as_float):
        raise ValueError(f"progress must be a finite number, got {number}")
    return number if isinstance(number, int) and abs(number) < _EXACT else as_float


def _text(message: object) -> str:
    text = str(message)
    return _as_unicode(text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "...")


def _as_unicode(text: str) -> str:
    """Escape lone surrogates, which no UTF-8 can hold."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _json_object(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON holds them; what is no JSON becomes text, and too much of it a note that says so."""
    if not values:
        return {}
    try:
        encoded = msgspec.json.encode(values, enc_hook=str)
    except (TypeError, ValueError, RecursionError):  # odd keys, lone surrogates, a value that contains itself
        encoded = msgspec.json.encode({_text(key): _text(value) for key, value in values.items()})
    if len(encoded) > MAX_FIELDS:
        return {"dropped": f"{len(encoded):,} bytes of fields, more than {MAX_FIELDS:,}"}
    decoded: dict[str, Any] = msgspec.json.decode(encoded)
    return decoded
