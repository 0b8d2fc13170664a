"""Waits on a store that other processes share: they have their task followed, and do without where that fails."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from tasker.engines.sqlite import SqliteEngine
from tasker.errors import Unavailable
from tasker.model import Status
from tasker.model.keys import ANYBODY
from tasker.rules.lifecycle import Succeeded
from tasker.service import Service
from tasker.service.following import _LAST_LOOK, _LONGEST_MARK_PAUSE, Following, _Mark
from tasker.service.hub import Hub
from tasker.testing import Driver, make_draft

HOUR = timedelta(hours=1)


class Shared:
    """An engine that says that other processes share its store; `fault` is raised when a task is to be followed."""

    is_shared = True

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self.fault: Exception | None = None
        self.is_locked = False
        self.followed: list[UUID] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    @property
    def peers(self) -> Shared:
        return self

    async def follow_task(self, task_id: UUID) -> bool:
        self.followed.append(task_id)
        if self.fault is not None:
            raise self.fault
        return not self.is_locked


@pytest.fixture
def shared(engine: SqliteEngine) -> Shared:
    return Shared(engine)


@pytest.fixture
def following(shared: Shared, service: Service, hub: Hub) -> Following:
    return Following(shared, service.tasks, hub)  # type: ignore[arg-type]


async def test_a_store_that_cannot_follow_a_task_ends_no_wait(
    following: Following, shared: Shared, driver: Driver, hub: Hub
) -> None:
    shared.fault = Unavailable("it is read-only now")
    task_id = await driver.submit(make_draft())
    with capture_logs() as logs:
        waiting = asyncio.create_task(following.wait(ANYBODY, task_id, HOUR))
        async with asyncio.timeout(5):
            while not logs:
                await asyncio.sleep(0.001)
        await driver.finish(await driver.claim_one(), Succeeded(b"6"))
        async with asyncio.timeout(5):
            assert (await waiting).status is Status.COMPLETED
    assert [entry["event"] for entry in logs] == ["task.not_followed"]


@pytest.mark.parametrize("kind", ["end", "change", "events"])
@pytest.mark.parametrize("fault", [None, Unavailable("away")])
async def test_a_wait_asks_again_until_its_task_is_followed(
    following: Following, shared: Shared, driver: Driver, kind: str, fault: Exception | None
) -> None:
    """Without the mark nobody would tell of the end, and the wait would find it by itself, 15 s later."""

    async def is_new(_: object) -> bool:
        return False

    async def read() -> None:
        async for _ in following.follow(ANYBODY, task_id):
            pass

    shared.is_locked, shared.fault = True, fault
    task_id = await driver.submit(make_draft())
    waits = {
        "end": lambda: following.wait(ANYBODY, task_id, HOUR),
        "change": lambda: following.wait_for_change(ANYBODY, task_id, HOUR, is_new),
        "events": read,
    }
    waiting = asyncio.create_task(waits[kind]())
    async with asyncio.timeout(10):
        while len(shared.followed) < 3:
            await asyncio.sleep(0.001)
        shared.is_locked, shared.fault = False, None
        asked = len(shared.followed)
        while len(shared.followed) == asked:
            await asyncio.sleep(0.001)
        await driver.finish(await driver.claim_one(), Succeeded(b"6"))
        await waiting
    assert len(shared.followed) == asked + 1


@pytest.mark.parametrize(
    ("fault", "longest"), [(None, _LONGEST_MARK_PAUSE), (Unavailable("it is a standby"), _LAST_LOOK)]
)
async def test_it_asks_ever_more_rarely(shared: Shared, fault: Exception | None, longest: float) -> None:
    """Thousands may wait; and while the store takes no writes, no task ends."""
    shared.is_locked, shared.fault = True, fault
    mark = _Mark(shared, uuid4())  # type: ignore[arg-type]
    pauses = [mark.pause]
    for _ in range(12):
        assert not await mark.make()
        pauses.append(mark.pause)
    assert pauses[:4] == [0.01, 0.02, 0.04, 0.08]
    assert pauses[-1] == longest
    shared.fault, shared.is_locked = None, True
    await mark.make()
    assert mark.pause == _LONGEST_MARK_PAUSE


async def test_what_has_ended_is_not_followed(following: Following, shared: Shared, driver: Driver) -> None:
    task_id = await driver.submit(make_draft())
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    assert (await following.wait(ANYBODY, task_id, HOUR)).status is Status.COMPLETED
    assert [events async for events in following.follow(ANYBODY, task_id)]
    assert shared.followed == []


async def test_a_store_of_one_process_is_asked_for_nothing(
    shared: Shared, service: Service, hub: Hub, driver: Driver
) -> None:
    shared.is_shared = False
    following = Following(shared, service.tasks, hub)  # type: ignore[arg-type]
    task_id = await driver.submit(make_draft())
    waiting = asyncio.create_task(following.wait(ANYBODY, task_id, HOUR))
    async with asyncio.timeout(5):
        while not hub.waiting:
            await asyncio.sleep(0.001)
    await driver.finish(await driver.claim_one(), Succeeded(b"6"))
    async with asyncio.timeout(5):
        await waiting
    assert shared.followed == []
