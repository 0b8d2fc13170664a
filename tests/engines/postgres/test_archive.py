"""Export of a database while other processes write to it."""

from __future__ import annotations

from contextlib import aclosing

from tests.engines.postgres.conftest import MakeEngine

from tasker.engines.postgres import PostgresEngine
from tasker.model.archive import StoredTask
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver


async def test_an_export_shows_one_moment(driver: Driver, another: MakeEngine, clock) -> None:
    ids = [await driver.submit() for _ in range(3)]
    there = Driver(await another(), clock)
    seen: list[StoredTask] = []
    async with aclosing(driver.engine.archive.read(at_once=1, size=1000)) as pages:
        async for page in pages:
            seen += page
            if len(seen) == 1:
                for claim in await there.claim(3):
                    await there.finish(claim, Succeeded(b"6"))
                await there.submit()
    assert [(task.task_id, task.status) for task in seen] == [(task_id, "pending") for task_id in ids]
    assert {task.status for task in (await driver.engine.archive.find_many(ids)) if task} == {"completed"}


async def test_an_export_that_is_given_up_gives_its_connection_back(engine: PostgresEngine, driver: Driver) -> None:
    for _ in range(2):
        await driver.submit()
    for _ in range(2 * engine._connections.size):
        async with aclosing(engine.archive.read(at_once=1, size=1)) as pages:
            assert len(await anext(pages)) == 1
    await engine.check()
