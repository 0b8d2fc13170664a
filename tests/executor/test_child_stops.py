"""Attempts in children that are asked to end: by a client, by the worker, by the executor's own end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tasker.executor.attempt import Stop
from tasker.rules.lifecycle import Cancelled, Interrupted, Released, Succeeded
from tests.executor.rig import LIMIT, Recorder, Rig, Vanishing, make_claim, open_rig, own_children


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig() as rig:
        yield rig


@pytest.mark.parametrize("how", ["return", "raise"])
async def test_a_function_that_notices_the_cancel_has_been_cancelled(rig: Rig, how: str) -> None:
    running = rig.start("stop_when_asked", how)
    await running.recorder.heard()
    running.stop.cancel()
    assert await running.outcome() == Cancelled()


async def test_a_function_that_ends_unaware_of_the_cancel_keeps_its_result(rig: Rig, tmp_path: Path) -> None:
    signal = tmp_path / "go"
    running = rig.start("end_unaware", str(signal))
    await running.recorder.heard()
    running.stop.cancel()
    signal.touch()
    assert await running.outcome() == Succeeded(b'"whole"')


async def test_a_cancelled_child_is_used_again_if_it_ended_in_time(rig: Rig) -> None:
    pid = await rig.value("get_pid")
    running = rig.start("stop_when_asked", "return")
    await running.recorder.heard()
    running.stop.cancel()
    await running.outcome()
    assert await rig.value("get_pid") == pid


async def test_a_function_that_does_not_stop_is_killed_after_the_grace() -> None:
    async with open_rig(cancel_grace=timedelta(seconds=0.2)) as rig:
        running = rig.start("ignore_signals")
        await running.recorder.heard()
        running.stop.cancel()
        assert await running.outcome() == Cancelled()
        assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_a_cancel_that_comes_late_does_not_touch_the_next_attempt(rig: Rig) -> None:
    first = rig.start("add", 2, 3)
    await first.outcome()
    second = rig.start("stop_when_asked", "return")
    await second.recorder.heard()
    first.stop.cancel()
    second.stop.cancel()
    assert await second.outcome() == Cancelled()


async def test_an_isolated_async_function_is_cancelled_in_its_child(rig: Rig) -> None:
    running = rig.start("wait_async", isolate=True)
    await running.recorder.heard()
    running.stop.cancel()
    assert await running.outcome() == Cancelled()
    assert running.recorder.chunks == ["started", "cleaned up"]


class StopAtOnce(Stop):
    """Cancels as soon as the attempt itself listens: the cancel goes out together with the order to run."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners = 0

    def attach(self, listener: Callable[[], None]) -> None:
        super().attach(listener)
        self._listeners += 1
        if self._listeners == 2:  # the first waits for the child
            self.cancel()


async def test_a_cancel_that_comes_together_with_the_order_is_noticed(rig: Rig) -> None:
    for name in ("wait_async", "stop_when_asked"):
        claim = make_claim(name, ["return"] if name == "stop_when_asked" else [])
        async with asyncio.timeout(LIMIT / 2):
            assert await rig.executor.run(claim, Recorder(), StopAtOnce(), isolate=True) == Cancelled()


async def test_an_abandoned_attempt_ends_at_once_with_the_workers_outcome(rig: Rig) -> None:
    running = rig.start("ignore_signals")
    await running.recorder.heard()
    running.stop.abandon(Interrupted())
    assert await running.outcome() == Interrupted()


async def test_abandoning_goes_before_a_cancel(rig: Rig) -> None:
    running = rig.start("ignore_signals")
    await running.recorder.heard()
    running.stop.cancel()
    running.stop.abandon(Released())
    assert await running.outcome() == Released()


async def test_a_stop_before_the_start_runs_nothing(rig: Rig) -> None:
    cancelled, abandoned, recorder = Stop(), Stop(), Recorder()
    cancelled.cancel()
    abandoned.abandon(Released())
    assert await rig.executor.run(make_claim("hang"), recorder, cancelled) == Cancelled()
    assert await rig.executor.run(make_claim("hang"), recorder, abandoned) == Released()
    assert recorder.chunks == []


async def test_a_stop_while_it_waits_for_a_child_gives_up_its_place(rig: Rig) -> None:
    first = rig.start("stop_when_asked", "return")
    await first.recorder.heard()
    assert rig.free_children == 0
    waiting = [rig.start("hang"), rig.start("hang"), rig.start("add", 2, 3)]
    await asyncio.sleep(0)
    waiting[0].stop.cancel()
    waiting[1].stop.abandon(Interrupted())
    assert await waiting[0].outcome() == Cancelled()
    assert await waiting[1].outcome() == Interrupted()
    first.stop.cancel()
    assert await waiting[2].outcome() == Succeeded(b"5")
    assert rig.free_children == 1


async def test_a_run_that_is_itself_cancelled_kills_its_child(rig: Rig) -> None:
    running = rig.start("start_and_hang")
    group = [Vanishing(int(pid)) for pid in await running.recorder.heard(3)]
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.outcome()
    for process in group:
        await process.gone()
    assert await rig.run("add", 2, 3) == Succeeded(b"5")


async def test_a_run_that_is_cancelled_while_its_child_starts_keeps_the_child_for_others() -> None:
    async with open_rig(processes=2) as rig:
        running = rig.start("add", 2, 3)
        while not (children := own_children()):
            await asyncio.sleep(0)
        running.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running.outcome()
        assert await rig.value("get_pid") == children[0].pid
        assert rig.free_children == 2


async def test_closing_releases_what_runs_and_what_waits_and_leaves_no_process() -> None:
    async with open_rig() as rig:
        running, waiting = rig.start("start_and_hang"), rig.start("add", 2, 3)
        group = [Vanishing(int(pid)) for pid in await running.recorder.heard(3)]
        await rig.executor.close()
        assert await running.outcome() == Released()
        assert await waiting.outcome() == Released()
        for process in group:
            await process.gone()
