"""The values that tasks and records of an archive are made of.

Each function raises ValueError, with the place and what was expected there; `optional`: null will do too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, TypeVar

import msgspec

from tasker.clock import EPOCH, check_storable
from tasker.errors import Invalid, Malformed
from tasker.model import queue_name_pattern, type_name_pattern
from tasker.validation.encoding import NotJson, settle
from tasker.validation.faults import refusal_fault
from tasker.validation.jsontext import read_json

T = TypeVar("T", bound=msgspec.Struct)

MOST = 2_000_000_000
"""Of what a column of 32 bits counts: it can still grow."""
MAX_INT = 2**63 - 1
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""The time of what waits for something else, and of what is kept for ever."""
MAX_NAME = 100
_TYPE = re.compile(type_name_pattern)
_QUEUE = re.compile(queue_name_pattern)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def expected(where: str, what: str, got: Any) -> ValueError:
    """Return what to say of a value that is another one than expected."""
    return ValueError(f"{where}: expected {what}, got {shown(got)}")


def shown(value: Any) -> str:
    """Return a value as messages show it: its beginning."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 128 else "a huge integer"
    return text if len(text) <= 80 else f"{text[:77]}..."


def one_of(where: str, value: str | None, known: Sequence[str]) -> None:
    if value not in known:
        raise expected(where, f"one of {', '.join(known)}", value)


def whole(where: str, value: int | None, least: int, most: int, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if value is None or not least <= value <= most:
        raise expected(where, f"a whole number from {least:,} to {most:,}", value)


def number(where: str, value: float | None, least: float, most: float, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if value is None or not isfinite(value) or not least <= value <= most:
        raise expected(where, f"a number from {least:g} to {most:g}", value)


def length(where: str, value: timedelta | None, least: timedelta, most: timedelta, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if value is None or not least <= value <= most:
        raise expected(where, f"a duration from {least} to {most}", value)


def text(where: str, value: str | None, most: int, *, least: int = 1, optional: bool = False) -> None:
    """Any text without NUL, which PostgreSQL does not store."""
    if value is None and optional:
        return
    if value is None or not least <= len(value) <= most or "\0" in value:
        raise expected(where, f"a text of {least} to {most:,} characters, none of them NUL", value)


def name(where: str, value: str | None, *, most: int = MAX_NAME, empty: bool = False, optional: bool = False) -> None:
    """A text in one line: of a person, a key, a worker."""
    if (value is None and optional) or (value == "" and empty):
        return
    if not value or len(value) > most or _CONTROL.search(value):
        raise expected(where, f"a name of 1 to {most} characters without control characters", value)


def type_name(where: str, value: str | None, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if value is None or not _TYPE.fullmatch(value):
        raise expected(where, f"the name of a task type ({type_name_pattern})", value)


def queue_name(where: str, value: str | None, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if value is None or not _QUEUE.fullmatch(value):
        raise expected(where, f"the name of a queue ({queue_name_pattern})", value)


def moment(where: str, value: datetime | None, latest: datetime, *, never: bool = False) -> None:
    """A time from 1970 to `latest`; `never`: or NEVER."""
    if value is None or (never and value == NEVER):
        return
    check_storable(value)
    if not EPOCH <= value <= latest:
        raise expected(where, f"a time from 1970 to {latest:%Y}", value.isoformat())


def strict_json(where: str, given: str, kinds: tuple[type, ...], most: int | None = None) -> None:
    """JSON text as a request may bring it."""
    if most is not None and len(given.encode()) > most:
        raise expected(where, f"at most {most:,} bytes of JSON", given)
    try:
        value = read_json(given.encode())
    except (Malformed, Invalid, RecursionError) as error:
        raise ValueError(f"{where}: expected JSON: {error}") from None
    _of_kind(where, value, kinds)


def written_json(where: str, given: str, kinds: tuple[type, ...] = ()) -> None:
    """JSON text as a task's function may bring it: it may be deeper than a request."""
    try:
        data = given.encode()
        _of_kind(where, msgspec.json.decode(data), kinds)
        settle(data)
    except (NotJson, msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{where}: expected JSON: {error}") from None


def _of_kind(where: str, value: Any, kinds: tuple[type, ...]) -> None:
    if kinds and type(value) not in kinds:
        words = " or ".join("an object" if kind is dict else "an array" for kind in kinds)
        raise expected(where, words, value)


def decoded(where: str, given: str | bytes, decode: Callable[[str | bytes], T]) -> T:
    """Return the value of a struct's JSON text, which has no fields beside those of the struct."""
    try:
        value = decode(given)
        know_all(where, given, value)
    except msgspec.ValidationError as error:
        fault = refusal_fault(str(error), where)
        raise ValueError(f"{fault.pointer}: {fault.detail}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{where}: expected JSON: {error}") from None
    return value


def know_all(where: str, given: str | bytes | msgspec.Raw, value: msgspec.Struct) -> None:
    """Find a field of a JSON object, at whatever depth, that the struct that was made of it does not have."""
    _know(where, msgspec.json.decode(given), msgspec.json.decode(msgspec.json.encode(value)))


def _know(where: str, given: Any, known: Any) -> None:
    if isinstance(given, dict) and isinstance(known, Mapping):
        for key, value in given.items():
            if key not in known:
                if value is None:  # left out where nothing was asked for
                    continue
                raise ValueError(f"{where}: unknown field {shown(key)}: upgrade, then import")
            _know(f"{where}/{key}", value, known[key])
    elif isinstance(given, list) and isinstance(known, Sequence):
        for place, (one, other) in enumerate(zip(given, known, strict=False)):
            _know(f"{where}/{place}", one, other)
