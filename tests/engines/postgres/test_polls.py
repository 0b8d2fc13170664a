"""Claims of one process that poll: they do so together, and one look serves all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.engines.postgres.conftest import MakeEngine

from tasker.engines.postgres import PostgresEngine, waiters
from tasker.engines.postgres.waiters import Found, Look, Polls
from tasker.engines.protocol import ClaimRequest
from tasker.model import Claim
from tasker.testing import Driver, make_draft

LIMIT = 10.0
KINDS = ("sum", "reverse", "add")


def look(began_at: float, heard: int = 0) -> Look:
    return Look(began_at, heard, asyncio.get_running_loop().create_future())


def test_all_pause_until_the_same_moments() -> None:
    polls = Polls()
    assert polls.pause(2.0, 100.0) == 2.0
    assert polls.pause(2.0, 100.5) == 1.5
    assert polls.pause(0.5, 100.25) == 0.25
    assert polls.pause(2.0, 103.0) == 1.0


@pytest.mark.parametrize("now", [101.9, 101.95, 101.9999, 102.0])
def test_a_claim_that_looks_a_little_early_looks_with_the_others_next_time(now: float) -> None:
    polls = Polls()
    polls.pause(2.0, 100.0)
    assert polls.pause(2.0, now) == pytest.approx(104.0 - now)


async def test_a_look_is_used_by_others_for_a_moment() -> None:
    polls, before, latest = Polls(), look(9.0), look(10.0)
    assert polls.latest(0, 10.0, before) is None
    polls.begin(latest)
    assert polls.latest(0, 10.05, before) is latest
    assert polls.latest(0, 10.2, before) is None, "it is old"
    assert polls.latest(1, 10.05, before) is None, "it does not cover what was heard since"
    assert polls.latest(0, 10.05, latest) is None, "nobody uses one twice"
    assert polls.latest(0, 10.05, None) is None, "the caller may know of tasks that nobody was told of"


class Polling:
    """Claims of one process that wait, one for each kind of tasks, and their looks."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine = engine
        self.looks = 0
        self._look = engine._claims.look
        self._waiting: list[asyncio.Task[list[Claim]]] = []

    async def look(self, *given: Any, **named: Any) -> Found:
        self.looks += 1
        return await self._look(*given, **named)

    def claim(self, kind: str) -> asyncio.Task[list[Claim]]:
        request = ClaimRequest(worker="w", types=frozenset([kind]), lease_for=timedelta(seconds=10), limit=1)
        claiming = asyncio.create_task(self.engine.claim(request, wait_for=timedelta(hours=1)))
        self._waiting.append(claiming)
        return claiming

    async def all_wait(self) -> None:
        """Return when each claim has looked once."""
        async with asyncio.timeout(LIMIT):
            while self.looks < len(self._waiting) or self.engine._claims._running:
                await asyncio.sleep(0.001)

    def poll_now(self) -> None:
        """Have the timers of all pauses end."""
        for waiter in self.engine._waiters._waiters:
            waiter.woken.set()

    async def end(self) -> None:
        for claiming in self._waiting:
            claiming.cancel()
        await asyncio.wait(self._waiting)


@pytest.fixture
async def polling(another: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Polling]:
    """A process whose polls are 3600 s apart."""
    monkeypatch.setattr(waiters, "POLL_EVERY", 3600.0)
    polling = Polling(await another())
    monkeypatch.setattr(polling.engine._claims, "look", polling.look)
    yield polling
    await polling.end()


async def test_claims_that_poll_together_share_a_look_and_each_takes_its_tasks(
    polling: Polling, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "_SHARED_FOR", 3600.0)
    monkeypatch.setattr(polling.engine._listener, "_on_heard", lambda *_: None)  # all notifications are lost
    claims = [polling.claim(kind) for kind in KINDS]
    await polling.all_wait()
    ids = [await driver.submit(make_draft(type=kind)) for kind in KINDS]
    polling.engine._waiters.heard += 1  # the looks so far are of no use
    polling.poll_now()
    async with asyncio.timeout(LIMIT):
        taken = [claim.task_id for claims in await asyncio.gather(*claims) for claim in claims]
    assert taken == ids
    assert polling.looks == 3 + 1


async def test_a_claim_that_was_woken_looks_itself(
    polling: Polling, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that began before the notification may not have seen the task."""
    monkeypatch.setattr(waiters, "_SHARED_FOR", 3600.0)
    claims = [polling.claim(kind) for kind in KINDS]
    await polling.all_wait()
    monkeypatch.setattr(polling.engine._listener, "_on_heard", lambda *_: None)
    task_id = await driver.submit(make_draft(type=KINDS[0]))
    polling.engine._waiters.wake([f"default/{KINDS[0]}"])
    async with asyncio.timeout(LIMIT):
        assert [claim.task_id for claim in await claims[0]] == [task_id]
