"""What a running function may say about its attempt, and learn: the public `Context`.

A function gets one by annotating a parameter with it. Where the words go is the Reporter's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from math import isfinite, nan
from numbers import Integral, Real
from typing import Any, Literal, Protocol, get_args
from uuid import UUID

import msgspec

from tasker.model import Progress
from tasker.model.usage import SUMMED
from tasker.validation.encoding import NotJson, as_json, encode_strict

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
        if not isinstance(level, str) or level not in _LEVELS:
            raise ValueError(f"level must be one of {', '.join(get_args(LogLevel))}, got {level!r}")
        self._reporter.log(str.__str__(level), _text(message), _json_object(fields))

    def output(self, chunk: str) -> None:
        """Add a piece to the text that the task streams while it runs; it is not its result.

        Raises TypeError for what is no text.
        """
        if not isinstance(chunk, str):
            raise TypeError(f"output takes text (str), got {type(chunk).__name__}")
        text = _as_unicode(str.__str__(chunk))
        if text:
            self._reporter.output(text)

    def usage(self, **values: Any) -> None:
        """Say what was used up (JSON values: tokens, a model's name...); shown as the task's `usage`.

        `input_tokens`, `output_tokens`, `cached_tokens` and `cost` (dollars) add up, and the cost counts towards
        budgets: numbers from 0 on, Decimals too, or None where it is not known. Raises TypeError and ValueError for
        others.
        """
        counted = {name: _amount(name, values[name]) for name in SUMMED if name in values}
        others = {name: value for name, value in values.items() if name not in counted}
        self._reporter.usage(_json_object(others) | counted)  # what counts is never dropped


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
    return int(number) if isinstance(number, int) and abs(number) < _EXACT else as_float


def _amount(name: str, value: Any) -> float | None:
    """Return what is said to be used up of what adds up. Raises TypeError, ValueError."""
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
        text = str.__str__(
            message if isinstance(message, str) else str(message)
        )  # of a subclass of str, the text alone
    except Exception:  # whatever the __str__ of a user's class does
        return f"({type(message).__name__} that cannot be shown)"
    return _as_unicode(text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "...")


def _as_unicode(text: str) -> str:
    """Escape lone surrogates, which no UTF-8 can hold."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _json_object(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON holds them; what is no JSON becomes text, and too much of it a note that says so."""
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
