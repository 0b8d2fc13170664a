"""A type that costs is checked against its budget, and its usage adds up over attempts."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import msgspec

from tasker import Context, Retry, task
from tasker.model import Claim, RetryPolicy, Status
from tasker.model.usage import NANOS, UsageFilter
from tasker.rules.lifecycle import Outcome, Snoozed
from tests.worker.rig import Rig

DAY = timedelta(days=1)


@task(costs=True)
async def poem(context: Context) -> str:
    context.usage(input_tokens=2, cost=0.25, seconds=context.attempt)
    if context.attempt == 1:
        raise Retry(after=0)
    return "roses"


async def test_only_types_that_cost_are_checked(tmp_path: Path) -> None:
    asked: list[str] = []

    async def check(claim: Claim) -> Outcome | None:
        asked.append(claim.type)
        return Snoozed(DAY, "budget_exhausted")

    rig = Rig(tmp_path, check_budget=check)
    rig.registry.add(poem)
    await rig.open()
    try:
        held = await rig.submit("poem")
        assert (await rig.end(await rig.submit("add", b"[4,2]"))).status is Status.COMPLETED
        held = await rig.until(held, lambda found: found.attempt == 1 and found.status is Status.PENDING)
    finally:
        await rig.close()
    assert (held.reason, held.tries_left, bytes(held.usage)) == ("budget_exhausted", 1, b"{}")
    assert asked == ["poem"]


async def test_usage_adds_up_over_attempts(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.registry.add(poem)
    await rig.open()
    try:
        done = await rig.end(await rig.submit("poem", retry=RetryPolicy(max_attempts=2, initial=timedelta(0))))
        ever = UsageFilter(first=date(2000, 1, 1), last=date(9999, 1, 1))
        [row] = await rig.engine.usage.find_many(ever, group=(), limit=2)
    finally:
        await rig.close()
    assert msgspec.json.decode(done.usage) == {"input_tokens": 4, "cost": 0.5, "seconds": 2}
    assert (row.attempts, row.completed, row.input_tokens, row.cost) == (2, 1, 4, NANOS // 2)
