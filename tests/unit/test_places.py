"""Slots for checks: slow owners share half of them, and none is lost when a waiter is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from tasker.service import places
from tasker.service.places import Places


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_slow_owners_leave_half_of_the_slots_to_others() -> None:
    all_ = Places(4)
    for owner in "abc":
        all_.note_slow(owner)
    await all_.take("a")
    await all_.take("b")
    third = asyncio.create_task(all_.take("c"))
    await all_.take("x")
    await all_.take("y")
    await turn()
    assert not third.done()
    all_.give_back("x")
    await turn()
    assert not third.done(), "a slot freed by a quick owner is for quick owners"
    await all_.take("z")
    all_.give_back("a")
    await third


async def test_an_owner_that_becomes_slow_counts_at_once() -> None:
    all_ = Places(4)
    all_.note_slow("late")
    for owner in "ab":
        await all_.take(owner)
        all_.note_slow(owner)
    waiting = asyncio.create_task(all_.take("late"))
    await all_.take("x")
    await turn()
    assert not waiting.done()
    all_.give_back("b")
    await waiting


async def test_an_owner_is_slow_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    all_ = Places(2, slow_for=0)
    for owner in "ab":
        all_.note_slow(owner)
        await all_.take(owner)
    monkeypatch.setattr(places, "_MOST_SLOW", 1)
    all_.note_slow("c")
    assert list(all_._slow) == ["b", "c"], "one goes for each that comes"


@pytest.mark.parametrize("given", ["before", "together", "after"])
async def test_a_cancelled_waiter_keeps_no_slot(given: str) -> None:
    """Whether the slot comes before the cancellation, in the same step, or later."""
    all_ = Places(1)
    await all_.take("a")
    waiting, next_one = asyncio.create_task(all_.take("b")), asyncio.create_task(all_.take("c"))
    await turn()
    if given == "before":
        all_.give_back("a")
    waiting.cancel()
    if given == "after":
        await turn()
    if given != "before":
        all_.give_back("a")
    await next_one
    assert waiting.cancelled()
    assert all_._taken == {"c"}
    assert not all_._waiting
