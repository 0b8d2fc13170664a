"""What every context of a function has: it reports on the attempt, and tells whether to stop.

A Reporter passes the reports on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from math import isfinite, nan
from numbers import Integral, Real
from typing import Any, Protocol
from uuid import UUID

import msgspec

from tasker.model import LOG_LEVELS, LogLevel, Progress
from tasker.model.usage import SUMMED
from tasker.tasktypes.steps import StepEvent
from tasker.validation.encoding import NotJson, as_json, encode_strict

_LEVELS = frozenset(LOG_LEVELS)
MAX_MESSAGE = 8 * 1024
"""Characters of a message that are kept; the rest is cut off."""
MAX_FIELDS = 16 * 1024
"""Limit of the JSON bytes of one log record's fields or one report of usage."""
_EXACT = 2**53
"""Limit up to which a float, and so any reader of JSON, represents every integer."""


class Reporter(Protocol):
    """Takes the reports of an attempt. Its methods return at once and never raise."""

    def progress(self, progress: Progress) -> None:
        """Take the latest progress; it replaces the one before."""

    def output(self, chunk: str) -> None:
        """Take another piece of the text that the attempt streams."""

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Take a record for the task's log."""

    def usage(self, usage: Mapping[str, Any]) -> None:
        """Take what the attempt used; it is merged into the task's usage, and newer values win."""

    def step(self, event: StepEvent, data: Mapping[str, Any]) -> None:
        """Take an event of a step (JSON values)."""


class Reporting:
    """The running attempt: its identity, its reports, and whether it should stop.

    Safe to use from any thread of the function. Reports are dropped once the attempt has ended.
    """

    __slots__ = ("_is_cancelled", "_reporter", "attempt", "task_id")

    def __init__(self, task_id: UUID, attempt: int, reporter: Reporter, is_cancelled: Callable[[], bool]) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self._reporter = reporter
        self._is_cancelled = is_cancelled

    @property
    def cancelled(self) -> bool:
        """True once a client has asked to cancel the task: return or raise soon, before the grace period ends."""
        return self._is_cancelled()

    def progress(
        self,
        fraction: float | None = None,
        *,
        current: float | None = None,
        total: float | None = None,
        message: str | None = None,
    ) -> None:
        """Report the progress of the attempt: a fraction of 1, or `current` of `total`, and a message.

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
        """Add a record to the task's log, with fields of JSON values (other values are kept as text).

        Raises ValueError for an unknown level.
        """
        if not isinstance(level, str) or level not in _LEVELS:
            raise ValueError(f"level must be one of {', '.join(LOG_LEVELS)}, got {level!r}")
        self._reporter.log(str.__str__(level), _text(message), _json_object(fields))

    def output(self, chunk: str) -> None:
        """Stream a piece of text while the task runs; it is not part of the result.

        Raises TypeError for anything but a str.
        """
        if not isinstance(chunk, str):
            raise TypeError(f"output takes text (str), got {type(chunk).__name__}")
        text = _as_unicode(str.__str__(chunk))
        if text:
            self._reporter.output(text)

    def usage(self, **values: Any) -> None:
        """Report what was used (JSON values: tokens, a model's name...); shown as the task's `usage`.

        `input_tokens`, `output_tokens`, `cached_tokens` and `cost` (US dollars) add up, and the cost counts towards
        budgets. Each is a number from 0 to 2**53 (a Decimal too), or None if it is not known. Raises TypeError for
        other types and ValueError for other numbers.
        """
        counted = {name: _amount(name, values[name]) for name in SUMMED if name in values}
        others = {name: value for name, value in values.items() if name not in counted}
        self._reporter.usage(_json_object(others) | counted)  # never dropped, even if the other fields are too large


def _finite(number: float | None) -> float | None:
    """Return the number in a form that JSON and all its readers can represent."""
    if number is None:
        return None
    try:
        as_float = float(number)
    except OverflowError:
        raise ValueError("progress must be a number that a float can hold") from None
    if not isfinite(as_float):
        raise ValueError(f"progress must be a finite number, got {number}")
    return int(number) if isinstance(number, int) and abs(number) < _EXACT else as_float


def _amount(name: str, value: Any) -> float | None:
    """Return the value of a summed field. Raises TypeError, ValueError."""
    if value is None:  # unknown
        return None
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise TypeError(f"{name} must be a number, got {_text(repr(value))[:100]} ({type(value).__name__})")
    number = int(value) if isinstance(value, Integral) else _as_float(value)
    if not 0 <= number <= _EXACT:  # nor NaN
        raise ValueError(f"{name} must be a number from 0 to {_EXACT:,}, got {_text(repr(value))[:100]}")
    return number


def _as_float(value: Real | Decimal) -> float:
    try:
        return float(value)
    except (OverflowError, ValueError):  # too large a fraction; a signalling NaN
        return nan


def _text(message: object) -> str:
    try:
        # str.__str__, because a subclass of str may override it.
        text = str.__str__(message if isinstance(message, str) else str(message))
    except Exception:  # __str__ of a user's class may raise anything
        return f"({type(message).__name__} that cannot be shown)"
    return _as_unicode(text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "...")


def describe(error: Exception) -> str:
    """Return an exception in one line, with the name of its class."""
    return f"{type(error).__name__}: {_text(error)}".removesuffix(": ")


def _as_unicode(text: str) -> str:
    """Escape lone surrogates, which UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _json_object(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON: others become text, and more than MAX_FIELDS bytes are replaced by a message."""
    if not values:
        return {}
    encoded = _encode(values)
    if len(encoded) > MAX_FIELDS:
        return {"dropped": f"{len(encoded):,} bytes of fields, more than {MAX_FIELDS:,}"}
    decoded: dict[str, Any] = msgspec.json.decode(encoded)
    return decoded


def _encode(values: Mapping[str, Any]) -> bytes:
    try:
        return encode_strict(values, _write)
    except NotJson:  # odd keys, NaN, lone surrogates, a value that contains itself
        return msgspec.json.encode({_text(key): _as_json_or_text(value) for key, value in values.items()})


def _as_json_or_text(value: Any) -> Any:
    try:
        return msgspec.Raw(encode_strict(value, _write))
    except NotJson:
        return _text(value)


def _within_json(value: Any) -> Any:
    try:
        return as_json(value)
    except Exception:  # the value is of a user's class
        return _text(value)


_write = msgspec.json.Encoder(enc_hook=_within_json).encode
