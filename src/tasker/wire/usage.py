"""Usage: what tasks used up."""

from __future__ import annotations

from datetime import date

from msgspec import Struct

from tasker.wire.shapes import Always, Moment, Sometimes


class Figures(Struct, frozen=True, kw_only=True):
    """What was used up. `attempts` have ended; `completed`, `failed` and `cancelled` of them ended their task.

    `run_time`: seconds. Tokens and `cost` (USD) are what tasks report in their `usage`; an unknown cost counts as 0.
    """

    attempts: Always[int] = 0
    completed: Always[int] = 0
    failed: Always[int] = 0
    cancelled: Always[int] = 0
    run_time: Always[float] = 0.0
    input_tokens: Always[int] = 0
    output_tokens: Always[int] = 0
    cached_tokens: Always[int] = 0
    cost: Always[float] = 0.0


class UsageRow(Figures, frozen=True, kw_only=True):
    """What was used up on a day (UTC), by an owner, by a type: each where the rows are grouped by it.

    `owner` is null for tasks that were submitted without a key.
    """

    day: Sometimes[date] | None = None
    owner: Sometimes[str | None] = None
    type: Sometimes[str] | None = None


class Budget(Struct, frozen=True, kw_only=True):
    """What the caller's tasks may cost today, in USD, what they have cost, and when the next day begins (UTC)."""

    daily: float
    spent: float
    ends_at: Moment


class Usage(Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to", "rows": "items"}):
    """Usage of the days from `from` to `to`, both included: rows in order of day, owner and type, and their sum.

    `budget`: that of the key that asks, null if it has none.
    """

    first: date
    last: date
    rows: list[UsageRow]
    total: Figures
    budget: Always[Budget | None] = None
