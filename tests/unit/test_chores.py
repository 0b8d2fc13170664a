"""The loop of the chores, and the lead that those of the store need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from tasker.chores import lead
from tasker.chores.lead import run_with_lead
from tasker.chores.loop import Chore, run_chores
from tasker.errors import Unavailable


async def test_a_chore_that_fails_is_done_again_and_the_others_go_on() -> None:
    runs = {"broken": 0, "away": 0, "good": 0}
    enough = asyncio.Event()

    def chore(name: str, fault: Exception | None) -> Chore:
        async def run() -> int:
            runs[name] += 1
            if min(runs.values()) >= 3:
                enough.set()
            if fault is not None:
                raise fault
            return 0

        return Chore(name, timedelta(0), run)

    loop = asyncio.create_task(
        run_chores([chore("broken", ValueError("odd row")), chore("away", Unavailable("away")), chore("good", None)])
    )
    async with asyncio.timeout(30):
        await enough.wait()
    assert not loop.done()
    loop.cancel()
    await asyncio.wait([loop])


class Scripted:
    """A lead that a test gives and takes; `work` is what its holder does."""

    def __init__(self) -> None:
        self.answer: bool | Exception = False
        self.asked = self.given_up = self.begun = self.ended = 0
        self.is_stuck = self.has_fault = False
        self.fault: BaseException | None = None
        self.fault_of_giving_up: Exception | None = None

    async def hold(self) -> bool:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def give_up(self) -> None:
        self.given_up += 1
        if self.fault_of_giving_up is not None:
            raise self.fault_of_giving_up
        if self.is_stuck:
            await asyncio.Event().wait()

    async def work(self) -> None:
        self.begun += 1
        if self.has_fault:
            if self.fault is not None:
                raise self.fault
            return
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1

    async def answers(self, answer: bool | Exception) -> tuple[int, int]:
        """Answer so a few times; return how often the work has begun and ended."""
        self.answer, until = answer, self.asked + 3
        async with asyncio.timeout(5):
            while self.asked < until:
                await asyncio.sleep(0.001)
        return self.begun, self.ended


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    monkeypatch.setattr(lead, "_HOLD_EVERY", 0.001)
    monkeypatch.setattr(lead, "_LOOK_EVERY", 0.001)
    return Scripted()


@pytest.fixture
async def leading(scripted: Scripted) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(run_with_lead(scripted, scripted.work))
    yield task
    task.cancel()
    await asyncio.wait([task])


async def test_the_work_is_done_while_the_process_has_the_lead(scripted: Scripted, leading: asyncio.Task[None]) -> None:
    assert await scripted.answers(False) == (0, 0)
    assert await scripted.answers(True) == (1, 0)
    assert await scripted.answers(False) == (1, 1)
    assert await scripted.answers(True) == (2, 1)
    assert await scripted.answers(Unavailable("away")) == (2, 2), "another process may have the lead by now"
    assert scripted.given_up == 0


async def test_after_a_fault_all_lead_rather_than_none(scripted: Scripted, leading: asyncio.Task[None]) -> None:
    assert await scripted.answers(PermissionError("no right on the table")) == (1, 0)


@pytest.mark.parametrize("fault", [ValueError("a bug"), asyncio.CancelledError(), None])
async def test_work_that_ends_is_begun_again(
    scripted: Scripted, leading: asyncio.Task[None], fault: BaseException | None
) -> None:
    """Its process goes on to hold the lead, so no other process would do the work."""
    scripted.fault = fault
    scripted.has_fault = True
    with capture_logs() as logs:
        begun, _ = await scripted.answers(True)
    assert begun > 1
    assert not leading.done()
    assert {entry["event"] for entry in logs} == {"chore.failed"}


async def test_a_fault_of_giving_up_is_no_fault_of_the_end(scripted: Scripted, leading: asyncio.Task[None]) -> None:
    scripted.fault_of_giving_up = PermissionError("no right on the table")
    await scripted.answers(True)
    leading.cancel()
    await asyncio.wait([leading])
    assert leading.cancelled()


async def test_a_leader_that_ends_gives_the_lead_up_after_its_work_has_ended(
    scripted: Scripted, leading: asyncio.Task[None]
) -> None:
    await scripted.answers(True)
    leading.cancel()
    await asyncio.wait([leading])
    assert (scripted.ended, scripted.given_up) == (1, 1)


async def test_a_process_without_the_lead_gives_nothing_up(scripted: Scripted, leading: asyncio.Task[None]) -> None:
    await scripted.answers(False)
    leading.cancel()
    await asyncio.wait([leading])
    assert scripted.given_up == 0


async def test_a_store_that_does_not_answer_delays_no_end(
    scripted: Scripted, leading: asyncio.Task[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "_GIVE_UP_WITHIN", 0.001)
    scripted.is_stuck = True
    await scripted.answers(True)
    leading.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait([leading])
    assert leading.cancelled()
