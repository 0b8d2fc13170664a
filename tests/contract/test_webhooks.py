"""Engine.webhooks: an event becomes one delivery for each webhook."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine
from tests.contract.webhooks import Rig, make_delivery, make_webhook

from tasker.engines.protocol import Engine
from tasker.errors import Conflict, Invalid, NotFound
from tasker.model import Draft
from tasker.model.webhooks import Subscription, Webhook
from tasker.testing import Driver, ManualClock, make_draft, make_key


@pytest.fixture
def rig(engine: Engine, clock: ManualClock) -> Rig:
    return Rig(engine, clock)


# webhooks


async def test_a_webhook_is_kept_as_it_is(rig: Rig, clock: ManualClock) -> None:
    plain = await rig.hook()
    full = await rig.hook(
        owner="ada", type="sum", queue="q", tag="t", description="Ünï", status="paused", reason="why",
        failing_since=clock.now(), secrets=(), format="slack", all_owners=True,
    )  # fmt: skip
    assert await rig.get(plain) == plain
    assert await rig.get(full) == full
    assert await rig.store.find(uuid4()) is None


async def test_webhooks_of_an_owner_are_limited(rig: Rig, clock: ManualClock) -> None:
    await rig.hook(owner="ada")
    with pytest.raises(Conflict):
        await rig.store.create(make_webhook(clock.now(), owner="ada"), most=1)
    await rig.store.create(make_webhook(clock.now(), owner="eve"), most=1)
    assert len((await rig.store.find_many(owner=None, limit=9)).items) == 2
    await rig.hook(owner="bob", task_id=uuid4())  # that comes and goes with its task
    await rig.store.create(make_webhook(clock.now(), owner="bob"), most=1)


async def test_the_limit_holds_for_concurrent_creations(rig: Rig, clock: ManualClock) -> None:
    come = [rig.store.create(make_webhook(clock.now(), owner="ada"), most=3) for _ in range(8)]
    done = await asyncio.gather(*come, return_exceptions=True)
    assert [type(one) for one in done if one is not None] == [Conflict] * 5
    assert len((await rig.store.find_many(owner="ada", limit=10)).items) == 3


async def test_webhooks_are_listed_newest_first_by_owner_and_in_pages(rig: Rig) -> None:
    hooks = [await rig.hook(owner=owner) for owner in ("ada", "", "ada", "eve")]
    await rig.hook(task_id=uuid4())
    page = await rig.store.find_many(owner=None, limit=3)
    assert page.items == [hooks[3], hooks[2], hooks[1]]
    assert page.next_cursor is not None
    last = await rig.store.find_many(owner=None, limit=3, cursor=page.next_cursor)
    assert (last.items, last.next_cursor) == ([hooks[0]], None)
    everybodys = await rig.hook(owner="ada", all_owners=True)
    assert (await rig.store.find_many(owner="ada", limit=9)).items == [hooks[2], hooks[0]]
    assert (await rig.store.find_many(owner="", limit=9)).items == [hooks[1]]
    assert (await rig.store.find_many(owner=None, limit=1)).items == [everybodys]
    with pytest.raises(Invalid):
        await rig.store.find_many(owner=None, limit=3, cursor="nonsense")


async def test_a_change_applies_to_what_is_stored(rig: Rig) -> None:
    webhook = await rig.hook()
    changed = await rig.store.change(webhook.webhook_id, lambda one: structs.replace(one, url=one.url + "new"))
    assert changed == structs.replace(webhook, url="https://example.com/new")
    assert await rig.get(webhook) == changed

    def refuse(_: Webhook) -> Webhook:
        raise Invalid("no")

    with pytest.raises(Invalid):
        await rig.store.change(webhook.webhook_id, refuse)
    with pytest.raises(NotFound):
        await rig.store.change(uuid4(), lambda one: one)
    assert await rig.get(webhook) == changed


async def test_deliveries_are_erased_with_their_webhook(rig: Rig, clock: ManualClock) -> None:
    gone, stays = await rig.hook(), await rig.hook()
    await rig.dispatch(make_delivery(gone, clock.now()), make_delivery(stays, clock.now()))
    await rig.store.delete(gone.webhook_id)
    assert await rig.store.find(gone.webhook_id) is None
    assert await rig.deliveries(gone) == []
    assert [one.webhook for one in await rig.due()] == [stays]
    with pytest.raises(NotFound):
        await rig.store.delete(gone.webhook_id)


# those that come with a task


async def test_a_task_brings_its_webhook_in_the_same_commit_and_takes_it_along(
    rig: Rig, driver: Driver, clock: ManualClock
) -> None:
    hooks = [make_webhook(clock.now()) for _ in range(2)]
    alone, first = (structs.replace(make_draft(clock.now()), webhook=webhook) for webhook in hooks)
    await rig.engine.submit([alone])
    await rig.engine.submit([first, make_draft(clock.now())])
    mine = [
        structs.replace(webhook, task_id=draft.task_id) for webhook, draft in zip(hooks, (alone, first), strict=True)
    ]
    assert [await rig.get(webhook) for webhook in hooks] == mine
    assert await rig.store.find_subscriptions([alone.task_id]) == [Subscription(mine[0])]
    assert await rig.store.find_subscriptions([]) == []
    await rig.dispatch(make_delivery(mine[0], clock.now(), task_id=alone.task_id))
    await rig.engine.cancel(alone.task_id)
    await rig.engine.delete(alone.task_id)
    assert await rig.store.find(hooks[0].webhook_id) is None
    assert await rig.deliveries(hooks[0]) == []
    assert await rig.get(hooks[1]) == mine[1]


async def test_a_repeated_submission_adds_no_webhook(rig: Rig, clock: ManualClock) -> None:
    draft = structs.replace(
        make_draft(clock.now(), idempotency=make_key(clock.now())), webhook=make_webhook(clock.now())
    )
    again = structs.replace(draft, task_id=uuid4(), webhook=make_webhook(clock.now()))
    await rig.engine.submit([draft])
    [receipt] = await rig.engine.submit([again])
    assert receipt.outcome == "replayed"
    assert again.webhook is not None
    assert await rig.store.find(again.webhook.webhook_id) is None


async def test_a_joined_submission_adds_its_receiver_to_the_task_once(rig: Rig, clock: ManualClock) -> None:
    def draft(webhook: Webhook | None) -> Draft:
        return structs.replace(make_draft(clock.now()), unique_key="k", webhook=webhook)

    first = draft(None)
    await rig.engine.submit([first])
    mine, again = make_webhook(clock.now()), make_webhook(clock.now())
    for webhook in (mine, again, make_webhook(clock.now(), url="https://other.example.com/")):
        [receipt] = await rig.engine.submit([draft(webhook)])
        assert (receipt.outcome, receipt.task_id) == ("joined", first.task_id)
    found = await rig.store.find_subscriptions([first.task_id])
    assert [one.webhook.url for one in found] == ["https://example.com/", "https://other.example.com/"]
    assert found[0].webhook == structs.replace(mine, task_id=first.task_id)


# dispatching


async def test_dispatch_begins_at_the_start_and_resumes_where_it_was(rig: Rig, make_engine: MakeEngine) -> None:
    position = await rig.store.find_position("one")
    assert position is not None
    assert (position.position, position.is_idle) == (None, True)
    await rig.hook()
    await rig.dispatch()
    position = await rig.store.find_position("one")
    assert position is not None
    assert (position.position, position.is_idle) == (rig.position, False)


async def test_an_event_becomes_one_delivery_for_a_webhook_however_often_it_is_found(
    rig: Rig, clock: ManualClock
) -> None:
    one, two = await rig.hook(), await rig.hook()
    first = make_delivery(one, clock.now())
    again = structs.replace(first, delivery_id=uuid4())
    other = make_delivery(two, clock.now(), task_id=first.task_id)
    await rig.dispatch(first, other)
    await rig.dispatch(again, make_delivery(one, clock.now(), task_id=first.task_id, sequence=4))
    assert [delivery.sequence for delivery in await rig.deliveries(one)] == [4, 3]
    assert (await rig.deliveries(one))[1] == first
    assert await rig.deliveries(two) == [other]


async def test_dispatch_from_an_old_position_changes_nothing(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch()
    assert not await rig.store.dispatch([make_delivery(webhook, clock.now())], after=None, to="elsewhere")
    assert not await rig.store.dispatch([make_delivery(webhook, clock.now())], after="elsewhere", to="elsewhere")
    assert rig.position is not None
    assert not await rig.store.dispatch([make_delivery(webhook, clock.now())], after="elsewhere", to=rig.position)
    assert await rig.deliveries(webhook) == []
    position = await rig.store.find_position("one")
    assert position is not None
    assert position.position == rig.position


async def test_a_webhook_erased_meanwhile_gets_no_delivery(rig: Rig, clock: ManualClock) -> None:
    gone, stays = await rig.hook(), await rig.hook()
    await rig.store.delete(gone.webhook_id)
    await rig.dispatch(make_delivery(gone, clock.now()), make_delivery(stays, clock.now()))
    assert await rig.deliveries(gone) == []
    assert len(await rig.deliveries(stays)) == 1


async def test_one_process_dispatches_until_it_is_silent(rig: Rig, make_engine: MakeEngine, clock: ManualClock) -> None:
    if not rig.engine.is_shared:
        pytest.skip("one process has the store alone")
    other = await make_engine()
    await rig.hook()
    assert await rig.store.find_position("one") is not None
    assert await other.webhooks.find_position("two") is None
    clock.advance(timedelta(seconds=3))
    assert await rig.store.find_position("one") is not None
    clock.advance(timedelta(seconds=3))
    assert await other.webhooks.find_position("two") is None
    clock.advance(timedelta(seconds=2))
    assert await other.webhooks.find_position("two") is not None
    assert await rig.store.find_position("one") is None


async def test_of_concurrent_processes_one_dispatches(rig: Rig, make_engine: MakeEngine) -> None:
    if not rig.engine.is_shared:
        pytest.skip("one process has the store alone")
    await rig.hook()
    turns = await asyncio.gather(*(rig.store.find_position(str(place)) for place in range(8)))
    assert len([position for position in turns if position is not None]) == 1
