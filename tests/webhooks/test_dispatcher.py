"""The dispatcher: which webhooks get which events, and how it treats failing and slow receivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
import standardwebhooks
from msgspec import structs
from structlog.testing import capture_logs
from tests.stores import open_store
from tests.webhooks.rig import SECRET, Receivers, Rig, render

from tasker.errors import Unavailable
from tasker.model import Extra
from tasker.model.webhooks import DELIVERY_LEASE, Delivery, Webhook, WebhookSecret
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.rules.signing import new_secret
from tasker.testing import ManualClock, make_draft
from tasker.webhooks.dispatcher import Dispatcher
from tasker.webhooks.rules import PAUSE_AFTER, RETRY_WITHIN, Answer
from tasker.webhooks.slots import AT_ONCE, PER_RECEIVER, PER_SHARE, SLOW_AFTER, SLOW_PER_OWNER


@pytest.fixture
def receivers() -> Receivers:
    return Receivers()


@pytest.fixture
async def rig(tmp_path: Path, receivers: Receivers) -> AsyncIterator[Rig]:
    clock = ManualClock()
    async with open_store(tmp_path / "data" / "tasker.db", clock) as engine:
        rig = Rig(engine, clock, receivers)
        yield rig
        await rig.dispatcher.settle(cancel=True)  # or its close would wait for receivers that never answer
        await rig.dispatcher.close()


async def test_the_signature_is_that_of_the_body_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[dict[str, str], bytes]] = []

    async def post(_: str, headers: dict[str, str], body: bytes) -> Answer:
        sent.append((headers, body))
        return Answer(duration=0, status=200)

    rig.dispatcher = Dispatcher(rig.engine, rig.clock, Random(), post=post, render=render, name="one")
    await rig.hook()
    await rig.complete()
    await rig.work()
    [(headers, body)] = sent
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", _Then(rig.clock))
    assert standardwebhooks.Webhook(SECRET).verify(body, headers)["type"] == "task.completed"


async def test_a_message_carries_the_trace_of_its_task(rig: Rig, receivers: Receivers) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await rig.hook()
    await rig.complete(extra=Extra(traceparent=trace))
    await rig.complete()
    await rig.work()
    assert [told.headers.get("traceparent") for told in receivers.told] == [trace, None]


async def test_an_old_secret_signs_until_its_time_is_over(rig: Rig, receivers: Receivers) -> None:
    old = WebhookSecret(secret=new_secret(), expires_at=rig.clock.now() + timedelta(hours=1))
    await rig.hook(secrets=(WebhookSecret(secret=SECRET), old))
    await rig.complete()
    await rig.work()
    rig.clock.advance(timedelta(hours=1))
    await rig.complete()
    await rig.work()
    assert [len(told.headers["webhook-signature"].split()) for told in receivers.told] == [2, 1]


class _Then:
    """A clock's time, as the library asks for it."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def now(self, tz: Any = None) -> Any:
        return self._clock.now()

    def fromtimestamp(self, seconds: float, tz: Any = None) -> Any:
        from datetime import datetime

        return datetime.fromtimestamp(seconds, tz)


async def test_by_default_only_ends_are_sent_and_on_request_every_event(rig: Rig, receivers: Receivers) -> None:
    every = "https://every.example.com/"
    await rig.hook()
    await rig.hook(every, events=("created", "started", "retrying", "completed", "failed", "cancelled"))
    failed = await rig.driver.submit(make_draft(rig.clock.now()))
    await rig.driver.finish(await rig.driver.claim_one(), Failed(problem("task-failed", "no")))
    cancelled = await rig.driver.submit(make_draft(rig.clock.now()))
    await rig.engine.cancel(cancelled)
    await rig.work()
    told = [(one.url == every, *one.event) for one in receivers.told]
    assert sorted(told, key=str) == sorted(
        [
            (False, failed, "task.failed"),
            (False, cancelled, "task.cancelled"),
            (True, failed, "task.created"),
            (True, failed, "task.started"),
            (True, failed, "task.failed"),
            (True, cancelled, "task.created"),
            (True, cancelled, "task.cancelled"),
        ],
        key=str,
    )


async def test_each_filter_must_hold(rig: Rig, receivers: Receivers) -> None:
    for name, fields in {
        "type": {"type": "other"},
        "queue": {"queue": "other"},
        "tag": {"tag": "other"},
        "owner": {"owner": "eve"},
        "fits": {"type": "sum", "queue": "q", "tag": "b"},
        "all": {},
    }.items():
        await rig.hook(f"https://{name}.example.com/", **fields)
    await rig.complete(queue="q", tags=("a", "b"))
    await rig.work()
    assert sorted(one.url for one in receivers.told) == ["https://all.example.com/", "https://fits.example.com/"]


async def test_a_webhook_gets_its_owners_tasks_or_all_if_it_asked_for_them(rig: Rig, receivers: Receivers) -> None:
    await rig.hook("https://ada.example.com/", owner="ada")
    await rig.hook("https://nobody.example.com/")
    await rig.hook("https://everybody.example.com/", owner="ada", all_owners=True)
    for owner in ("ada", "eve", ""):
        await rig.engine.submit([structs.replace(make_draft(rig.clock.now()), owner=owner)])
        await rig.driver.finish(await rig.driver.claim_one(), Succeeded(b"6"))
    await rig.work()
    assert sorted(one.url[8:11] for one in receivers.told) == ["ada", "eve", "eve", "eve", "nob"]


async def test_events_before_a_webhook_are_not_sent_to_it(rig: Rig, receivers: Receivers) -> None:
    await rig.complete()
    rig.clock.advance(timedelta(seconds=5))
    await rig.hook()
    later = await rig.complete()
    await rig.work()
    assert receivers.events == [(later, "task.completed")]


async def test_events_of_an_erased_task_are_not_sent(rig: Rig, receivers: Receivers) -> None:
    webhook = await rig.hook()
    task_id = await rig.complete()
    await rig.dispatch()
    await rig.engine.delete(task_id)
    await rig.work()
    assert receivers.told == []
    assert await rig.deliveries(webhook) == []


@pytest.mark.parametrize("sequence", [0, 99])
async def test_an_event_that_is_no_longer_kept_is_not_sent(rig: Rig, receivers: Receivers, sequence: int) -> None:
    webhook = await rig.hook()
    task_id = await rig.complete()
    await rig.work()
    receivers.told.clear()
    lost = Delivery(
        delivery_id=uuid4(),
        webhook_id=webhook.webhook_id,
        task_id=task_id,
        sequence=sequence,
        event="completed",
        status="pending",
        lane=webhook.lane,
        created_at=rig.clock.now(),
        due_at=rig.clock.now(),
    )
    position = await rig.engine.webhooks.find_position("one")
    assert position is not None
    assert await rig.engine.webhooks.dispatch([lost], after=position.position, to="further")
    await rig.deliver()
    assert receivers.told == []
    assert [one.sequence for one in await rig.deliveries(webhook)] == [3]


async def test_each_attempt_is_counted_by_its_outcome(rig: Rig, receivers: Receivers) -> None:
    counted: list[str] = []
    rig.dispatcher = Dispatcher(
        rig.engine, rig.clock, Random(), post=receivers.post, render=render, name="one", count=counted.append
    )
    webhook = await rig.hook()
    receivers.answers[webhook.url] = 500
    await rig.complete()
    await rig.work()
    receivers.answers.clear()
    rig.clock.advance(RETRY_WITHIN[0])
    await rig.work()
    assert counted == ["refused", "delivered"]


@pytest.mark.parametrize(
    ("fault", "logged"),
    [(Unavailable("cut off"), "webhook.delivery_not_stored"), (RuntimeError("ours"), "webhook.delivery_failed")],
)
async def test_an_attempt_that_could_not_be_stored_is_repeated_after_its_lease(
    rig: Rig, receivers: Receivers, monkeypatch: pytest.MonkeyPatch, fault: Exception, logged: str
) -> None:
    async def away(*_: Any, **__: Any) -> bool:
        raise fault

    webhook = await rig.hook()
    await rig.complete()
    await rig.dispatch()
    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(rig.engine.webhooks, "settle", away)
        await rig.deliver()
    assert [entry["event"] for entry in logs] == [logged]
    await rig.deliver()
    assert len(receivers.told) == 1
    rig.clock.advance(DELIVERY_LEASE)
    await rig.deliver()
    assert [one.headers["webhook-id"] for one in receivers.told] == [receivers.told[0].headers["webhook-id"]] * 2
    [delivery] = await rig.deliveries(webhook)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)


async def test_no_fault_ends_the_background_loops(
    rig: Rig, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_LOOK", "_LOOK_TO_HELP"):
        monkeypatch.setattr(f"tasker.webhooks.dispatcher.{name}", 0.01)
    faults = {
        "find_position": [Unavailable("away"), RuntimeError("ours")],
        "find_due": [RuntimeError("ours"), Unavailable("")],
    }
    for name, left in faults.items():
        monkeypatch.setattr(rig.engine.webhooks, name, failing(getattr(rig.engine.webhooks, name), left))
    await rig.hook()
    told = await rig.complete()
    with capture_logs() as logs:
        async with rig.running(), asyncio.timeout(30):
            while not receivers.told or any(faults.values()):
                await asyncio.sleep(0.01)
    assert receivers.events == [(told, "task.completed")]
    assert faults == {"find_position": [], "find_due": []}
    assert sorted(entry["event"] for entry in logs) == ["webhooks.failed"] * 2 + ["webhooks.waiting"] * 2


def failing(work: Callable[..., Awaitable[Any]], faults: list[Exception]) -> Callable[..., Awaitable[Any]]:
    """Return the function, which first raises each of these faults."""

    async def first_fail(*given: Any, **named: Any) -> Any:
        if faults:
            raise faults.pop(0)
        return await work(*given, **named)

    return first_fail


@pytest.mark.parametrize("answers", [True, False])
async def test_closing_gives_requests_in_flight_a_moment(
    rig: Rig, receivers: Receivers, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr("tasker.webhooks.dispatcher._FINISH_WITHIN", 10 if answers else 0.05)
    webhook = await rig.hook()
    receivers.held[webhook.url] = asyncio.Event()
    await rig.complete()
    await rig.dispatch()
    await rig.dispatcher.deliver()
    async with asyncio.timeout(30):
        while not receivers.told:
            await asyncio.sleep(0)
        closing = asyncio.create_task(rig.dispatcher.close())
        await asyncio.sleep(0)
        if answers:
            receivers.held[webhook.url].set()
        await closing
    assert receivers.under_way == 0
    assert [one.status for one in await rig.deliveries(webhook)] == ["delivered" if answers else "pending"]


async def test_a_receiver_that_works_again_gets_what_it_missed(rig: Rig, receivers: Receivers) -> None:
    webhook = await rig.hook()
    receivers.answers[webhook.url] = 503
    missed = [await rig.complete() for _ in range(3)]
    await rig.work()
    receivers.answers.clear()
    receivers.told.clear()
    rig.clock.advance(RETRY_WITHIN[0])
    await rig.work()
    assert {task_id for task_id, _ in receivers.events} == set(missed)
    assert {one.status for one in await rig.deliveries(webhook)} == {"delivered"}


async def test_a_redelivery_has_all_its_tries(rig: Rig, receivers: Receivers) -> None:
    webhook = await rig.hook()
    receivers.answers[webhook.url] = 500
    await rig.complete()
    await rig.work()
    for pause in RETRY_WITHIN:
        rig.clock.advance(pause)
        await rig.work()
    [failed] = await rig.deliveries(webhook)
    assert failed.status == "failed"
    await rig.engine.webhooks.redeliver(webhook.webhook_id, failed.delivery_id)
    await rig.work()
    [again] = await rig.deliveries(webhook)
    assert (again.status, again.due_at) == ("pending", rig.clock.now() + RETRY_WITHIN[0])


async def test_a_webhook_that_fails_for_days_is_paused_until_it_is_resumed(rig: Rig, receivers: Receivers) -> None:
    webhook = await rig.hook()
    receivers.answers[webhook.url] = 500
    await rig.complete()
    await rig.work()
    rig.clock.advance(PAUSE_AFTER)
    await rig.complete()
    await rig.work()
    found = await rig.engine.webhooks.find(webhook.webhook_id)
    assert found is not None
    assert (found.status, found.reason) == ("paused", "nothing could be delivered for 3 days")
    receivers.told.clear()
    last = await rig.complete()
    rig.clock.advance(timedelta(hours=3))
    await rig.work()
    assert receivers.told == []
    receivers.answers.clear()
    await rig.engine.webhooks.change(webhook.webhook_id, lambda one: structs.replace(one, status="active"))
    await rig.work()
    assert (last, "task.completed") in receivers.events


async def test_a_slow_receiver_delays_no_other_and_has_few_requests_at_a_time(rig: Rig, receivers: Receivers) -> None:
    slow, quick = await rig.hook("https://slow.example.com/"), await rig.hook("https://quick.example.com/")
    receivers.held[slow.url] = asyncio.Event()
    for _ in range(PER_RECEIVER * 3):
        await rig.complete()
    await rig.dispatch()

    def told(webhook: Webhook) -> int:
        return sum(one.url == webhook.url for one in receivers.told)

    async with asyncio.timeout(30):
        while told(slow) < PER_RECEIVER or told(quick) < PER_RECEIVER * 3:
            await rig.dispatcher.deliver()
            await asyncio.sleep(0.001)
    for _ in range(10):
        await rig.dispatcher.deliver()
        await asyncio.sleep(0.001)
    assert told(slow) == PER_RECEIVER
    receivers.held[slow.url].set()
    await rig.dispatcher.settle()
    await rig.deliver()
    assert {one.status for one in await rig.deliveries(slow)} == {"delivered"}


async def test_many_deliveries_are_stored_in_steps(
    rig: Rig, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(9):
        await rig.hook()
    expected = {await rig.complete() for _ in range(7)}
    stored: list[int] = []
    dispatch = rig.engine.webhooks.dispatch

    async def counted(found: Sequence[Delivery], *, after: str | None, to: str) -> bool:
        stored.append(len(found))
        return await dispatch(found, after=after, to=to)

    monkeypatch.setattr(rig.engine.webhooks, "dispatch", counted)
    monkeypatch.setattr("tasker.webhooks.dispatcher.STORED_AT_ONCE", 20)
    await rig.dispatch()
    assert stored[:3] == [27, 27, 9]
    await rig.deliver()
    assert sorted(receivers.events) == sorted((task_id, "task.completed") for task_id in expected for _ in range(9))


async def test_a_failing_receiver_has_one_request_at_a_time(rig: Rig, receivers: Receivers) -> None:
    webhook = await rig.hook()
    receivers.answers[webhook.url] = 500
    await rig.complete()
    await rig.work()
    for _ in range(5):
        await rig.complete()
    await rig.dispatch()
    receivers.most = 0
    receivers.answers.clear()
    await rig.dispatcher.deliver()
    await rig.dispatcher.settle()
    assert receivers.most == 1
    assert await rig.dispatcher.deliver() == 4, "and all that are left once it works again"
    await rig.dispatcher.settle()


async def test_a_receiver_without_free_slots_leaves_the_rest_to_others(
    rig: Rig, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.webhooks.slots.AT_ONCE", PER_RECEIVER + 2)
    slow = await rig.hook("https://slow.example.com/", type="sum")
    receivers.held[slow.url] = asyncio.Event()
    for _ in range(PER_RECEIVER * 2):
        await rig.complete()
    await rig.dispatch()
    while await rig.dispatcher.deliver():
        pass
    rig.clock.advance(timedelta(seconds=10))
    quick = await rig.hook("https://quick.example.com/")
    last = await rig.complete()
    await rig.dispatch()
    assert await rig.dispatcher.deliver() == 1
    async with asyncio.timeout(30):
        while quick.url not in {one.url for one in receivers.told}:
            await asyncio.sleep(0)
    assert receivers.told[-1].event == (last, "task.completed")
    receivers.held[slow.url].set()
    await rig.dispatcher.settle()


async def test_single_tasks_of_one_owner_leave_slots_to_others(rig: Rig, receivers: Receivers) -> None:
    """However many hosts they notify, none of which answers."""
    hold = asyncio.Event()
    for place in range(AT_ONCE):
        url = f"https://r{place}.example.com/"
        own = Webhook(webhook_id=uuid4(), url=url, events=("completed",), created_at=rig.clock.now(), owner="mallory")
        receivers.held[url] = hold
        await rig.engine.submit([structs.replace(make_draft(rig.clock.now()), webhook=own, owner="mallory")])
        await rig.driver.finish(await rig.driver.claim_one(), Succeeded(b"6"))
    rig.clock.advance(timedelta(seconds=2))
    other = await rig.hook("https://other.example.com/")
    task_id = await rig.complete()
    await rig.dispatch()
    async with asyncio.timeout(30):
        while (task_id, "task.completed") not in receivers.events:
            await rig.dispatcher.deliver()
            await asyncio.sleep(0.001)
    assert receivers.under_way == PER_SHARE
    hold.set()
    await rig.dispatcher.settle()
    await rig.deliver()
    assert len(receivers.told) == AT_ONCE + 1
    assert len(await rig.deliveries(other)) == 1


async def test_the_number_of_requests_is_bounded(rig: Rig, receivers: Receivers) -> None:
    hold = asyncio.Event()
    for place in range(AT_ONCE // PER_RECEIVER + 3):
        url = f"https://r{place}.example.com/"
        await rig.hook(url)
        receivers.held[url] = hold
    for _ in range(PER_RECEIVER):
        await rig.complete()
    await rig.dispatch()
    while await rig.dispatcher.deliver():
        pass
    async with asyncio.timeout(30):
        while receivers.under_way < AT_ONCE:
            await asyncio.sleep(0.01)
    assert not await rig.dispatcher.deliver()
    assert receivers.most == AT_ONCE
    hold.set()
    await rig.dispatcher.settle()
    await rig.deliver()
    assert len(receivers.told) == PER_RECEIVER * (AT_ONCE // PER_RECEIVER + 3)


async def begin_all(rig: Rig) -> None:
    """Begin requests until no slot is free, and all in flight wait for a receiver that is held."""
    async with asyncio.timeout(30):
        while not rig.is_quiet or await rig.dispatcher.deliver():
            await asyncio.sleep(0.001)


async def hold_hooks(rig: Rig, receivers: Receivers, owner: str, count: int) -> asyncio.Event:
    """Create webhooks of an owner whose receivers do not answer until the event."""
    hold = asyncio.Event()
    for place in range(count):
        webhook = await rig.hook(f"https://{owner}{place}.example.com/", owner=owner)
        receivers.held[webhook.url] = hold
    return hold


def told_of(receivers: Receivers, owner: str) -> int:
    """Return how many requests an owner's receivers have had."""
    return sum(one.url.startswith(f"https://{owner}") for one in receivers.told)


async def test_an_owner_with_silent_receivers_delays_no_other(rig: Rig, receivers: Receivers) -> None:
    rig.has_owners = True
    await hold_hooks(rig, receivers, "ada", AT_ONCE + 36)
    for _ in range(3):
        await rig.complete(owner="ada")
    await rig.dispatch()
    await begin_all(rig)
    assert told_of(receivers, "ada") == AT_ONCE // 2
    await rig.hook("https://bob.example.com/", owner="bob")
    expected = {await rig.complete(owner="bob") for _ in range(5)}
    await rig.dispatch()
    await begin_all(rig)
    assert {one.event[0] for one in receivers.told if "bob" in one.url} == expected
    assert told_of(receivers, "ada") == AT_ONCE // 2


async def test_each_of_many_owners_has_a_share_and_so_has_the_next(rig: Rig, receivers: Receivers) -> None:
    rig.has_owners = True
    owners = [f"o{letter}" for letter in "abcdef"]
    for place, owner in enumerate(owners, start=1):
        await hold_hooks(rig, receivers, owner, AT_ONCE)
        await rig.complete(owner=owner)
        await rig.dispatch()
        await begin_all(rig)
        assert told_of(receivers, owner) == AT_ONCE // 2**place
    assert receivers.under_way == AT_ONCE - 1


async def test_owners_that_come_at_once_have_equal_shares(rig: Rig, receivers: Receivers) -> None:
    rig.has_owners = True
    owners = ("ada", "bob", "cy")
    for owner in owners:
        await hold_hooks(rig, receivers, owner, AT_ONCE)
        await rig.complete(owner=owner)
    await rig.dispatch()
    await begin_all(rig)
    assert [told_of(receivers, owner) for owner in owners] == [AT_ONCE // 4] * 3


@pytest.mark.parametrize("status", [500, 200], ids=["failing", "slow"])
async def test_failing_or_slow_receivers_of_an_owner_have_few_slots_and_its_others_the_rest(
    rig: Rig, receivers: Receivers, status: int
) -> None:
    rig.has_owners = True
    receivers.duration = SLOW_AFTER
    hold = await hold_hooks(rig, receivers, "ada", SLOW_PER_OWNER * 3)
    receivers.answers.update(dict.fromkeys(receivers.held, status))
    hold.set()
    await rig.complete(owner="ada")
    await rig.work()
    receivers.duration = 0.1
    receivers.told.clear()
    hold.clear()
    quick = await rig.hook("https://quick.example.com/", owner="ada")
    await rig.complete(owner="ada")
    await rig.dispatch()
    await begin_all(rig)
    assert told_of(receivers, "ada") == SLOW_PER_OWNER
    assert told_of(receivers, "quick") == 1
    assert [one.status for one in await rig.deliveries(quick)] == ["delivered"]
    receivers.answers.clear()
    hold.set()
    await rig.dispatcher.settle()
    await rig.deliver()
    assert told_of(receivers, "ada") == SLOW_PER_OWNER * 3


async def test_without_owners_one_may_have_every_slot(rig: Rig, receivers: Receivers) -> None:
    hold = await hold_hooks(rig, receivers, "", AT_ONCE + 10)
    receivers.answers.update(dict.fromkeys(receivers.held, 500))
    hold.set()
    await rig.complete()
    await rig.work()
    hold.clear()
    await rig.complete()
    await rig.dispatch()
    await begin_all(rig)
    assert receivers.under_way == AT_ONCE
