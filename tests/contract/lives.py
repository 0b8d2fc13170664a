"""Random steps in the life of tasks."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from msgspec import structs
from tests.contract.twin import SECOND

from tasker.engines.protocol import ClaimRequest, Engine
from tasker.errors import Conflict, NotFound
from tasker.model import Claim, Draft, Receipt, RetryPolicy
from tasker.rules.lifecycle import (
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Outcome,
    Released,
    Snoozed,
    Succeeded,
    TimedOut,
    problem,
)

outcomes: st.SearchStrategy[Outcome] = st.sampled_from(
    [
        Succeeded(b"6"),
        Failed(problem("task-failed", "for good")),
        Failed(problem("task-failed", "busy", retryable=True)),
        Failed(problem("task-failed", "busy", retryable=True), after=40 * SECOND),
        Snoozed(15 * SECOND),
        TimedOut(SECOND),
        Crashed("gone"),
        Cancelled(),
        Released(),
        Interrupted(),
    ]
)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 3),
    initial=st.sampled_from([timedelta(0), 10 * SECOND]),
    jitter=st.booleans(),
)
keys = st.tuples(st.sampled_from(["k1", "k2"]), st.sampled_from([b"a", b"b"]))
crash_rules = st.sampled_from(["retry", "retry", "fail"])
submissions = st.tuples(
    st.sampled_from([-1, 0, 1]),
    st.sampled_from([None, None, 10 * SECOND, 60 * SECOND]),
    st.sampled_from(["sum", "sum", "gpt"]),
    st.none() | keys,
    st.sampled_from([None, None, 45.25 * SECOND]),
)
claimed_types = st.sampled_from([("sum", "gpt"), ("sum",), ("gpt",)])
workers = st.sampled_from(["worker-1", "worker-2"])


async def reply_of(step: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await step
    except (NotFound, Conflict) as refusal:
        return refusal


async def wait_and_submit(
    engine: Engine, request: ClaimRequest, drafts: list[Draft], ticks: int, *, is_served: bool
) -> tuple[list[Receipt], list[Claim]]:
    """Let a claim wait, submit each draft on its own; return the results of both."""
    claiming = asyncio.create_task(engine.claim(request, wait_for=timedelta(hours=1)))
    for _ in range(ticks):
        await asyncio.sleep(0)
    receipts = await asyncio.gather(*(engine.submit([draft]) for draft in drafts))
    if is_served:
        return [receipt for [receipt] in receipts], await claiming
    claiming.cancel()
    await asyncio.wait([claiming])
    assert claiming.cancelled(), f"nothing was to be claimed, and the answer was {claiming}"
    return [receipt for [receipt] in receipts], []


def unspent(claim: Claim) -> Claim:
    """Return a claim without the usage of its attempt, and without the hint that there may be steps."""
    return structs.replace(claim, usage=b"{}", has_steps=False)


LETTERS = {
    "created": "c",
    "started": "s",
    "retrying": "r",
    "parked": "r",
    "completed": "e",
    "failed": "e",
    "cancelled": "e",
}
LOG = re.compile("c(s?er|sr)*(s|s?e)?")
"""The form of a task's log: earlier attempts, ends before a retry, and the present state."""
