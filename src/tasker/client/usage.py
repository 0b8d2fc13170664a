"""What tasks used up, as the service tells it."""

from __future__ import annotations

from datetime import date, datetime

from msgspec import Struct


class Figures(Struct, frozen=True, kw_only=True):
    """Attempts that ended, how their tasks did, seconds that they ran, tokens, and US dollars."""

    attempts: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    run_time: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0


class UsageRow(Figures, frozen=True, kw_only=True):
    """Of a day, an owner and a type: None where the rows are not grouped by it; also an owner where there is none."""

    day: date | None = None
    owner: str | None = None
    type: str | None = None


class Budget(Struct, frozen=True, kw_only=True):
    """Of today: the US dollars that may be spent, those that are, and when the next day begins."""

    daily: float
    spent: float
    ends_at: datetime


class Usage(Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to", "rows": "items"}):
    """Usage of the days from `first` to `last`: rows, their sum, and the budget of the key that asked."""

    first: date
    last: date
    rows: list[UsageRow]
    total: Figures
    budget: Budget | None = None
