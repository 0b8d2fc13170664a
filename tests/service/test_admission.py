"""Open queues: every submission that is counted in is counted out, whatever its outcome."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from tasker.engines.sqlite import SqliteEngine
from tasker.errors import Conflict, Exhausted, Unavailable
from tasker.model import Draft
from tasker.service.admission import OpenQueues
from tasker.testing import ManualClock, make_draft

DAY = timedelta(days=1)


def draft(clock: ManualClock, queue: str, **fields: Any) -> Draft:
    return structs.replace(make_draft(clock.now(), queue=queue), owner="me", **fields)


async def nothing(drafts: list[Draft]) -> list[Draft]:
    return drafts


async def breaks(_: list[Draft]) -> None:
    raise Unavailable("away")


def under_way(queues: OpenQueues) -> int:
    known = queues._known.get("me")
    return 0 if known is None else sum(known.queues.values())


@pytest.mark.parametrize("refused", [False, True], ids=["good", "refused before"])
@pytest.mark.parametrize("store", [nothing, breaks])
@pytest.mark.parametrize("limit", [1, 3, 9])
async def test_what_enters_leaves(
    engine: SqliteEngine, clock: ManualClock, refused: bool, store: Any, limit: int
) -> None:
    queues = OpenQueues(engine.queues, clock, limit)
    refusal = Exhausted("no more", retry_after=DAY) if refused else None
    for _ in range(2):
        drafts = [draft(clock, f"q{place}", refusal=refusal) for place in range(3)]
        try:
            bound = await queues.let_in(drafts, store)
        except Unavailable:
            continue
        finally:
            assert under_way(queues) == 0
        if refused:
            assert [one.refusal for one in bound] == [refusal] * 3
        else:
            assert sum(isinstance(one.refusal, Conflict) for one in bound) == max(0, 3 - limit)
    clock.advance(DAY)
    await queues.enter("me", "another")


async def test_a_refused_draft_is_not_counted_out(engine: SqliteEngine, clock: ManualClock) -> None:
    """Another submission of the same queue may be under way."""
    queues = OpenQueues(engine.queues, clock, 9)
    await queues.enter("me", "q")
    await queues.let_in([draft(clock, "q", refusal=Exhausted("no more", retry_after=DAY))], nothing)
    assert under_way(queues) == 1
