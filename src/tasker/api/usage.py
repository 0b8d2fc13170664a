"""The operation on usage: what tasks used up, by day, key and type."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.api.calls import Call, Parameter, one_of, text_of
from tasker.api.operation import Answer, Operation
from tasker.api.replies import Reply, json_reply
from tasker.model.usage import GROUPS, UsageRow, dollars
from tasker.service.budgets import Budget, Budgets
from tasker.service.usage import DEFAULT_DAYS, MAX_DAYS, UsageService


class FiguresView(Struct, frozen=True, kw_only=True):
    """What was used up. `attempts` have ended, so many of them with their task's end (`completed`, `failed`, ...).

    `run_time`: seconds. Tokens and `cost` (USD) are what tasks say in their `usage`; an unknown cost counts as nothing.
    """

    attempts: int
    completed: int
    failed: int
    cancelled: int
    run_time: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost: float


class UsageRowView(FiguresView, frozen=True, kw_only=True):
    """What was used up on a day (UTC), by a key's owner, by a type: each where the rows are grouped by it.

    `owner` is null for tasks that were submitted without a key.
    """

    day: date | UnsetType = UNSET
    owner: str | UnsetType | None = UNSET
    type: str | UnsetType = UNSET


class BudgetView(Struct, frozen=True, kw_only=True):
    """What the caller's tasks may cost today, in USD, what they have cost, and when the next day begins (UTC)."""

    daily: float
    spent: float
    ends_at: Annotated[datetime, Meta(tz=True)]


class UsageView(Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """Usage of the days from `from` to `to`, both included: rows in order of day, owner and type, and their sum.

    `budget`: of the key that asks, null where it has none.
    """

    first: date
    last: date
    items: list[UsageRowView]
    total: FiguresView
    budget: BudgetView | None


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _day(text: str) -> date:
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ValueError("expected a day, like 2026-01-31")


_DATE = {"type": "string", "format": "date"}
USAGE_PARAMETERS = (
    Parameter("from", f"The first day (UTC); by default {DEFAULT_DAYS} days in all, at most {MAX_DAYS}.", _DATE, _day),
    Parameter("to", "The last day (UTC), included; by default today.", _DATE, _day),
    Parameter("type", "Only tasks of this type.", {"type": "string", "minLength": 1}, text_of(100)),
    Parameter(
        "owner", "Only tasks of this owner; without the scope admin there are only one's own.",
        {"type": "string", "minLength": 1}, text_of(100),
    ),
    Parameter(
        "group",
        "What rows are made by; repeated or separated by commas. By default all three; `total` is there in any case.",
        {"type": "array", "items": {"type": "string", "enum": list(GROUPS)}},
        one_of(*GROUPS),
        many=True,
    ),
)  # fmt: skip


class UsageOperations:
    """Tells what was used up, and what may be."""

    def __init__(self, usage: UsageService, budgets: Budgets) -> None:
        self._usage = usage
        self._budgets = budgets

    async def find(self, call: Call) -> Reply:
        query = call.query()
        first, last = query.pop("from", None), query.pop("to", None)
        group = query.pop("group", GROUPS)
        usage = await self._usage.find(call.caller, first=first, last=last, group=group, **query)
        return json_reply(
            UsageView(
                first=usage.first, last=usage.last, items=[_row_view(row, group) for row in usage.rows],
                total=FiguresView(**_figures(usage.total)), budget=_budget_view(await self._budgets.of(call.caller)),
            )
        )  # fmt: skip


def _budget_view(budget: Budget | None) -> BudgetView | None:
    if budget is None:
        return None
    return BudgetView(daily=budget.limit, spent=dollars(budget.spent), ends_at=budget.ends_at)


def _row_view(row: UsageRow, group: tuple[str, ...]) -> UsageRowView:
    named = {"day": row.day, "owner": row.owner or None, "type": row.type}
    return UsageRowView(**{name: named[name] for name in group}, **_figures(row))  # type: ignore[arg-type]


def _figures(row: UsageRow) -> dict[str, Any]:
    return {
        "attempts": row.attempts, "completed": row.completed, "failed": row.failed, "cancelled": row.cancelled,
        "run_time": row.run_time / 1e6, "input_tokens": row.input_tokens, "output_tokens": row.output_tokens,
        "cached_tokens": row.cached_tokens, "cost": dollars(row.cost),
    }  # fmt: skip


def usage_operations(usage: UsageOperations) -> list[Operation]:
    """Return what can be asked about usage."""
    return [
        Operation(
            "GET", "/usage", "get_usage", "usage", "Read what tasks used up, by day, key and type", usage.find,
            scope="read", answers={200: Answer("Tokens, cost, run time and counts.", UsageView)},
            problems=("invalid-request", "unknown-field", "unavailable"), parameters=USAGE_PARAMETERS,
        ),
    ]  # fmt: skip
