"""The operation on usage: what tasks used up, by day, key and type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from msgspec import UNSET

from tasker.api.calls import Call, Parameter, choices_parameter, text_parameter
from tasker.api.operation import get, ok
from tasker.api.replies import Reply, json_reply
from tasker.model.usage import GROUPS, UsageRow, dollars
from tasker.service.budgets import Budget, Budgets
from tasker.service.usage import DEFAULT_DAYS, MAX_DAYS, UsageService
from tasker.wire import usage as wire
from tasker.wire.shapes import show

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
    text_parameter("type", "Only tasks of this type."),
    text_parameter("owner", "Only tasks of this owner; without the scope admin, only one's own."),
    choices_parameter(
        "group",
        "What to group rows by; repeated or separated by commas. By default all three; `total` is there in any case.",
        GROUPS,
    ),
)


@dataclass
class UsageOperations:
    """Show what was used up, and the budget."""

    tag = "usage"

    _usage: UsageService
    _budgets: Budgets

    @get(
        "/usage",
        "Read what tasks used up, by day, key and type",
        ok("Tokens, cost, run time and counts.", wire.Usage),
        parameters=USAGE_PARAMETERS,
    )
    async def get_usage(self, call: Call) -> Reply:
        query = call.query()
        first, last = query.pop("from", None), query.pop("to", None)
        group = query.pop("group", GROUPS)
        usage = await self._usage.find(call.caller, first=first, last=last, group=group, **query)
        view = wire.Usage(
            first=usage.first,
            last=usage.last,
            rows=[_row_view(row, group) for row in usage.rows],
            total=show(wire.Figures, usage.total, **_units(usage.total)),
            budget=_budget_view(await self._budgets.of(call.caller)),
        )
        return json_reply(view)


def _budget_view(budget: Budget | None) -> wire.Budget | None:
    if budget is None:
        return None
    return wire.Budget(daily=budget.limit, spent=dollars(budget.spent), ends_at=budget.ends_at)


def _row_view(row: UsageRow, group: tuple[str, ...]) -> wire.UsageRow:
    """Return a row without the names that rows are not grouped by: UNSET is not sent."""
    names = {"day": row.day, "owner": row.owner or None, "type": row.type}
    named = {name: value if name in group else UNSET for name, value in names.items()}
    return show(wire.UsageRow, row, **named, **_units(row))


def _units(row: UsageRow) -> dict[str, Any]:
    """Return the figures that are stored in other units than they are shown in."""
    return {"run_time": row.run_time / 1e6, "cost": dollars(row.cost)}
