"""A broken link to the database at the worst moment, a commit's: nothing is lost, done twice or reported wrongly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from msgspec import structs
from tests.contract.conftest import Changes
from tests.contract.steps import (
    child_drafts,
    claim_children,
    new_children,
    new_question,
    new_step,
    one_step,
    park,
    put,
    start,
)
from tests.contract.webhooks import make_webhook
from tests.crash.proxy import Proxy
from tests.postgres import cluster

from tasker.clock import SystemClock
from tasker.engines.postgres import PostgresEngine, open_postgres
from tasker.engines.postgres import connections as connections_module
from tasker.errors import Conflict, NotFound, Unavailable
from tasker.model import Change, NewEvent, Report, RetryPolicy, Status, new_task_id
from tasker.model.steps import Forget
from tasker.rules.lifecycle import Cancelled, Failed, Released, Succeeded, problem
from tasker.service.keys import Keys, NewKey
from tasker.testing import Driver, make_draft, make_key

MOMENTS = pytest.mark.parametrize("when", ["before", "after"])
"""The commit never arrives; it does, and its reply is lost."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    server = cluster()
    with Proxy(server.fresh_database()) as proxy:
        yield proxy


@pytest.fixture
async def engine(proxy: Proxy) -> AsyncIterator[PostgresEngine]:
    async with open_postgres(proxy.url) as engine:
        yield engine
        proxy.heal()


@pytest.fixture
def driver(engine: PostgresEngine) -> Driver:
    return Driver(engine, SystemClock())


async def _count(proxy: Proxy, query: str) -> int:
    connection = await asyncpg.connect(proxy.url)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


@MOMENTS
async def test_a_submission_is_stored_once(driver: Driver, proxy: Proxy, when) -> None:
    proxy.cut(when, "INSERT")
    key = make_key(datetime.now(UTC))
    drafts = [make_draft(datetime.now(UTC)), make_draft(datetime.now(UTC), idempotency=key)]
    receipts = await asyncio.gather(*(driver.engine.submit([draft]) for draft in drafts))
    assert proxy.cut_off == 1
    assert [(receipt.task_id, receipt.outcome) for [receipt] in receipts] == [
        (draft.task_id, "stored") for draft in drafts
    ]
    assert await _count(proxy, "SELECT count(*) FROM tasker.task") == 2
    assert await _count(proxy, "SELECT count(*) FROM tasker.pgqueuer") == 2
    assert len(await driver.claim(10)) == 2


@MOMENTS
async def test_a_key_is_stored_once(engine: PostgresEngine, proxy: Proxy, when) -> None:
    """The answer to the first try may be lost: the second finds the key. Another key of its id is refused."""
    proxy.cut(when, "INSERT")
    key, _ = await Keys(engine.keys, SystemClock(), is_shared=True).create(NewKey(scopes=("read",)))
    assert proxy.cut_off == 1
    assert await engine.keys.find_all() == [key]
    with pytest.raises(Conflict):
        await engine.keys.add(structs.replace(key, scopes=("admin",)))
    assert await engine.keys.find_all() == [key]


@MOMENTS
@pytest.mark.parametrize(("outcome", "status"), [
    (Succeeded(b"6"), Status.COMPLETED), (Cancelled(), Status.CANCELLED), (Released(), Status.PENDING),
])  # fmt: skip
async def test_an_end_is_stored_and_reported_as_stored(driver: Driver, proxy: Proxy, when, outcome, status) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    proxy.cut(when, "UPDATE")
    assert await driver.finish(claim, outcome)
    assert proxy.cut_off == 1
    assert (await driver.get(task_id)).status is status
    assert len(await driver.engine.find_attempts(task_id)) == 1
    assert await _count(proxy, "SELECT sum(attempts)::int FROM tasker.usage_by_day") == 1


@MOMENTS
async def test_an_end_whose_answer_was_lost_wakes_those_who_wait_for_it(driver: Driver, proxy: Proxy, when) -> None:
    changes = Changes(driver.engine)
    await driver.submit()
    claim = await driver.claim_one()
    proxy.cut(when, "UPDATE")
    assert await driver.finish(claim, Succeeded(b"6"))
    if when == "after":
        assert () in changes.batches, "notifications were lost, and no listener is asked to look again"
    else:
        await changes.until(Change(claim.task_id, Status.COMPLETED))


async def test_what_was_never_sent_was_not_done(driver: Driver, proxy: Proxy, monkeypatch) -> None:
    """A link that is down before the first byte: the second try must not take the task for erased by the first."""
    proxy.reset_chance = 1.0
    gone = asyncio.create_task(driver.engine.delete(new_task_id(datetime.now(UTC))))
    async with asyncio.timeout(30):
        while not proxy.resets:
            await asyncio.sleep(0)
    proxy.heal()
    with pytest.raises(NotFound):
        await gone


@MOMENTS
async def test_reports_are_stored_once(driver: Driver, proxy: Proxy, when) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    proxy.cut(when, "INSERT")
    said = NewEvent(type="output", time=datetime.now(UTC), data=b'{"chunk":"a"}')
    assert await driver.engine.record(claim.lease, Report(events=(said,), usage=b'{"output_tokens":3}'))
    assert proxy.cut_off == 1
    assert await _count(proxy, "SELECT sum(output_tokens)::int FROM tasker.usage_by_day") == 3
    assert [event.type for event in await driver.engine.find_events(task_id)] == ["created", "started", "output"]


@MOMENTS
async def test_a_client_gets_the_outcome_of_its_step(driver: Driver, proxy: Proxy, when) -> None:
    task_id = await driver.submit()
    proxy.cut(when, "UPDATE")
    assert (await driver.engine.cancel(task_id)).status is Status.CANCELLED
    proxy.cut(when, "UPDATE")
    assert (await driver.engine.retry(task_id)).status is Status.PENDING
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    proxy.cut(when, "DELETE")
    await driver.engine.delete(task_id)
    assert proxy.cut_off == 3
    assert await driver.engine.find(task_id) is None


@MOMENTS
async def test_a_claim_whose_answer_was_lost_leaves_no_task_behind(driver: Driver, proxy: Proxy, when) -> None:
    """The claim is stored, but no worker knows: its lease ends, and the task runs again."""
    task_id = await driver.submit()
    proxy.cut(when, "UPDATE")
    claims = await driver.claim(1)
    assert proxy.cut_off == 1
    task = await driver.get(task_id)
    assert task.status is Status.RUNNING
    assert len(claims) == (1 if when == "before" else 0)


@pytest.mark.parametrize("fault", ["half_open", "refuse"])
async def test_without_a_database_every_step_is_refused_and_it_comes_back_by_itself(
    driver: Driver, proxy: Proxy, monkeypatch, fault: str
) -> None:
    monkeypatch.setattr(connections_module, "_AGAIN_FOR", 0.2)
    kept = await driver.submit()
    getattr(proxy, fault)()
    engine = driver.engine
    steps = [engine.submit([make_draft(datetime.now(UTC))]), engine.find(kept), engine.check(), engine.cancel(kept)]
    replies = await asyncio.gather(*steps, return_exceptions=True)
    assert [type(reply) for reply in replies] == [Unavailable] * 4
    assert all(isinstance(reply, Unavailable) and reply.retry_after for reply in replies)
    proxy.heal()
    async with asyncio.timeout(20):
        while not await _works(engine):
            pass
    assert (await driver.get(kept)).task_id == kept


async def test_a_process_frozen_between_two_messages_keeps_no_lock(proxy: Proxy, monkeypatch) -> None:
    """The server ends no such session by itself: it is neither idle nor running a statement."""
    monkeypatch.setattr(connections_module, "_FROZEN_AFTER", timedelta(seconds=0.2))
    monkeypatch.setattr(connections_module, "_AGAIN_FOR", 0.1)
    limits = {"statement_timeout": "100ms", "idle_in_transaction_session_timeout": "100ms"}
    async with open_postgres(proxy.url, session={"lock_timeout": "300ms"}) as engine:
        driver = Driver(engine, SystemClock())
        await driver.submit()
        claim = await driver.claim_one()
        frozen = await asyncpg.connect(proxy.url, server_settings={"application_name": "tasker", **limits})
        await frozen.execute("BEGIN; SELECT FROM tasker.task FOR UPDATE")
        await frozen.prepare("SELECT 1")  # it goes no further
        async with asyncio.timeout(20):
            with pytest.raises(Unavailable):
                await driver.finish(claim, Succeeded(b"6"))
            while await _count(proxy, f"SELECT count(*) FROM pg_stat_activity WHERE pid = {frozen.get_server_pid()}"):
                pass
        assert await driver.finish(claim, Succeeded(b"6"))
        frozen.terminate()


async def test_a_caller_that_is_cancelled_as_the_link_breaks_is_cancelled(engine: PostgresEngine, proxy: Proxy) -> None:
    """It must not look like one more broken link, after which the work is done again."""

    async def be_cancelled() -> None:
        async with engine._connections.taken() as connection:
            proxy.drop_all()
            with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
                await connection.fetchval("SELECT 1")
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await be_cancelled()


async def _works(engine: PostgresEngine) -> bool:
    try:
        await engine.check()
    except Unavailable:
        return False
    return True


@MOMENTS
async def test_a_webhook_is_made_once_and_counted_once(engine: PostgresEngine, proxy: Proxy, when) -> None:
    webhook = make_webhook(datetime.now(UTC))
    proxy.cut(when, "INSERT")
    await engine.webhooks.create(webhook, most=1)
    assert proxy.cut_off == 1
    assert await engine.webhooks.find(webhook.webhook_id) == webhook


# steps and families


@MOMENTS
async def test_a_step_and_its_event_are_stored_once(driver: Driver, proxy: Proxy, when) -> None:
    engine = driver.engine
    task_id = await driver.submit()
    claim = await driver.claim_one()
    now = datetime.now(UTC)
    said = NewEvent(type="step_completed", time=now, data=b'{"key":"charge"}')
    proxy.cut(when, "INSERT")
    assert await engine.record(claim.lease, Report(events=(said,), steps=(new_step(now),)))
    assert proxy.cut_off == 1
    assert [(step.key, step.number) for step in await engine.steps.find(task_id)] == [("charge", 1)]
    assert [event.type for event in await engine.find_events(task_id)] == ["created", "started", "step_completed"]


@MOMENTS
async def test_children_are_started_counted_and_run_again_once(driver: Driver, proxy: Proxy, when) -> None:
    engine = driver.engine
    await driver.submit(make_draft(datetime.now(UTC), retry=RetryPolicy(max_attempts=3, initial=timedelta(0))))
    claim = await driver.claim_one()
    drafts = child_drafts(claim.task_id, datetime.now(UTC), 3)
    given = new_children(claim.task_id, drafts, datetime.now(UTC))
    proxy.cut(when, "INSERT")
    step = await engine.steps.start_children(claim.lease, given, most=3)
    assert step is not None
    assert step.open_children == 3
    assert await _count(proxy, "SELECT stored * 10 + in_flight FROM tasker.step") == 33
    for place, child in enumerate(await claim_children(driver)):
        proxy.cut(when, "UPDATE")
        assert await driver.finish(child, BROKEN if place else Succeeded(b"1"))
    step = await one_step(engine, claim.task_id, "map")
    assert (step.completed, step.failed) == (1, 2)
    await driver.finish(claim, Failed(problem("task-failed", "busy", retryable=True)))
    claim = await driver.claim_one()
    proxy.cut(when, "UPDATE")
    again = await engine.steps.run_children_again(claim.lease, "map")
    assert again is not None
    assert (again.open_children, again.may_run_again) == (2, False)
    assert await _count(proxy, "SELECT in_flight FROM tasker.step") == 2
    assert proxy.cut_off == 5


@MOMENTS
async def test_a_park_is_stored_and_an_answer_given_once(driver: Driver, proxy: Proxy, when) -> None:
    engine = driver.engine
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await put(engine, claim, new_question(datetime.now(UTC)))
    proxy.cut(when, "UPDATE")
    assert await park(driver, claim, inputs=("approve",))
    assert (await driver.get(task_id)).reason == "input_required"
    proxy.cut(when, "UPDATE")
    assert (await engine.steps.answer(task_id, "approve", b"true", "me")).reason == "queued"
    assert proxy.cut_off == 2
    types = [event.type for event in await engine.find_events(task_id)]
    assert types == ["created", "started", "parked", "input_given"]
    with pytest.raises(Conflict):
        await engine.steps.answer(task_id, "approve", b"true", "me")


@MOMENTS
async def test_the_last_end_of_a_child_wakes_its_parent_once(driver: Driver, proxy: Proxy, when) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await start(driver, claim, 1)
    await park(driver, claim, children=("map",))
    [child] = await claim_children(driver)
    proxy.cut(when, "UPDATE")
    assert await driver.finish(child, Succeeded(b"1"))
    assert proxy.cut_off == 1
    assert (await driver.get(task_id)).reason == "queued"
    assert [claim.task_id for claim in await driver.claim(9)] == [task_id]


@MOMENTS
async def test_a_retry_forgets_once_and_a_family_is_deleted_once(driver: Driver, proxy: Proxy, when) -> None:
    engine = driver.engine
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await put(engine, claim, new_step(datetime.now(UTC)))
    [child] = await start(driver, claim, 1)
    await driver.finish(claim, BROKEN)
    proxy.cut(when, "UPDATE")
    await engine.retry(task_id, Forget(names=("map",)))
    assert [step.key for step in await engine.steps.find(task_id)] == ["charge"]
    await driver.finish(await driver.claim_one(), BROKEN)
    assert (await driver.get(child)).status is Status.CANCELLED
    proxy.cut(when, "DELETE")
    await engine.delete(task_id)
    assert proxy.cut_off == 2
    assert await engine.find(task_id) is None


BROKEN = Failed(problem("task-failed", "broken"))
