"""Groups when the process ends between the end of a group and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.stores import open_store

from tasker.engines.sqlite import group_ends
from tasker.model import AfterGroup, Extra
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft


async def test_what_waits_for_a_group_goes_on_in_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, path = ManualClock(), tmp_path / "tasker.db"
    async with open_store(path, clock) as engine:
        driver = Driver(engine, clock)
        await engine.submit([make_draft(clock.now(), extra=Extra(group="g"))])
        waiting = make_draft(clock.now(), extra=Extra(depends_on_group=AfterGroup("g")))
        await engine.submit([waiting])
        with monkeypatch.context() as killed:
            killed.setattr(group_ends, "_settle", lambda *_: True)
            await driver.finish(await driver.claim_one(), Succeeded(b"6"))
        assert (await driver.get(waiting.task_id)).reason == "dependencies"
    async with open_store(path, clock) as engine:
        driver = Driver(engine, clock)
        await engine.submit([make_draft(clock.now())])  # a commit after which it is settled
        claims = {claim.task_id for claim in await driver.claim(2)} | {claim.task_id for claim in await driver.claim(2)}
        assert waiting.task_id in claims


async def test_a_failed_batch_is_counted_one_by_one(tmp_path: Path) -> None:
    """A transaction that is rolled back leaves nothing in the counts of the next."""
    clock = ManualClock()
    async with open_store(tmp_path / "tasker.db", clock) as engine:
        first, second = (make_draft(clock.now(), extra=Extra(group="g")) for _ in range(2))

        def broken(_: object) -> None:
            raise RuntimeError("a bug")

        storing = engine._commits.run(broken)  # in one batch with the next
        await engine.submit([first, second])
        with pytest.raises(RuntimeError):
            await storing
        group = await engine.groups.find("", "g")
        assert group is not None
        assert group.tasks.pending == 2
