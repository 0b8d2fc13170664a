"""Group commit: a database that is away is told to all who wait; what nobody waits for is not stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from tasker.engines.postgres.batches import MAX_BATCH, Batches
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.news import News
from tasker.errors import Unavailable


class Slow:
    """Transactions that end when the test lets them."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.fault: Exception | None = None
        self.calls = 0

    async def transact(self, work: Any) -> Any:
        self.calls += 1
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        news = News()
        return await work(None, news, False), news


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def stored() -> list[int]:
    return []


@pytest.fixture
def batches(slow: Slow, stored: list[int]) -> Batches[int, int]:
    async def work(_connection: Any, _news: News, items: Sequence[int], _again: bool) -> Sequence[int]:
        stored.extend(items)
        return items

    return Batches(cast(Connections, slow), work, lambda _: None, sender="here")


async def test_all_who_wait_hear_at_once_that_the_database_is_away(slow: Slow, batches: Batches[int, int]) -> None:
    waiting = [batches.put(number) for number in range(3 * MAX_BATCH)]
    slow.fault = Unavailable("away")
    slow.go.set()
    replies = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(reply) for reply in replies} == {Unavailable}
    assert slow.calls == 1, "the second batch would have waited for the same"
    slow.fault = None
    assert await batches.put(7) == 7


async def test_what_nobody_waits_for_any_more_is_not_stored(
    slow: Slow, batches: Batches[int, int], stored: list[int]
) -> None:
    first = batches.put(0)
    while not slow.calls:
        await asyncio.sleep(0)
    left, kept = batches.put(1), batches.put(2)
    left.cancel()
    slow.go.set()
    assert (await first, await kept) == (0, 2)
    assert stored == [0, 2]
