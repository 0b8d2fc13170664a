"""Daily budgets: what the tasks of an owner may cost on one day, in UTC.

The cost is what attempts have reported. When the budget is used up, running tasks go on, pending ones wait for the next
day, and no further tasks of types that cost are accepted.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import structlog
from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import UsageStore
from tasker.errors import Exhausted, Unavailable
from tasker.model import Claim, Draft
from tasker.model.keys import Caller
from tasker.model.usage import NANOS, dollars
from tasker.rules.lifecycle import Snoozed
from tasker.service.keys import Keys
from tasker.tasktypes.registry import TaskType

KNOWN_FOR = timedelta(seconds=1)
"""How long keys and a sum from the store are used: a used-up budget is noticed at most this much later."""
_MAX_KNOWN = 10_000
_ASK_AGAIN = timedelta(seconds=5)

_log = structlog.get_logger(__name__)


class _Spent(NamedTuple):
    """The cost of an owner's tasks on a day, and when it was read."""

    day: date
    nanos: int
    read_at: float


class Budget(NamedTuple):
    """Today's budget: the limit in dollars, the nano-dollars spent, and when the next day begins."""

    limit: float
    spent: int
    ends_at: datetime


class Budgets:
    """Enforces daily budgets. default: dollars a day of owners whose keys have no budget; None for no limit."""

    def __init__(self, usage: UsageStore, keys: Keys, clock: Clock, *, default: float | None) -> None:
        self._usage = usage
        self._keys = keys
        self._clock = clock
        self._default = default
        self._known: dict[str, _Spent] = {}

    @property
    def are_set(self) -> bool:
        """Whether any owner has a budget."""
        return self._default is not None or self._keys.have_budgets

    async def check(self, caller: Caller, task_type: TaskType) -> None:
        """Raise Exhausted if the budget of the caller's key is used up. task_type: a type that costs, to be named."""
        budget = await self.of(caller)
        if budget is not None and budget.spent >= budget.limit * NANOS:
            whole = f"a daily budget of {budget.limit:g} USD"
            cost = f"{_shown(budget.spent)} USD of {whole}" if caller.may("read") else f"all of {whole}"
            raise Exhausted(
                f"today's tasks have cost {cost}: no {task_type.name} task is taken until midnight UTC",
                retry_after=budget.ends_at - self._clock.now(),
            )

    async def of(self, caller: Caller) -> Budget | None:
        """Return today's budget of the caller's key; None without one."""
        key = None if caller.key_id is None else self._keys.find(caller.key_id)
        limit = self._default if key is None or key.daily_budget is None else key.daily_budget
        return None if limit is None else Budget(limit, await self._spent(caller.owner), _midnight(self._clock.now()))

    async def bound(self, caller: Caller, task_type: TaskType, draft: Draft) -> Draft:
        """Return the draft, with a refusal if the budget is used up; an existing task may still answer for it."""
        if not task_type.costs:
            return draft
        try:
            await self.check(caller, task_type)
        except Exhausted as refusal:
            return structs.replace(draft, refusal=refusal)
        return draft

    async def hold(self, claim: Claim) -> Snoozed | None:
        """Check the budget before an attempt of a task that costs: return how long it must wait; None if it may run.

        If an owner has several keys, the largest budget counts: a task does not know its key.
        """
        with contextlib.suppress(Unavailable):  # a budget needs the store anyway, and without one the task may run
            await self._keys.refresh_after(KNOWN_FOR)
        limits = [self._default if limit is None else limit for limit in self._keys.budgets(claim.owner)]
        known = [limit for limit in limits if limit is not None]
        budget = max(known) if known and len(known) == len(limits) else None if limits else self._default
        if budget is None:
            return None
        try:
            spent = await self._spent(claim.owner)
        except Unavailable as error:
            _log.warning("budget.not_known", owner=claim.owner, reason=error.detail)
            return Snoozed(_ASK_AGAIN)
        if spent < budget * NANOS:
            return None
        _log.info(
            "budget.exhausted", owner=claim.owner, task_id=str(claim.task_id), spent=dollars(spent), budget=budget
        )
        now = self._clock.now()
        return Snoozed(_midnight(now) - now, "budget_exhausted")

    async def _spent(self, owner: str) -> int:
        """Return the nano-dollars spent today, as of at most KNOWN_FOR ago."""
        now, day = self._clock.monotonic(), self._clock.now().astimezone(UTC).date()
        known = self._known.get(owner)
        if known is None or known.day != day or now - known.read_at >= KNOWN_FOR.total_seconds():
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[owner] = _Spent(day, await self._usage.spent_today(owner), now)
        return known.nanos


def _shown(nanos: int) -> str:
    return f"{dollars(nanos):.6f}".rstrip("0").rstrip(".")


def _midnight(now: datetime) -> datetime:
    return datetime.combine(now.astimezone(UTC).date() + timedelta(days=1), time(), UTC)
