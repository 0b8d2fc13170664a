"""Keys of several processes on one database."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from msgspec import structs
from tests.engines.postgres.conftest import MakeEngine

from tasker.engines.postgres import PostgresEngine
from tasker.errors import Unavailable
from tasker.rules.lifecycle import Snoozed
from tasker.service.budgets import KNOWN_FOR, Budgets
from tasker.service.keys import Keys, NewKey
from tasker.testing import Driver, ManualClock, make_draft


def keys_of(engine: PostgresEngine, clock: ManualClock) -> Keys:
    return Keys(engine.keys, clock, is_shared=engine.is_shared)


async def test_what_one_process_changes_the_other_knows(another: MakeEngine, clock: ManualClock) -> None:
    here, there = keys_of(await another(), clock), keys_of(await another(), clock)
    assert (await here.refresh(), await there.refresh()) == (0, 0)
    assert not there.are_used
    key, shown = await here.create(NewKey(scopes=("read",)))
    assert await there.identify(shown) == (key, key.caller), "at once, for it is looked for"
    await here.revoke(key.key_id)
    assert await here.identify(shown) is None
    assert await there.refresh() == 1, "which is done every second"
    assert await there.identify(shown) is None
    assert await there.refresh() == 0


async def test_many_that_look_for_unknown_keys_share_the_question(another: MakeEngine, clock: ManualClock) -> None:
    engine = await another()
    keys, asked = keys_of(engine, clock), 0
    version = engine.keys.version

    async def counted() -> int:
        nonlocal asked
        asked += 1
        return await version()

    engine.keys.version = counted  # type: ignore[method-assign]
    found = await asyncio.gather(*(keys.identify(f"tsk_{'a' * 12}_{number}") for number in range(50)))
    assert found == [None] * 50
    assert asked <= 2, "the first, and one for all who came while it was under way"


async def test_keys_are_refreshed_only_after_a_time_and_once_for_all_who_ask(
    another: MakeEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await another()
    keys, asked = keys_of(engine, clock), 0
    version = engine.keys.version

    async def counted() -> int:
        nonlocal asked
        asked += 1
        return await version()

    monkeypatch.setattr(engine.keys, "version", counted)
    second = timedelta(seconds=1)
    for expected in (1, 2):
        await asyncio.gather(*(keys.refresh_after(second) for _ in range(10)))
        clock.advance(second / 2)
        await keys.refresh_after(second)
        assert asked == expected
        clock.advance(second / 2)


async def test_a_budget_that_another_process_sets_counts_without_a_refresh_in_between(
    another: MakeEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await another()
    keys, driver = keys_of(worker, clock), Driver(worker, clock)
    budgets = Budgets(worker.usage, keys, clock, default=None)
    await driver.submit(structs.replace(make_draft(clock.now()), owner="me"))
    claim = await driver.claim_one()
    assert await budgets.hold(claim) is None
    await keys_of(await another(), clock).create(NewKey(scopes=("submit",), owner="me", daily_budget=0.0))
    clock.advance(KNOWN_FOR)
    held = await budgets.hold(claim)
    assert isinstance(held, Snoozed)

    async def fail() -> int:
        raise Unavailable("away")

    clock.advance(KNOWN_FOR)
    monkeypatch.setattr(worker.keys, "version", fail)
    assert await budgets.hold(claim) == Snoozed(held.after - KNOWN_FOR, held.reason), "the known keys count"


async def test_changes_at_the_same_time_are_all_seen(another: MakeEngine, clock: ManualClock) -> None:
    engines = [await another() for _ in range(3)]
    before = await engines[0].keys.version()
    made = await asyncio.gather(*(keys_of(engines[n % 3], clock).create(NewKey(scopes=("read",))) for n in range(12)))
    assert await engines[0].keys.version() >= before + 12
    last = keys_of(engines[1], clock)
    assert await last.refresh() == 12
    assert [await last.identify(shown) for _, shown in made] == [(key, key.caller) for key, _ in made]
