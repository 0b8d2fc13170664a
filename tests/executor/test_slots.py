"""The slots of a pool."""

from __future__ import annotations

import asyncio

import pytest

from tasker.executor.pool import Slots


async def test_slots_go_to_the_longest_waiter() -> None:
    slots, order = Slots(1), []

    async def hold(name: str) -> None:
        await slots.acquire()
        order.append(name)

    assert slots.take()
    assert not slots.take()
    waiting = [asyncio.create_task(hold(name)) for name in "abc"]
    await asyncio.sleep(0)
    waiting[1].cancel()
    for _ in range(2):
        slots.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert order == ["a", "c"]
    assert slots.free == 0
    slots.release()
    assert slots.free == 1


async def test_a_slot_given_to_one_that_is_cancelled_is_not_lost() -> None:
    slots = Slots(1)
    await slots.acquire()
    waiting = asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    slots.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert slots.free == 1
