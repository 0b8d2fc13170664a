"""Engine.webhooks: an event becomes one delivery for each webhook, and a delivery is tried by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec import structs
from tests.contract.conftest import MakeEngine, open_after_the_end

from tasker.engine import DELIVERY_LEASE, Engine
from tasker.errors import Conflict, Invalid, NotFound
from tasker.model import Draft
from tasker.model.webhooks import Delivery, DeliveryOutcome, DueDelivery, Failure, Webhook, WebhookSecret, share_of
from tasker.testing import Driver, ManualClock, make_draft, make_key

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
REFUSED = Failure(name="refused", detail="the receiver answered 500")


def make_webhook(now: datetime, **fields: Any) -> Webhook:
    given = {
        "webhook_id": uuid4(), "url": "https://example.com/", "events": ("completed", "failed"), "created_at": now,
        "secrets": (WebhookSecret(secret="whsec_new"), WebhookSecret(secret="whsec_old", expires_at=now)), **fields,
    }  # fmt: skip
    return Webhook(**given)


def make_delivery(webhook: Webhook, now: datetime, *, sequence: int = 3, task_id: UUID | None = None) -> Delivery:
    return Delivery(
        delivery_id=uuid4(), webhook_id=webhook.webhook_id, task_id=task_id or uuid4(), sequence=sequence,
        event="completed", status="pending", lane=webhook.lane, created_at=now, due_at=now,
    )  # fmt: skip


def outcome(
    now: datetime, *, due_in: timedelta | None = None, error: Failure | None = None, **more: Any
) -> DeliveryOutcome:
    """Return the outcome of an attempt: delivered, failed for good, or to be tried again."""
    status = "delivered" if error is None else "failed" if due_in is None else "pending"
    due_at = None if due_in is None else now + due_in
    given = {"status": status, "at": now, "due_at": due_at, "response_code": 200, "duration": 0.25, "error": error}
    return DeliveryOutcome(**{**given, **more})


class Rig:
    """An engine with the steps of dispatching and delivering in short."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock
        self.book = engine.webhooks
        self.position: str | None = None

    async def hook(self, **fields: Any) -> Webhook:
        webhook = make_webhook(self.clock.now(), **fields)
        await self.book.create(webhook, most=1000)
        return webhook

    async def dispatch(self, *found: Delivery) -> None:
        to = uuid4().hex
        assert await self.book.dispatch(found, after=self.position, to=to)
        self.position = to

    async def deliveries(self, webhook: Webhook) -> list[Delivery]:
        return (await self.book.find_deliveries(webhook.webhook_id, status=None, limit=100)).items

    async def due(self, *, full: Sequence[str] = (), each: int = 10, limit: int = 100) -> list[DueDelivery]:
        return await self.book.find_due(full=full, each=each, limit=limit)

    async def take(self) -> list[DueDelivery]:
        return await self.book.take(await self.due())

    async def settle(self, delivery: Delivery, how: DeliveryOutcome) -> bool:
        return await self.book.settle(delivery, how, failing_before=how.at - 3 * DAY, too_long="too long")

    async def get(self, webhook: Webhook) -> Webhook:
        found = await self.book.find(webhook.webhook_id)
        assert found is not None
        return found


@pytest.fixture
def rig(engine: Engine, clock: ManualClock) -> Rig:
    return Rig(engine, clock)


# webhooks


async def test_a_webhook_is_kept_as_it_is(rig: Rig, clock: ManualClock) -> None:
    plain = await rig.hook()
    full = await rig.hook(
        owner="ada", type="sum", queue="q", tag="t", description="Ünï", status="paused", reason="why",
        failing_since=clock.now(), secrets=(),
    )  # fmt: skip
    assert await rig.get(plain) == plain
    assert await rig.get(full) == full
    assert await rig.book.find(uuid4()) is None


async def test_an_owner_has_so_many_and_no_more(rig: Rig, clock: ManualClock) -> None:
    await rig.hook(owner="ada")
    with pytest.raises(Conflict):
        await rig.book.create(make_webhook(clock.now(), owner="ada"), most=1)
    await rig.book.create(make_webhook(clock.now(), owner="eve"), most=1)
    assert len((await rig.book.find_many(owner=None, limit=9)).items) == 2
    await rig.hook(owner="bob", task_id=uuid4())  # that comes and goes with its task
    await rig.book.create(make_webhook(clock.now(), owner="bob"), most=1)


async def test_webhooks_are_listed_newest_first_by_owner_and_in_pages(rig: Rig) -> None:
    hooks = [await rig.hook(owner=owner) for owner in ("ada", "", "ada", "eve")]
    await rig.hook(task_id=uuid4())
    page = await rig.book.find_many(owner=None, limit=3)
    assert page.items == [hooks[3], hooks[2], hooks[1]]
    assert page.next_cursor is not None
    last = await rig.book.find_many(owner=None, limit=3, cursor=page.next_cursor)
    assert (last.items, last.next_cursor) == ([hooks[0]], None)
    assert (await rig.book.find_many(owner="ada", limit=9)).items == [hooks[2], hooks[0]]
    with pytest.raises(Invalid):
        await rig.book.find_many(owner=None, limit=3, cursor="nonsense")


async def test_a_change_is_made_of_what_is_there(rig: Rig) -> None:
    webhook = await rig.hook()
    changed = await rig.book.change(webhook.webhook_id, lambda one: structs.replace(one, url=one.url + "new"))
    assert changed == structs.replace(webhook, url="https://example.com/new")
    assert await rig.get(webhook) == changed

    def refuse(_: Webhook) -> Webhook:
        raise Invalid("no")

    with pytest.raises(Invalid):
        await rig.book.change(webhook.webhook_id, refuse)
    with pytest.raises(NotFound):
        await rig.book.change(uuid4(), lambda one: one)
    assert await rig.get(webhook) == changed


async def test_a_webhook_goes_with_its_deliveries(rig: Rig, clock: ManualClock) -> None:
    gone, stays = await rig.hook(), await rig.hook()
    await rig.dispatch(make_delivery(gone, clock.now()), make_delivery(stays, clock.now()))
    await rig.book.delete(gone.webhook_id)
    assert await rig.book.find(gone.webhook_id) is None
    assert await rig.deliveries(gone) == []
    assert [one.webhook for one in await rig.due()] == [stays]
    with pytest.raises(NotFound):
        await rig.book.delete(gone.webhook_id)


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
    assert await rig.book.find_hearing([alone.task_id]) == [mine[0]]
    assert await rig.book.find_hearing([]) == []
    await rig.dispatch(make_delivery(mine[0], clock.now(), task_id=alone.task_id))
    await rig.engine.cancel(alone.task_id)
    await rig.engine.delete(alone.task_id)
    assert await rig.book.find(hooks[0].webhook_id) is None
    assert await rig.deliveries(hooks[0]) == []
    assert await rig.get(hooks[1]) == mine[1]


async def test_a_submission_that_was_made_before_brings_none_again(rig: Rig, clock: ManualClock) -> None:
    draft = structs.replace(
        make_draft(clock.now(), idempotency=make_key(clock.now())), webhook=make_webhook(clock.now())
    )
    again = structs.replace(draft, task_id=uuid4(), webhook=make_webhook(clock.now()))
    await rig.engine.submit([draft])
    [receipt] = await rig.engine.submit([again])
    assert receipt.outcome == "replayed"
    assert again.webhook is not None
    assert await rig.book.find(again.webhook.webhook_id) is None


async def test_a_submission_that_joins_another_task_has_its_receiver_told_of_that_one_once(
    rig: Rig, clock: ManualClock
) -> None:
    def draft(webhook: Webhook | None) -> Draft:
        return structs.replace(make_draft(clock.now()), unique_key="k", webhook=webhook)

    first = draft(None)
    await rig.engine.submit([first])
    mine, again = make_webhook(clock.now()), make_webhook(clock.now())
    for webhook in (mine, again, make_webhook(clock.now(), url="https://other.example.com/")):
        [receipt] = await rig.engine.submit([draft(webhook)])
        assert (receipt.outcome, receipt.task_id) == ("joined", first.task_id)
    found = await rig.book.find_hearing([first.task_id])
    assert [one.url for one in found] == ["https://example.com/", "https://other.example.com/"]
    assert found[0] == structs.replace(mine, task_id=first.task_id)


# dispatching


async def test_it_begins_at_the_beginning_and_goes_on_where_it_was(rig: Rig, make_engine: MakeEngine) -> None:
    turn = await rig.book.turn("one")
    assert turn is not None
    assert (turn.position, turn.is_idle) == (None, True)
    await rig.hook()
    await rig.dispatch()
    turn = await rig.book.turn("one")
    assert turn is not None
    assert (turn.position, turn.is_idle) == (rig.position, False)


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


async def test_who_is_behind_changes_nothing(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch()
    assert not await rig.book.dispatch([make_delivery(webhook, clock.now())], after=None, to="elsewhere")
    assert not await rig.book.dispatch([make_delivery(webhook, clock.now())], after="elsewhere", to="elsewhere")
    assert rig.position is not None
    assert not await rig.book.dispatch([make_delivery(webhook, clock.now())], after="elsewhere", to=rig.position)
    assert await rig.deliveries(webhook) == []
    turn = await rig.book.turn("one")
    assert turn is not None
    assert turn.position == rig.position


async def test_a_webhook_that_is_erased_meanwhile_is_told_nothing(rig: Rig, clock: ManualClock) -> None:
    gone, stays = await rig.hook(), await rig.hook()
    await rig.book.delete(gone.webhook_id)
    await rig.dispatch(make_delivery(gone, clock.now()), make_delivery(stays, clock.now()))
    assert await rig.deliveries(gone) == []
    assert len(await rig.deliveries(stays)) == 1


async def test_of_many_processes_one_goes_on_with_the_journal_until_it_is_silent(
    rig: Rig, make_engine: MakeEngine, clock: ManualClock
) -> None:
    if not rig.engine.is_shared:
        pytest.skip("one process has the store alone")
    other = make_engine()
    await other.open()
    await rig.hook()
    assert await rig.book.turn("one") is not None
    assert await other.webhooks.turn("two") is None
    clock.advance(timedelta(seconds=6))
    assert await rig.book.turn("one") is not None
    clock.advance(timedelta(seconds=6))
    assert await other.webhooks.turn("two") is None
    clock.advance(timedelta(seconds=5))
    assert await other.webhooks.turn("two") is not None
    assert await rig.book.turn("one") is None


async def test_of_many_that_come_at_the_same_time_one_goes_on(rig: Rig, make_engine: MakeEngine) -> None:
    if not rig.engine.is_shared:
        pytest.skip("one process has the store alone")
    await rig.hook()
    turns = await asyncio.gather(*(rig.book.turn(str(place)) for place in range(8)))
    assert len([turn for turn in turns if turn is not None]) == 1


# delivering


async def test_what_is_due_is_found_oldest_first_a_few_of_each_lane(rig: Rig, clock: ManualClock) -> None:
    busy, calm = await rig.hook(), await rig.hook()
    many = []
    for place in range(5):
        clock.advance(timedelta(seconds=1))
        many.append(make_delivery(busy, clock.now(), sequence=place))
    late = make_delivery(calm, clock.now())
    later = structs.replace(make_delivery(calm, clock.now()), due_at=clock.now() + HOUR)
    await rig.dispatch(later, late, *reversed(many))
    assert [one.delivery for one in await rig.due(each=2)] == [*many[:2], late]
    assert [one.delivery for one in await rig.due(each=2, limit=1)] == many[:1]
    assert [one.delivery for one in await rig.due(full=[busy.lane])] == [late]
    assert [one.webhook for one in await rig.due(full=[busy.lane])] == [calm]
    clock.advance(HOUR)
    assert [one.delivery for one in await rig.due(full=[busy.lane])] == [late, later]


async def test_what_is_due_is_found_without_a_share_that_is_full(rig: Rig, clock: ManualClock) -> None:
    """That of one owner's single tasks, whatever host they tell; not of another whose name begins alike."""
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


async def test_of_all_lanes_the_oldest_come_first(rig: Rig, clock: ManualClock) -> None:
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
    await rig.book.change(webhook.webhook_id, lambda one: structs.replace(one, status="active"))
    assert len(await rig.due()) == 1


async def test_a_delivery_is_taken_once_and_again_when_nobody_has_settled_it(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    found = await rig.due()
    [taken] = await rig.book.take(found)
    assert (taken.delivery.attempts, taken.delivery.tries, taken.delivery.attempted_at) == (1, 1, clock.now())
    assert await rig.book.take(found) == []
    assert await rig.due() == []
    clock.advance(DELIVERY_LEASE)
    [again] = await rig.take()
    assert (again.delivery.delivery_id, again.delivery.attempts) == (taken.delivery.delivery_id, 2)
    assert again.delivery.message_id == taken.delivery.message_id
    assert not await rig.settle(taken.delivery, outcome(clock.now()))
    assert await rig.settle(again.delivery, outcome(clock.now()))
    assert not await rig.settle(again.delivery, outcome(clock.now(), error=REFUSED))


async def test_one_that_was_settled_late_is_not_taken_again(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    [taken] = await rig.take()
    clock.advance(DELIVERY_LEASE)
    found = await rig.due()
    assert await rig.settle(taken.delivery, outcome(clock.now()))
    assert await rig.book.take(found) == []
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
    engine = make_engine()
    await open_after_the_end(engine, clock, DELIVERY_LEASE)
    again = Rig(engine, clock)
    assert [one.delivery.delivery_id for one in await again.take()] == [lost.delivery.delivery_id]
    assert await again.due() == []
    clock.advance(HOUR)
    assert refused.delivery.delivery_id in [one.delivery.delivery_id for one in await again.due()]


async def test_how_it_went_is_kept(rig: Rig, clock: ManualClock) -> None:
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
    page = await rig.book.find_deliveries(webhook.webhook_id, status=None, limit=2)
    assert [one.sequence for one in page.items] == [2, 1]
    page = await rig.book.find_deliveries(webhook.webhook_id, status=None, limit=2, cursor=page.next_cursor)
    assert ([one.sequence for one in page.items], page.next_cursor) == ([0], None)
    page = await rig.book.find_deliveries(webhook.webhook_id, status="pending", limit=9)
    assert [one.sequence for one in page.items] == [2, 1]
    assert (await rig.book.find_deliveries(uuid4(), status=None, limit=2)).items == []


async def test_one_is_delivered_again_with_all_its_tries_when_it_is_asked_for(rig: Rig, clock: ManualClock) -> None:
    webhook, other = await rig.hook(), await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    [taken] = await rig.take()
    await rig.settle(taken.delivery, outcome(clock.now(), error=REFUSED))
    clock.advance(HOUR)
    asked = await rig.book.redeliver(webhook.webhook_id, taken.delivery.delivery_id)
    assert (asked.status, asked.attempts, asked.tries, asked.due_at) == ("pending", 1, 0, clock.now())
    [taken] = await rig.take()
    assert (taken.delivery.attempts, taken.delivery.tries) == (2, 1)
    for webhook_id, delivery_id in [(other.webhook_id, asked.delivery_id), (webhook.webhook_id, uuid4())]:
        with pytest.raises(NotFound):
            await rig.book.redeliver(webhook_id, delivery_id)


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
async def test_a_webhook_that_somebody_has_paused_stays_as_it_is_however_an_attempt_ends(
    rig: Rig, clock: ManualClock, error: Failure | None
) -> None:
    webhook = await rig.hook(failing_since=clock.now())
    await rig.dispatch(make_delivery(webhook, clock.now()))
    [taken] = await rig.take()
    await rig.book.change(webhook.webhook_id, lambda one: structs.replace(one, status="paused"))
    assert await rig.settle(taken.delivery, outcome(clock.now(), error=error, pause=error and "gone"))
    found = await rig.get(webhook)
    assert (found.status, found.reason) == ("paused", None)
    assert found.failing_since == (error and clock.now())


async def test_what_has_ended_or_waits_in_vain_is_pruned(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(*(make_delivery(webhook, clock.now(), sequence=place) for place in range(4)))
    one, two, three, _ = await rig.take()
    await rig.settle(one.delivery, outcome(clock.now()))
    await rig.settle(two.delivery, outcome(clock.now(), error=REFUSED))
    await rig.settle(three.delivery, outcome(clock.now(), due_in=8 * DAY, error=REFUSED))
    assert await rig.book.prune(keep=7 * DAY, limit=100) == 0
    clock.advance(7 * DAY + DELIVERY_LEASE + timedelta(seconds=1))
    assert await rig.book.prune(keep=7 * DAY, limit=2) == 2
    assert await rig.book.prune(keep=7 * DAY, limit=2) == 1
    assert [one.sequence for one in await rig.deliveries(webhook)] == [2]


async def test_a_delivery_can_be_dropped(rig: Rig, clock: ManualClock) -> None:
    webhook = await rig.hook()
    await rig.dispatch(make_delivery(webhook, clock.now()))
    [due] = await rig.due()
    await rig.book.drop(due.delivery)
    assert await rig.deliveries(webhook) == []
