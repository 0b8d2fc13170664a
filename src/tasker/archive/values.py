"""Check the values of an archive's tasks and records.

Each function raises ValueError with the place and what was expected there. optional: null is allowed too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from tasker.clock import EPOCH, check_storable
from tasker.errors import Invalid, Malformed
from tasker.model import group_name_pattern, queue_name_pattern, type_name_pattern
from tasker.validation.encoding import NotJson, settle
from tasker.validation.faults import refusal_fault
from tasker.validation.jsontext import read_json

T = TypeVar("T", bound=msgspec.Struct)

MOST = 2_000_000_000
"""The largest count that is accepted for a 32-bit column: below its limit, so that the count can still grow."""
MAX_INT = 2**63 - 1
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""Stored as the time of a task that waits for others, and as the expiry of what is kept for ever."""
MAX_NAME = 100
_TYPE = re.compile(type_name_pattern)
_GROUP = re.compile(group_name_pattern)
_QUEUE = re.compile(queue_name_pattern)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def expected(where: str, what: str, got: Any) -> ValueError:
    """Return the error for a value that was not expected."""
    return ValueError(f"{where}: expected {what}, got {shown(got)}")


def shown(value: Any) -> str:
    """Return the beginning of a value, for messages."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 128 else "a huge integer"
    return text if len(text) <= 80 else f"{text[:77]}..."


def one_of(where: str, value: str | None, known: Sequence[str]) -> None:
    if value not in known:
        raise expected(where, f"one of {', '.join(known)}", value)


def whole(where: str, value: int | None, least: int, most: int, *, optional: bool = False) -> None:
    _within(where, value, least, most, optional, "a whole number from {:,} to {:,}")


def number(where: str, value: float | None, least: float, most: float, *, optional: bool = False) -> None:
    _within(where, value, least, most, optional, "a number from {:g} to {:g}")


def length(where: str, value: timedelta | None, least: timedelta, most: timedelta, *, optional: bool = False) -> None:
    _within(where, value, least, most, optional, "a duration from {} to {}")


def _within(where: str, value: Any, least: Any, most: Any, optional: bool, what: str) -> None:
    if value is None and optional:
        return
    if value is None or not least <= value <= most:  # which is true of NaN
        raise expected(where, what.format(least, most), value)


def text(where: str, value: str | None, most: int, *, least: int = 1, optional: bool = False) -> None:
    """Check a text: anything without NUL, which PostgreSQL cannot store."""
    if value is None and optional:
        return
    if value is None or not least <= len(value) <= most or "\0" in value:
        raise expected(where, f"a text of {least} to {most:,} characters, none of them NUL", value)


def name(where: str, value: str | None, *, most: int = MAX_NAME, empty: bool = False, optional: bool = False) -> None:
    """Check a name in one line: of an owner, a key, a worker."""
    if (value is None and optional) or (value == "" and empty):
        return
    if not value or len(value) > most or _CONTROL.search(value):
        raise expected(where, f"a name of 1 to {most} characters without control characters", value)


def type_name(where: str, value: str | None, *, optional: bool = False) -> None:
    _matches(where, value, _TYPE, optional, "the name of a task type")


def queue_name(where: str, value: str | None, *, optional: bool = False) -> None:
    _matches(where, value, _QUEUE, optional, "the name of a queue")


def group_name(where: str, value: str | None, *, optional: bool = False) -> None:
    _matches(where, value, _GROUP, optional, "the name of a group")


def _matches(where: str, value: str | None, pattern: re.Pattern[str], optional: bool, what: str) -> None:
    if value is None and optional:
        return
    if value is None or not pattern.fullmatch(value):
        raise expected(where, f"{what} ({pattern.pattern})", value)


def moment(where: str, value: datetime | None, latest: datetime, *, never: bool = False) -> None:
    """Check a time from 1970 to `latest`; never: NEVER is allowed too."""
    if value is None or (never and value == NEVER):
        return
    check_storable(value)
    if not EPOCH <= value <= latest:
        raise expected(where, f"a time from 1970 to {latest:%Y}", value.isoformat())


def strict_json(where: str, given: str, kinds: tuple[type, ...], most: int | None = None) -> None:
    """Check JSON text as that of a request."""
    if most is not None and len(given.encode()) > most:
        raise expected(where, f"at most {most:,} bytes of JSON", given)
    try:
        value = read_json(given.encode())
    except (Malformed, Invalid, RecursionError) as error:
        raise ValueError(f"{where}: expected JSON: {error}") from None
    _of_kind(where, value, kinds)


def written_json(where: str, given: str, kinds: tuple[type, ...] = ()) -> None:
    """Check JSON text as that of a task's function: it may be deeper than a request's."""
    try:
        data = given.encode()
        _of_kind(where, msgspec.json.decode(data), kinds)
        settle(data)
    except (NotJson, msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{where}: expected JSON: {error}") from None


def _of_kind(where: str, value: Any, kinds: tuple[type, ...]) -> None:
    if kinds and type(value) not in kinds:
        names = " or ".join("an object" if kind is dict else "an array" for kind in kinds)
        raise expected(where, names, value)


def decoded(where: str, given: str | bytes, decode: Callable[[str | bytes], T]) -> T:
    """Decode the JSON text of a struct; refuse fields that the struct does not have."""
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
    """Refuse a field of a JSON object, at any depth, that the struct decoded from it does not have."""
    _know(where, msgspec.json.decode(given), msgspec.json.decode(msgspec.json.encode(value)))


def _know(where: str, given: Any, known: Any) -> None:
    if isinstance(given, dict) and isinstance(known, Mapping):
        for key, value in given.items():
            if key not in known:
                if value is None:  # null fields are left out of a struct's text
                    continue
                raise ValueError(f"{where}: unknown field {shown(key)}: upgrade, then import")
            _know(f"{where}/{key}", value, known[key])
    elif isinstance(given, list) and isinstance(known, Sequence):
        for place, (one, other) in enumerate(zip(given, known, strict=False)):
            _know(f"{where}/{place}", one, other)
