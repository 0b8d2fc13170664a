"""The dispatcher on every engine: each event for a webhook is delivered, even after a kill at any line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine
from tests.webhooks.rig import Receivers, Rig, render

from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.model.webhooks import DELIVERY_LEASE, Webhook
from tasker.rules.lifecycle import Succeeded
from tasker.testing import ManualClock, make_draft
from tasker.webhooks.rules import MAX_TRIES, RETRY_WITHIN
from tasker.webhooks.slots import AT_ONCE

DAY = timedelta(days=1)


@pytest.fixture
def receivers() -> Receivers:
    return Receivers()


@pytest.fixture
async def rig(engine: Engine, clock: ManualClock, receivers: Receivers) -> AsyncIterator[Rig]:
    rig = Rig(engine, clock, receivers)
    yield rig
    await rig.dispatcher.settle(cancel=True)  # or its close would wait for receivers that never answer
    await rig.dispatcher.close()


async def test_a_receiver_gets_a_signed_message_about_the_end_of_a_task(rig: Rig, receivers: Receivers) -> None:
    webhook = await rig.hook()
    task_id = await rig.complete()
    await rig.work()
    [told] = receivers.told
    task = await rig.driver.get(task_id)
    assert told.event == (task_id, "task.completed")
    assert told.body["data"] == json.loads(render(task))
    assert told.headers["webhook-id"] == f"evt_{task_id.hex}_3"
    assert told.headers["webhook-timestamp"] == str(int(rig.clock.now().timestamp()))
    assert told.headers["webhook-signature"].startswith("v1,")
    [delivery] = await rig.deliveries(webhook)
    assert (delivery.status, delivery.attempts, delivery.response_code) == ("delivered", 1, 200)
    await rig.work()
    assert len(receivers.told) == 1


async def test_a_first_webhook_misses_no_event_whenever_the_dispatcher_looked(rig: Rig, receivers: Receivers) -> None:
    """Without webhooks it moves to the journal's end; events count from a webhook's creation, not the next look."""
    for pause in (0, 3, 5, 30):
        await rig.complete()
        await rig.dispatch()
        rig.clock.advance(timedelta(seconds=pause))
    webhook = await rig.hook()
    after = await rig.complete()
    await rig.work()
    assert receivers.events == [(after, "task.completed")]
    await rig.engine.webhooks.delete(webhook.webhook_id)
    await rig.complete()
    rig.clock.advance(timedelta(seconds=30))
    await rig.dispatch()
    await rig.complete()
    rig.clock.advance(timedelta(seconds=2))
    await rig.hook()
    last = await rig.complete()
    await rig.work()
    assert receivers.events == [(after, "task.completed"), (last, "task.completed")]


STEPS = [timedelta(0), *(step * days for step in (1, -1) for days in (timedelta(minutes=10), DAY, 3650 * DAY))]


@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_a_webhook_gets_events_after_its_creation_whatever_the_clock_says(
    rig: Rig, receivers: Receivers, clock: ManualClock, step: timedelta
) -> None:
    await rig.hook("https://early.example.com/")
    before = await rig.complete()
    await rig.hook()
    clock.set(clock.now() + step)
    after = await rig.complete()
    await rig.work()
    assert [one.event[0] for one in receivers.told if "early" not in one.url] == [after]
    assert {one.event[0] for one in receivers.told if "early" in one.url} == {before, after}


@pytest.mark.parametrize("step", [-timedelta(minutes=10), -3650 * DAY], ids=str)
async def test_what_is_due_stays_due_when_the_clock_is_set_back(
    rig: Rig, receivers: Receivers, clock: ManualClock, step: timedelta
) -> None:
    if rig.engine.is_shared:
        pytest.skip("the database's clock")
    webhook, failing = await rig.hook(), await rig.hook("https://failing.example.com/")
    receivers.answers[failing.url] = 500
    await rig.complete()
    await rig.work()
    told = len(receivers.told)
    await rig.complete()
    await rig.dispatch()
    clock.set(clock.now() + step)
    await rig.deliver()
    assert [one.status for one in await rig.deliveries(webhook)] == ["delivered", "delivered"]
    receivers.answers.clear()
    clock.advance(RETRY_WITHIN[0])
    await rig.deliver()
    assert [one.status for one in await rig.deliveries(failing)] == ["delivered", "delivered"]
    assert len(receivers.told) == told + 4


async def test_a_task_s_own_webhook_gets_its_events_alone_without_any_other(rig: Rig, receivers: Receivers) -> None:
    await rig.dispatch()
    own = Webhook(webhook_id=uuid4(), url="https://own.example.com/", events=("completed",), created_at=rig.clock.now())
    draft = structs.replace(make_draft(rig.clock.now()), webhook=own)
    await rig.engine.submit([draft])
    await rig.driver.finish(await rig.driver.claim_one(), Succeeded(b"6"))
    await rig.complete()
    await rig.work()
    assert receivers.events == [(draft.task_id, "task.completed")]
    assert "webhook-signature" not in receivers.told[0].headers
    [delivery] = await rig.deliveries(own)
    assert delivery.lane == "\town.example.com"


async def test_a_failing_receiver_gets_the_event_again_until_its_tries_are_used_up(
    rig: Rig, receivers: Receivers
) -> None:
    webhook = await rig.hook()
    receivers.answers[webhook.url] = 500
    await rig.complete()
    await rig.work()
    for pause in RETRY_WITHIN:
        rig.clock.advance(pause - timedelta(seconds=1))
        await rig.work()
        tried = len(receivers.told)
        rig.clock.advance(timedelta(seconds=1))
        await rig.work()
        assert len(receivers.told) == tried + 1
    [delivery] = await rig.deliveries(webhook)
    assert (delivery.status, delivery.attempts, delivery.response_code) == ("failed", MAX_TRIES, 500)
    assert len({one.headers["webhook-id"] for one in receivers.told}) == 1
    assert len({json.dumps(one.body) for one in receivers.told}) == 1
    rig.clock.advance(DAY)
    await rig.work()
    assert len(receivers.told) == MAX_TRIES


async def test_what_was_read_and_not_stored_is_read_again(
    rig: Rig, clock: ManualClock, make_engine: MakeEngine, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.hook()
    told = await rig.complete()

    async def away(*_: Any, **__: Any) -> bool:
        raise Unavailable("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(rig.engine.webhooks, "dispatch", away)
        with pytest.raises(Unavailable):
            await rig.dispatch()
    again = Rig(rig.engine, clock, receivers)
    await again.work()
    assert receivers.events == [(told, "task.completed")]


async def test_who_dies_with_a_request_under_way_has_it_made_again_with_the_same_id(
    rig: Rig, clock: ManualClock, make_engine: MakeEngine, receivers: Receivers
) -> None:
    webhook = await rig.hook()
    receivers.held[webhook.url] = asyncio.Event()
    await rig.complete()
    await rig.dispatch()
    await rig.dispatcher.deliver()
    async with asyncio.timeout(30):
        while not receivers.told:
            await asyncio.sleep(0.001)
    await rig.dispatcher.settle(cancel=True)
    receivers.held.clear()
    await rig.engine.close()
    engine = await make_engine()
    again = Rig(engine, clock, receivers)
    if engine.is_shared:
        await again.work()
        assert len(receivers.told) == 1
        clock.advance(DELIVERY_LEASE)
    await again.work()
    first, second = receivers.told
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    [delivery] = await again.deliveries(webhook)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)


async def test_many_processes_tell_each_event_once(
    rig: Rig, clock: ManualClock, make_engine: MakeEngine, receivers: Receivers
) -> None:
    if not rig.engine.is_shared:
        pytest.skip("one process has the store alone")
    engines = [rig.engine, await make_engine(), await make_engine()]
    rigs = [rig, *(Rig(engine, clock, receivers, name=str(place)) for place, engine in enumerate(engines[1:]))]
    await rig.hook()

    async def run(one: Rig) -> None:
        for _ in range(10):
            await one.work()

    expected = set()
    for _ in range(3):
        expected |= {await rig.complete() for _ in range(5)}
        await asyncio.gather(*map(run, rigs))
    assert sorted(task_id for task_id, _ in receivers.events) == sorted(expected)


async def test_another_process_goes_on_where_one_has_died(
    rig: Rig, clock: ManualClock, make_engine: MakeEngine, receivers: Receivers
) -> None:
    if not rig.engine.is_shared:
        pytest.skip("one process has the store alone")
    other = await make_engine()
    heir = Rig(other, clock, receivers, name="heir")
    await rig.hook()
    first = await rig.complete()
    await rig.dispatch()
    second = await rig.complete()
    await heir.work()
    assert receivers.events == [(first, "task.completed")]
    clock.advance(timedelta(seconds=11))
    await heir.work()
    assert receivers.events == [(first, "task.completed"), (second, "task.completed")]


async def test_an_owner_s_silent_receivers_keep_no_other_waiting(rig: Rig, receivers: Receivers) -> None:
    rig.has_owners = True
    for place in range(AT_ONCE + 6):
        silent = await rig.hook(f"https://{place}.example.com/", owner="ada")
        receivers.held[silent.url] = asyncio.Event()
    await rig.complete(owner="ada")
    webhook = await rig.hook("https://bob.example.com/", owner="bob")
    await rig.dispatch()
    while await rig.dispatcher.deliver():
        pass
    for _ in range(5):
        await rig.complete(owner="bob")
    await rig.dispatch()
    async with asyncio.timeout(30):
        while {one.status for one in await rig.deliveries(webhook)} != {"delivered"}:
            await rig.dispatcher.deliver()
            await asyncio.sleep(0.001)
    assert receivers.under_way == AT_ONCE // 2
    await rig.dispatcher.settle(cancel=True)


async def test_by_itself_it_tells_soon_and_stops_in_good_order(rig: Rig, receivers: Receivers) -> None:
    rig.engine.watch(rig.dispatcher.on_changes)
    await rig.hook()
    async with rig.running(), asyncio.timeout(10):
        told = await rig.complete()
        while not receivers.told:
            await asyncio.sleep(0.01)
    assert receivers.events == [(told, "task.completed")]


async def test_processes_that_do_not_dispatch_help_to_deliver(
    rig: Rig, clock: ManualClock, make_engine: MakeEngine, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not rig.engine.is_shared:
        pytest.skip("one process has the store alone")
    monkeypatch.setattr("tasker.webhooks.dispatcher._LOOK_TO_HELP", 0.01)
    helper = Rig(await make_engine(), clock, receivers, name="helper")
    await rig.hook()
    told = await rig.complete()
    helper.dispatcher.start()
    await rig.dispatch()
    async with asyncio.timeout(30):
        while not receivers.told:
            await asyncio.sleep(0.01)
    await helper.dispatcher.close()
    assert receivers.events == [(told, "task.completed")]


async def test_a_helper_that_finds_nothing_looks_ever_more_rarely(
    rig: Rig, clock: ManualClock, make_engine: MakeEngine, receivers: Receivers
) -> None:
    if not rig.engine.is_shared:
        pytest.skip("one process has the store alone")
    helper = Rig(await make_engine(), clock, receivers, name="helper").dispatcher
    pauses = []
    for _ in range(5):
        assert await helper.deliver() == 0
        pauses.append(helper._pause(helper._stored))
    assert pauses == [10.0, 20.0, 40.0, 40.0, 40.0]
    await rig.hook()
    await rig.complete()
    await rig.dispatch()
    assert await helper.deliver() == 1
    assert helper._pause(helper._stored) == 5.0
    await helper.settle()
