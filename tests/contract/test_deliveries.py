"""Engine.webhooks: a delivery is found when it is due, and attempted by one process at a time."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine, open_after_the_end
from tests.contract.webhooks import DAY, HOUR, REFUSED, Rig, make_delivery, outcome

from tasker.engines.protocol import Engine
from tasker.errors import NotFound
from tasker.model.webhooks import DELIVERY_LEASE, Failure, share_of
from tasker.testing import ManualClock


@pytest.fixture
def rig(engine: Engine, clock: ManualClock) -> Rig:
    return Rig(engine, clock)


async def test_due_deliveries_are_found_oldest_first_a_few_of_each_slot_pool(rig: Rig, clock: ManualClock) -> None:
    busy, calm = await rig.hook(), await rig.hook()
    many = []
    for place in range(5):
        clock.advance(timedelta(seconds=1))
        many.append(make_delivery(busy, clock.now(), sequence=place))
    late = make_delivery(calm, clock.now())
    tried = {"attempts": 1, "tries": 1, "attempted_at": clock.now()}
    later = structs.replace(make_delivery(calm, clock.now()), due_at=clock.now() + HOUR, **tried)
    await rig.dispatch(later, late, *reversed(many))
    assert [one.delivery for one in await rig.due(each=2)] == [*many[:2], late]
    assert [one.delivery for one in await rig.due(each=2, limit=1)] == many[:1]
    assert [one.delivery for one in await rig.due(full=[busy.lane])] == [late]
    assert [one.webhook for one in await rig.due(full=[busy.lane])] == [calm]
    clock.advance(HOUR)
    assert [one.delivery for one in await rig.due(full=[busy.lane])] == [late, later]


async def test_due_deliveries_leave_out_full_shares(rig: Rig, clock: ManualClock) -> None:
    """The share of one owner's single tasks, whatever their hosts; not that of an owner whose name begins alike."""
    found = {}
    for owner, host in (("al", "a"), ("al", "b"), ("alice", "a"), ("", "a")):
        task_id = uuid4()
        webhook = await rig.hook(url=f"https://{host}.example.com/", owner=owner, task_id=task_id)
        found[owner, host] = make_delivery(webhook, clock.now(), task_id=task_id)
    found["al", "all"] = make_delivery(await rig.hook(owner="al"), clock.now())
    await rig.dispatch(*found.values())
    expected = [place for place in found if place not in (("al", "a"), ("al", "b"))]
    full = [share_of(found["al", "a"].lane)]
    assert {one.delivery.delivery_id for one in await rig.due(full=full)} == {
        found[place].delivery_id for place in expected
    }


async def test_owners_take_turns_however_much_is_due_for_one(rig: Rig, clock: ManualClock) -> None:
    """Its webhooks and its single tasks' count as one; an owner whose name begins alike is another."""
    found = {}
    for owner, count in (("ada", 30), ("ad", 2), ("", 1)):
        for place in range(count):
            clock.advance(timedelta(seconds=1))
            task_id = uuid4()
            own = {} if place % 2 else {"task_id": task_id, "url": f"https://{place}.example.com/"}
            webhook = await rig.hook(owner=owner, **own)
            found[owner, place] = make_delivery(webhook, clock.now(), task_id=task_id)
    await rig.dispatch(*found.values())
    names = {one.delivery_id: name for name, one in found.items()}
    due = [names[one.delivery.delivery_id] for one in await rig.due(limit=7)]
    assert due == [("ada", 0), ("ad", 0), ("", 0), ("ada", 1), ("ad", 1), ("ada", 2), ("ada", 3)]


async def test_due_deliveries_leave_out_full_owners(rig: Rig, clock: ManualClock) -> None:
    found = {}
    for owner in ("ada", "ad", ""):
        for task_id in (None, uuid4()):
            webhook = await rig.hook(owner=owner, task_id=task_id)
            found[owner, task_id] = make_delivery(webhook, clock.now(), task_id=task_id)
    await rig.dispatch(*found.values())
    for full in (["ada"], ["ad", ""], ["nobody"]):
        expected = {one.delivery_id for (owner, _), one in found.items() if owner not in full}
        assert {one.delivery.delivery_id for one in await rig.due(full_owners=full)} == expected


async def test_the_oldest_deliveries_of_all_slot_pools_come_first(rig: Rig, clock: ManualClock) -> None:
    found = []
    for _ in range(6):
        clock.advance(timedelta(seconds=1))
        found.append(make_delivery(await rig.hook(), clock.now()))
    await rig.dispatch(*found)
    assert [one.delivery for one in await rig.due()] == found
    assert [one.delivery for one in await rig.due(limit=3)] == found[:3]


async def test_nothing_of_a_paused_webhook_is_due(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook(status="paused")
    await rig.dispatch(make_delivery(webhook, clock.now()))
    assert await rig.due() == []
    await rig.store.change(webhook.webhook_id, lambda one: structs.replace(one, status="active"))
    assert len(await rig.due()) == 1


async def test_a_delivery_is_taken_once_and_again_if_it_was_not_settled(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    found = await rig.due()
    [taken] = await rig.store.take(found)
    assert (taken.delivery.attempts, taken.delivery.tries, taken.delivery.attempted_at) == (1, 1, clock.now())
    assert await rig.store.take(found) == []
    assert await rig.due() == []
    clock.advance(DELIVERY_LEASE)
    [again] = await rig.take()
    assert (again.delivery.delivery_id, again.delivery.attempts) == (taken.delivery.delivery_id, 2)
    assert again.delivery.message_id == taken.delivery.message_id
    assert not await rig.settle(taken.delivery, outcome(clock.now()))
    assert await rig.settle(again.delivery, outcome(clock.now()))
    assert not await rig.settle(again.delivery, outcome(clock.now(), error=REFUSED))


async def test_a_delivery_settled_late_is_not_taken_again(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    [taken] = await rig.take()
    clock.advance(DELIVERY_LEASE)
    found = await rig.due()
    assert await rig.settle(taken.delivery, outcome(clock.now()))
    assert await rig.store.take(found) == []
    [delivery] = await rig.deliveries(webhook)
    assert (delivery.status, delivery.attempts) == ("delivered", 1)


async def test_a_new_process_begins_what_was_under_way_and_waits_as_long_with_the_rest(
    rig: Rig, clock: ManualClock, make_engine: MakeEngine
) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()), make_delivery(webhook, clock.now()))
    refused, lost = await rig.take()
    await rig.settle(refused.delivery, outcome(clock.now(), due_in=HOUR, error=REFUSED))
    await rig.engine.close()
    engine = await open_after_the_end(make_engine, clock, DELIVERY_LEASE)
    again = Rig(engine, clock)
    assert [one.delivery.delivery_id for one in await again.take()] == [lost.delivery.delivery_id]
    assert await again.due() == []
    clock.advance(HOUR)
    assert refused.delivery.delivery_id in [one.delivery.delivery_id for one in await again.due()]


async def test_the_outcome_of_an_attempt_is_stored(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    [taken] = await rig.take()
    clock.advance(timedelta(seconds=1))
    how = outcome(clock.now(), due_in=HOUR, error=REFUSED, response_code=500, duration=0.75)
    assert await rig.settle(taken.delivery, how)
    expected = structs.replace(
        taken.delivery, due_at=clock.now() + HOUR, response_code=500, duration=0.75, error=REFUSED
    )
    assert await rig.deliveries(webhook) == [expected]
    assert await rig.due() == []
    clock.advance(HOUR)
    [taken] = await rig.take()
    assert (taken.delivery.attempts, taken.delivery.tries) == (2, 2)
    await rig.settle(taken.delivery, outcome(clock.now()))
    [delivered] = await rig.deliveries(webhook)
    assert (delivered.status, delivered.error, delivered.due_at) == ("delivered", None, clock.now())
    assert await rig.due() == []


async def test_deliveries_are_listed_newest_first_by_status_and_in_pages(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(*(make_delivery(webhook, clock.now(), sequence=place) for place in range(3)))
    [first, *_] = await rig.take()
    await rig.settle(first.delivery, outcome(clock.now()))
    page = await rig.store.find_deliveries(webhook.webhook_id, status=None, limit=2)
    assert [one.sequence for one in page.items] == [2, 1]
    page = await rig.store.find_deliveries(webhook.webhook_id, status=None, limit=2, cursor=page.next_cursor)
    assert ([one.sequence for one in page.items], page.next_cursor) == ([0], None)
    page = await rig.store.find_deliveries(webhook.webhook_id, status="pending", limit=9)
    assert [one.sequence for one in page.items] == [2, 1]
    assert (await rig.store.find_deliveries(uuid4(), status=None, limit=2)).items == []


async def test_a_redelivery_has_all_its_tries(rig: Rig, clock: ManualClock) -> None:
    webhook, other = await rig.hook(), await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    [taken] = await rig.take()
    await rig.settle(taken.delivery, outcome(clock.now(), error=REFUSED))
    clock.advance(HOUR)
    asked = await rig.store.redeliver(webhook.webhook_id, taken.delivery.delivery_id)
    assert (asked.status, asked.attempts, asked.tries, asked.due_at) == ("pending", 1, 0, clock.now())
    [taken] = await rig.take()
    assert (taken.delivery.attempts, taken.delivery.tries) == (2, 1)
    for webhook_id, delivery_id in [(other.webhook_id, asked.delivery_id), (webhook.webhook_id, uuid4())]:
        with pytest.raises(NotFound):
            await rig.store.redeliver(webhook_id, delivery_id)


async def test_a_webhook_that_fails_for_too_long_is_paused(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    for days in (2, 0.9, 0.1):
        [taken] = await rig.take()
        await rig.settle(taken.delivery, outcome(clock.now(), due_in=timedelta(days=days), error=REFUSED))
        found = await rig.get(webhook)
        assert (found.status, found.failing_since) == ("active", webhook.created_at)
        clock.advance(timedelta(days=days))
    [taken] = await rig.take()
    await rig.settle(taken.delivery, outcome(clock.now(), due_in=HOUR, error=REFUSED))
    assert await rig.get(webhook) == structs.replace(
        webhook, status="paused", reason="too long", failing_since=webhook.created_at
    )


async def test_a_success_ends_the_time_of_failures(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()), make_delivery(webhook, clock.now()))
    one, two = await rig.take()
    await rig.settle(one.delivery, outcome(clock.now(), due_in=4 * DAY, error=REFUSED))
    await rig.settle(two.delivery, outcome(clock.now()))
    assert await rig.get(webhook) == webhook
    clock.advance(4 * DAY)
    [taken] = await rig.take()
    await rig.settle(taken.delivery, outcome(clock.now(), error=REFUSED))
    found = await rig.get(webhook)
    assert (found.status, found.failing_since) == ("active", clock.now())


async def test_a_receiver_that_is_gone_pauses_its_webhook_but_not_one_of_a_single_task(
    rig: Rig, clock: ManualClock
) -> None:
    webhook, own = await rig.hook(), await rig.hook(task_id=uuid4())
    await rig.dispatch(make_delivery(webhook, clock.now()), make_delivery(own, clock.now()))
    for taken in await rig.take():
        await rig.settle(taken.delivery, outcome(clock.now(), error=REFUSED, pause="gone"))
    assert await rig.get(webhook) == structs.replace(webhook, status="paused", reason="gone", failing_since=clock.now())
    assert await rig.get(own) == own


@pytest.mark.parametrize("error", [None, REFUSED])
async def test_an_attempt_does_not_change_a_paused_webhook(rig: Rig, clock: ManualClock, error: Failure | None) -> None:
    webhook = await rig.hook(failing_since=clock.now())
    await rig.dispatch(make_delivery(webhook, clock.now()))
    [taken] = await rig.take()
    await rig.store.change(webhook.webhook_id, lambda one: structs.replace(one, status="paused"))
    assert await rig.settle(taken.delivery, outcome(clock.now(), error=error, pause=error and "gone"))
    found = await rig.get(webhook)
    assert (found.status, found.reason) == ("paused", None)
    assert found.failing_since == (error and clock.now())


async def test_old_deliveries_are_pruned(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(*(make_delivery(webhook, clock.now(), sequence=place) for place in range(4)))
    one, two, three, _ = await rig.take()
    await rig.settle(one.delivery, outcome(clock.now()))
    await rig.settle(two.delivery, outcome(clock.now(), error=REFUSED))
    await rig.settle(three.delivery, outcome(clock.now(), due_in=8 * DAY, error=REFUSED))
    assert await rig.store.prune(keep=7 * DAY, limit=100) == 0
    clock.advance(7 * DAY + DELIVERY_LEASE + timedelta(seconds=1))
    assert await rig.store.prune(keep=7 * DAY, limit=2) == 2
    assert await rig.store.prune(keep=7 * DAY, limit=2) == 1
    assert [one.sequence for one in await rig.deliveries(webhook)] == [2]


async def test_a_delivery_can_be_dropped(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    [due] = await rig.due()
    await rig.store.drop(due.delivery)
    assert await rig.deliveries(webhook) == []
