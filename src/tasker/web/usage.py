"""The page of usage: what tasks used up, by day, owner and type, and what is left of the day's budget."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tasker.api.replies import Reply
from tasker.api.usage import USAGE_PARAMETERS
from tasker.model.usage import GROUPS, UsageRow, dollars
from tasker.service import Service
from tasker.web import texts, times
from tasker.web.frame import Frame
from tasker.web.page import Visit, show
from tasker.web.queries import address, pairs_of, without

MOST_SHOWN = 500
_BY_DEFAULT = ("day", "type")


class UsagePages:
    """Show usage."""

    def __init__(self, frame: Frame, service: Service) -> None:
        self._frame = frame
        self._usage = service.usage
        self._budgets = service.budgets

    @show("/usage", parameters=USAGE_PARAMETERS, nav="Usage", icon="overview")
    async def usage(self, visit: Visit) -> Reply:
        query = visit.query
        first, last = query.pop("from", None), query.pop("to", None)
        group = query.pop("group", _BY_DEFAULT)
        found = await self._usage.find(visit.caller, first=first, last=last, group=group, **query)
        budget = await self._budgets.of(visit.caller)
        pairs = without(pairs_of(visit.call.query_string), "group")
        tabs = [(name, address([*pairs, ("group", name)]), group == (name,)) for name in GROUPS]
        by_default = ("day and type", address(pairs), tuple(group) == _BY_DEFAULT)
        return self._frame.render(
            visit,
            "usage.html",
            page="usage",
            first=found.first,
            last=found.last,
            group=group,
            rows=[_figures(row) for row in found.rows[::-1][:MOST_SHOWN]],
            left_out=max(0, len(found.rows) - MOST_SHOWN),
            total=_figures(found.total),
            tabs=[by_default, *tabs],
            budget=None if budget is None else (dollars(budget.spent), budget.limit, budget.ends_at),
        )


def _figures(row: UsageRow) -> dict[str, Any]:
    """Return a row as the page shows it."""
    return {
        "day": "" if row.day is None else row.day.isoformat(),
        "owner": texts.line(row.owner or "", 100),
        "type": row.type or "",
        "attempts": times.number(row.attempts),
        "completed": times.number(row.completed),
        "failed": times.number(row.failed),
        "cancelled": times.number(row.cancelled),
        "run_time": times.duration(timedelta(microseconds=row.run_time)),
        "tokens": f"{row.input_tokens:,} / {row.output_tokens:,}" if row.input_tokens or row.output_tokens else "",
        "cost": f"${dollars(row.cost):,.4f}" if row.cost else "",
    }
