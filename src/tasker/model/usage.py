"""Usage: the fields of a task's `usage` that add up, and their sums by day, owner and type.

Money is counted in whole nano-dollars, so that sums are exact; a `cost` in JSON is in dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, NamedTuple, TypeGuard

import msgspec
from msgspec import Meta, Struct, structs

NANOS = 1_000_000_000
"""Nano-dollars in a dollar."""
MAX_TOKENS = 10**9
"""Limit of the tokens that are counted for one task, as a function may report any number."""
MAX_COST = 10_000 * NANOS
"""The same for its cost."""

Group = Literal["day", "owner", "type"]
GROUPS: tuple[Group, ...] = ("day", "owner", "type")
SUMMED = ("input_tokens", "output_tokens", "cached_tokens", "cost")
"""Fields of a task's usage that add up over its attempts."""
_LASTING = "estimated"
"""The field that stays true once an attempt has set it."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


Count = Annotated[int, Meta(ge=-(2**53), le=2**53)]


class Spent(NamedTuple):
    """The counted fields of a `usage`; `cost` in nano-dollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: int = 0


class UsageRow(Struct, frozen=True, kw_only=True):
    """What attempts used up. `day` (UTC), `owner` and `type` are None if the row sums over them.

    attempts: those that have ended. completed, failed, cancelled: those that ended their task so. run_time: in
    microseconds. cost: in nano-dollars.
    """

    day: date | None
    owner: str | None
    type: str | None
    attempts: Count = 0
    completed: Count = 0
    failed: Count = 0
    cancelled: Count = 0
    run_time: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    cached_tokens: Count = 0
    cost: Count = 0


COUNTED = tuple(field.name for field in structs.fields(UsageRow) if field.name not in GROUPS)
"""The fields of a row that add up."""


class DayUsage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record of an archive: one day's usage of one type by one owner, under the name `day type owner`."""

    name: str
    row: UsageRow

    def __post_init__(self) -> None:
        if self.name != name_of(self.row):
            raise ValueError(f"expected the name {name_of(self.row)!r}, got {self.name!r}")


def name_of(row: UsageRow) -> str:
    """Return the name of a row: day, type, owner. It is unique, as no type contains a blank."""
    return f"{row.day} {row.type} {row.owner}"


class UsageFilter(Struct, frozen=True, kw_only=True):
    """Selects usage of the days from `first` to `last`, both included; every given field must match."""

    first: date
    last: date
    owner: str | None = None
    type: str | None = None


_NOTHING = Spent()


def read_usage(usage: bytes) -> dict[str, Any]:
    """Return a task's `usage`; {} if it is not a JSON object, as an archive may contain anything."""
    if usage == b"{}":
        return {}
    try:
        return _decode(usage)
    except msgspec.DecodeError:
        return {}


EVER = UsageFilter(first=date.min, last=date.max)
"""Selects all usage."""


def spent_of(usage: bytes) -> Spent:
    """Return the counted fields of a task's `usage` (JSON text); what is not a number counts as 0."""
    if usage == b"{}":
        return _NOTHING
    said = read_usage(usage)
    read, written, cached = (_whole(said.get(name), MAX_TOKENS) for name in SUMMED[:3])
    cost = said.get("cost")
    return Spent(read, written, cached, _whole(min(cost, MAX_COST) * NANOS, MAX_COST) if _is_number(cost) else 0)


def _whole(number: Any, most: int) -> int:
    return round(min(max(number, 0), most)) if _is_number(number) else 0


def added(before: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the usage of a task whose earlier attempts used `before` and whose latest attempt reports `said`.

    Tokens and cost add up (an unknown cost adds nothing), `estimated` stays true; of other fields the newer value wins.
    """
    usage = {**before, **said}
    for name in SUMMED:
        if _is_number(before.get(name)):
            more = said.get(name)
            usage[name] = _sum(before[name], more) if _is_number(more) else before[name]
    if before.get(_LASTING) is True:
        usage[_LASTING] = True
    return usage


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sum(one: float, other: float) -> float:
    try:
        total = one + other
    except OverflowError:  # an archive may bring an integer that no float holds
        return max(one, other)
    return total if isinstance(total, int) else round(total, 9)


def dollars(nanos: int) -> float:
    """Return nano-dollars as dollars."""
    return nanos / NANOS
