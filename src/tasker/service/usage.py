"""The use case of usage: what tasks used up, by day, owner and type."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from tasker.clock import Clock
from tasker.engines.protocol import UsageStore
from tasker.errors import Fault, Invalid
from tasker.model.keys import Caller
from tasker.model.usage import COUNTED, Group, UsageFilter, UsageRow

DEFAULT_DAYS = 30
MAX_DAYS = 366
MAX_ROWS = 5000
"""Limit of the rows in one answer, to bound memory."""


class Usage(NamedTuple):
    """Rows of usage and their sum, for the days from `first` to `last`, both included."""

    first: date
    last: date
    rows: list[UsageRow]
    total: UsageRow


class UsageService:
    """Reports what tasks used up."""

    def __init__(self, store: UsageStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def find(
        self,
        caller: Caller,
        *,
        group: Collection[Group],
        first: date | None = None,
        last: date | None = None,
        owner: str | None = None,
        type: str | None = None,
    ) -> Usage:
        """Return what the tasks that the caller sees used up, grouped by `group`.

        first, last: days, both included; by default the DEFAULT_DAYS up to today, or up to `last`. Raises Invalid for
        days out of order or more than MAX_DAYS of them, and for more than MAX_ROWS rows.
        """
        last = last or max(self._clock.now().date(), first or date.min)
        first = first or last - timedelta(days=min(DEFAULT_DAYS, last.toordinal()) - 1)
        if not timedelta(0) <= last - first < timedelta(days=MAX_DAYS):
            fault = Fault("/from", f"expected a day up to `to` ({last}), at most {MAX_DAYS} days in all")
            raise Invalid(f"?from: {fault.detail}", faults=[fault])
        rows: list[UsageRow] = []
        if owner is None or caller.sees(owner):
            where = UsageFilter(first=first, last=last, owner=caller.only if owner is None else owner, type=type)
            rows = await self._store.find_many(where, group=group, limit=MAX_ROWS + 1)
        if len(rows) > MAX_ROWS:
            fault = Fault("/group", f"there are more than {MAX_ROWS:,} rows: group by less, or ask for fewer days")
            raise Invalid(f"?group: {fault.detail}", faults=[fault])
        return Usage(first, last, rows, _total(rows))


def _total(rows: Sequence[UsageRow]) -> UsageRow:
    sums = {name: sum(getattr(row, name) for row in rows) for name in COUNTED}
    return UsageRow(day=None, owner=None, type=None, **sums)
