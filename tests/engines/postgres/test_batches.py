"""Group commit: an absent database fails all waiting items; an item whose caller has gone is not stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from tasker.engines.postgres import PostgresEngine
from tasker.engines.postgres.commits import Batches
from tasker.engines.postgres.connections import Connections
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared import batches as shared_batches
from tasker.engines.shared.batches import MAX_BATCH
from tasker.errors import Unavailable
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, make_draft, make_key


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
        return await work(Transaction())


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def stored() -> list[int]:
    return []


@pytest.fixture
def batches(slow: Slow, stored: list[int]) -> Batches[int, int]:
    async def work(_tx: Transaction, items: Sequence[int]) -> Sequence[int]:
        stored.extend(items)
        return items

    return Batches(cast(Connections, slow), work)


async def test_all_waiting_items_fail_at_once_when_the_database_is_away(slow: Slow, batches: Batches[int, int]) -> None:
    waiting = [batches.put(number) for number in range(3 * MAX_BATCH)]
    slow.fault = Unavailable("away")
    slow.go.set()
    replies = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(reply) for reply in replies} == {Unavailable}
    assert slow.calls == 1, "the second batch would have waited for the same"
    slow.fault = None
    assert await batches.put(7) == 7


async def test_an_item_whose_caller_has_gone_is_not_stored(
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


@pytest.fixture
def few_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have few bytes share a transaction; return how many items each one has."""
    monkeypatch.setattr(shared_batches, "COMMIT_BYTES", 3_500)
    counts: list[int] = []
    store = Batches._store

    async def counted(batches: Batches[Any, Any], batch: list[Any]) -> None:
        counts.append(len(batch))
        await store(batches, batch)

    monkeypatch.setattr(Batches, "_store", counted)
    return counts


async def test_items_that_do_not_fit_go_into_the_next_transaction_in_order(
    slow: Slow, batches: Batches[int, int], stored: list[int], few_bytes: list[int]
) -> None:
    sizes = [2_000, 2_000, 9_000, 10, 3_000, 3_000, 10]
    waiting = [batches.put(number, size) for number, size in enumerate(sizes)]
    slow.go.set()
    assert await asyncio.gather(*waiting) == stored == list(range(len(sizes)))
    assert few_bytes == [1, 1, 1, 2, 2]


TEXT = b'"%b"' % (b"x" * 1_000)
LARGE: dict[str, Callable[[int], dict[str, Any]]] = {
    "params": lambda _: {"params": TEXT},
    "metadata": lambda _: {"metadata": b'{"a":%b}' % TEXT},
    "reply": lambda number: {"idempotency": make_key(key=str(number), reply=TEXT)},
    "secrets": lambda _: {"secrets": TEXT},
}
"""What may be large in a draft."""


@pytest.mark.parametrize("what", LARGE)
async def test_large_drafts_share_a_transaction_with_few(
    engine: PostgresEngine, few_bytes: list[int], what: str
) -> None:
    drafts = [make_draft(engine.clock.now(), **LARGE[what](number)) for number in range(12)]
    await asyncio.gather(*(engine.submit([draft]) for draft in drafts))
    assert sum(few_bytes) == 12
    assert max(few_bytes) <= 3


async def test_large_results_share_a_transaction_with_few(
    engine: PostgresEngine, driver: Driver, few_bytes: list[int]
) -> None:
    for _ in range(12):
        await driver.submit()
    claims = await driver.claim(12)
    few_bytes.clear()
    assert all(await asyncio.gather(*(driver.finish(claim, Succeeded(TEXT)) for claim in claims)))
    assert sum(few_bytes) == 12
    assert max(few_bytes) <= 3
