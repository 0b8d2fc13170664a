"""Other processes are notified of the ends and reports of tasks that somebody waits for, and of no others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from tests.contract.conftest import Changes
from tests.engines.postgres.conftest import MakeEngine

from tasker.builtin import builtin_registry
from tasker.engines.postgres import PostgresEngine, transaction
from tasker.model import Change, Extra, NewEvent, Report, Status
from tasker.model.keys import ANYBODY
from tasker.model.webhooks import Webhook
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.service import Service, following
from tasker.service.hub import Hub
from tasker.testing import Driver, ManualClock, make_draft

HOUR = timedelta(hours=1)
LIMIT = 5.0
"""Seconds: less than the pause after which a wait looks by itself."""
DONE = Succeeded(b"6")
SUM = msgspec.json.encode({"type": "sum", "params": [4, 2]})
Sql = Callable[..., Awaitable[list[Any]]]


@pytest.fixture
async def there(another: MakeEngine) -> PostgresEngine:
    """The engine of another process than the one that runs the tasks."""
    return await another()


@pytest.fixture
def service(there: PostgresEngine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The use cases of that process; streams do not look by themselves before the limit either."""
    monkeypatch.setattr(following, "_FIRST_LOOK", 60.0)
    hub = Hub()
    there.watch(hub.publish)
    return Service(there, builtin_registry(None), hub, clock, health=None)


class Asked:
    """How often an engine was asked to have a task followed; `until` waits for the next time."""

    def __init__(self, engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._event = asyncio.Event()
        follow = engine.peers.follow_task

        async def asked(task_id: UUID) -> bool:
            is_followed = await follow(task_id)
            self.count += 1
            self._event.set()
            return is_followed

        monkeypatch.setattr(engine.peers, "follow_task", asked)

    async def until(self) -> None:
        async with asyncio.timeout(LIMIT):
            await self._event.wait()
        self._event.clear()


@pytest.fixture
def asked(there: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(there, monkeypatch)


async def test_an_end_that_nobody_awaits_is_told_to_nobody_else(driver: Driver, there: PostgresEngine) -> None:
    here, elsewhere = Changes(driver.engine), Changes(there)
    quiet, awaited = await driver.submit(), (draft := make_draft(is_awaited=True)).task_id
    await there.submit([draft])
    claims = {claim.task_id: claim for claim in await driver.claim(2)}
    await driver.finish(claims[quiet], DONE)
    await driver.finish(claims[awaited], DONE)
    await elsewhere.until(Change(awaited, Status.COMPLETED))
    assert quiet not in {change.task_id for change in elsewhere.heard}
    await here.until(Change(quiet, Status.COMPLETED))


async def test_ends_together_are_told_apart(driver: Driver, there: PostgresEngine) -> None:
    elsewhere = Changes(there)
    drafts = [make_draft(is_awaited=place % 3 == 0) for place in range(30)]
    await there.submit(drafts)
    await asyncio.gather(*(driver.finish(claim, DONE) for claim in await driver.claim(30)))
    expected = {draft.task_id for draft in drafts if draft.is_awaited}
    await elsewhere.until(*(Change(task_id, Status.COMPLETED) for task_id in expected))
    assert {change.task_id for change in elsewhere.heard if change.status is Status.COMPLETED} == expected


async def test_only_the_process_that_waits_is_told(
    driver: Driver, there: PostgresEngine, another: MakeEngine, sql: Sql
) -> None:
    """Idle workers need not wake up for an end that one API process waits for."""
    third = await another()
    waits, idle = Changes(there), Changes(third)
    await there.submit([submitted := make_draft(is_awaited=True)])
    followed = await driver.submit()
    assert await there.peers.follow_task(followed)
    assert await there.peers.follow_task(followed), "it is marked already"
    both = await driver.submit()
    assert await there.peers.follow_task(both)
    assert await third.peers.follow_task(both)
    assert await sql("SELECT count(*), count(waiter) FROM task WHERE awaited") == [(3, 2)]
    claims = {claim.task_id: claim for claim in await driver.claim(3)}
    for task_id in (submitted.task_id, followed, both):
        await driver.finish(claims[task_id], DONE)
    ends = [Change(task_id, Status.COMPLETED) for task_id in (submitted.task_id, followed, both)]
    await waits.until(*ends)
    await idle.until(ends[2])
    assert idle.heard == [ends[2]]


async def test_an_end_that_its_own_process_waits_for_is_told_to_no_other(
    driver: Driver, there: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = Changes(driver.engine), Changes(there)
    task_id = await driver.submit(make_draft(is_awaited=True))
    notified: list[str] = []
    monkeypatch.setattr(transaction, "for_processes", lambda _, changes: notified.extend(changes) or ())
    await driver.finish(await driver.claim_one(), DONE)
    await here.until(Change(task_id, Status.COMPLETED))
    assert (notified, elsewhere.heard) == ([], [])


def word(clock: ManualClock) -> Report:
    return Report(events=(NewEvent(type="log", time=clock.now(), data=b"{}"),))


async def test_a_followed_task_tells_of_its_reports_and_its_end(
    driver: Driver, there: PostgresEngine, clock: ManualClock
) -> None:
    elsewhere = Changes(there)
    task_id = await driver.submit()
    claim = await driver.claim_one()
    assert await driver.engine.record(claim.lease, word(clock))
    await there.peers.follow_task(task_id)
    assert elsewhere.heard == []
    assert await driver.engine.record(claim.lease, word(clock))
    await elsewhere.until(Change(task_id, Status.RUNNING, spoke=True))
    await driver.finish(claim, DONE)
    await elsewhere.until(Change(task_id, Status.COMPLETED))


async def test_a_cancel_is_told_whoever_waits(driver: Driver, there: PostgresEngine) -> None:
    elsewhere = Changes(there)
    task_id = await driver.submit()
    await driver.claim_one()
    await driver.engine.cancel(task_id)
    await elsewhere.until(Change(task_id, Status.RUNNING, cancel_requested=True))


async def test_a_task_with_a_webhook_of_its_own_is_awaited(driver: Driver, there: PostgresEngine) -> None:
    elsewhere = Changes(there)
    draft = make_draft()
    webhook = Webhook(
        webhook_id=uuid4(), url="https://example.com/", created_at=draft.created_at, task_id=draft.task_id,
        events=("completed",), secrets=(),
    )  # fmt: skip
    await driver.engine.submit([msgspec.structs.replace(draft, webhook=webhook)])
    await driver.finish(await driver.claim_one(), DONE)
    await elsewhere.until(Change(draft.task_id, Status.COMPLETED))


async def test_a_task_that_an_older_process_stored_is_awaited(driver: Driver, there: PostgresEngine, sql: Sql) -> None:
    elsewhere = Changes(there)
    task_id = await driver.submit()
    await sql("UPDATE task SET awaited = DEFAULT")
    await driver.finish(await driver.claim_one(), DONE)
    await elsewhere.until(Change(task_id, Status.COMPLETED))


async def test_a_wait_for_a_task_of_another_request_ends_with_the_task(
    driver: Driver, service: Service, asked: Asked
) -> None:
    task_id = await driver.submit()
    waiting = asyncio.create_task(service.following.wait(ANYBODY, task_id, HOUR))
    await asked.until()
    await driver.finish(await driver.claim_one(), DONE)
    async with asyncio.timeout(LIMIT):
        assert (await waiting).status is Status.COMPLETED
    assert asked.count == 1


async def until_blocked(sql: Sql) -> None:
    """Wait until a statement waits for a lock."""
    async with asyncio.timeout(LIMIT):
        while not await sql("SELECT FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)


async def test_a_wait_that_begins_while_the_end_commits_sees_it(
    driver: Driver, service: Service, asked: Asked, sql: Sql
) -> None:
    """The end has passed the mark, and tells nobody: the wait must find it by itself, and at once."""
    task_id = await driver.submit()
    await driver.claim_one()
    await sql("BEGIN")
    await sql("UPDATE task SET status = 'completed', finished_at = now(), lease_expires_at = NULL, result = '6'")
    waiting = asyncio.create_task(service.following.wait(ANYBODY, task_id, HOUR))
    await asked.until()
    await sql("COMMIT")
    async with asyncio.timeout(LIMIT):
        assert (await waiting).status is Status.COMPLETED


async def test_waits_for_a_task_whose_row_is_locked_keep_no_read_waiting(
    driver: Driver, there: PostgresEngine, sql: Sql
) -> None:
    """A worker frozen within its transaction keeps the lock for long; the connections for reads are few."""
    task_id = await driver.submit()
    await sql("BEGIN")
    await sql("UPDATE task SET progress = NULL")
    async with asyncio.timeout(LIMIT - 1):  # less than a statement waits for a lock
        assert await asyncio.gather(*(there.peers.follow_task(task_id) for _ in range(20))) == [False] * 20
        assert await there.find(task_id) is not None
    await sql("COMMIT")
    assert await there.peers.follow_task(task_id)
    assert await there.peers.follow_task(task_id), "it is marked already"
    assert await there.peers.follow_task(uuid4()), "there is nothing to mark"


async def test_an_end_that_meets_the_mark_of_a_wait_tells_of_it(
    driver: Driver, there: PostgresEngine, sql: Sql
) -> None:
    """The mark is not committed when the end wants the row: the end waits for it, and heeds it."""
    elsewhere = Changes(there)
    task_id = await driver.submit()
    claim = await driver.claim_one()
    await sql("BEGIN")
    await sql("UPDATE task SET awaited = true")
    ending = asyncio.create_task(driver.finish(claim, DONE))
    await until_blocked(sql)
    await sql("COMMIT")
    assert await ending
    await elsewhere.until(Change(task_id, Status.COMPLETED))


async def test_a_wait_that_hears_nothing_looks_by_itself(
    driver: Driver, there: PostgresEngine, service: Service, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_LAST_LOOK", 0.05)
    monkeypatch.setattr(there._listener, "_on_heard", lambda *_: None)
    task_id = await driver.submit()
    waiting = asyncio.create_task(service.following.wait(ANYBODY, task_id, HOUR))
    await asked.until()
    await driver.finish(await driver.claim_one(), DONE)
    async with asyncio.timeout(LIMIT):
        assert (await waiting).status is Status.COMPLETED


async def test_a_follower_gets_reports_and_the_end(
    driver: Driver, service: Service, asked: Asked, clock: ManualClock
) -> None:
    task_id = await driver.submit()
    claim = await driver.claim_one()
    seen: list[str] = []

    async def follow() -> None:
        async for events in service.following.follow(ANYBODY, task_id):
            seen.extend(event.type for event in events)

    followed = asyncio.create_task(follow())
    await asked.until()
    assert await driver.engine.record(claim.lease, word(clock))
    async with asyncio.timeout(LIMIT):
        while "log" not in seen:
            await asyncio.sleep(0.01)
    await driver.finish(claim, DONE)
    async with asyncio.timeout(LIMIT):
        await followed
    assert seen == ["created", "started", "log", "completed"]
    assert asked.count == 1


async def test_a_wait_for_a_change_ends_with_the_task(driver: Driver, service: Service, asked: Asked) -> None:
    async def is_new(_: object) -> bool:
        return False

    task_id = await driver.submit()
    waiting = asyncio.create_task(service.following.wait_for_change(ANYBODY, task_id, HOUR, is_new))
    await asked.until()
    await driver.finish(await driver.claim_one(), DONE)
    async with asyncio.timeout(LIMIT):
        assert (await waiting).status is Status.COMPLETED


async def test_dependants_of_a_task_that_nobody_awaits_go_on_and_their_waits_end(
    driver: Driver, there: PostgresEngine, service: Service, asked: Asked, clock: ManualClock
) -> None:
    good, bad = await driver.submit(), await driver.submit()
    after_good = await driver.submit(make_draft(extra=Extra(depends_on=(good,))))
    after_bad = await driver.submit(make_draft(extra=Extra(depends_on=(bad,))))
    waiting = asyncio.create_task(service.following.wait(ANYBODY, after_bad, HOUR))
    await asked.until()
    claims = {claim.task_id: claim for claim in await driver.claim(2)}
    claiming = asyncio.create_task(Driver(there, clock, worker="there").claim(wait_for=HOUR))
    await driver.finish(claims[good], DONE)
    await driver.finish(claims[bad], Failed(problem("task-failed", "no")))
    async with asyncio.timeout(LIMIT):
        assert (await waiting).status is Status.FAILED
        assert [claim.task_id for claim in await claiming] == [after_good]


async def test_a_submission_that_waits_stores_an_awaited_task_and_asks_for_nothing_more(
    driver: Driver, service: Service, asked: Asked
) -> None:
    submitted = await service.submissions.submit(ANYBODY, SUM, is_awaited=True)
    assert submitted.is_awaited
    task_id = submitted.task.task_id
    waiting = asyncio.create_task(service.following.wait(ANYBODY, task_id, HOUR, is_followed=True))
    await driver.finish(await driver.claim_one(), DONE)
    async with asyncio.timeout(LIMIT):
        assert (await waiting).status is Status.COMPLETED
    assert asked.count == 0


async def test_a_task_that_answers_for_a_submission_may_not_be_awaited(service: Service) -> None:
    """It was stored by a request that did not wait: a wait for it has to say so."""
    body = msgspec.json.encode({"type": "sum", "params": [4, 2], "unique_key": "u"})
    first = await service.submissions.submit(ANYBODY, body, idempotency_key="a")
    again = await service.submissions.submit(ANYBODY, body, idempotency_key="a", is_awaited=True)
    joined = await service.submissions.submit(ANYBODY, body, is_awaited=True)
    keyed = await service.submissions.submit(ANYBODY, SUM, idempotency_key="b", is_awaited=True)
    assert first.task.task_id == again.task.task_id == joined.task.task_id
    assert [one.is_awaited for one in (first, again, joined, keyed)] == [False, False, False, True]
