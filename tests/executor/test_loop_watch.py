"""A loop that is really blocked, by a task's function and by other code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasker.executor.loop_watch import TASK_NAME, LoopWatch, holding_loop
from tests.executor.rig import LIMIT

Logs = list[Any]


def block_until_reported(logs: Logs) -> None:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and not any(line["event"] == "loop.blocked" for line in logs):
        time.sleep(0.001)
    time.sleep(0.1)  # more looks at the blocked loop, without another report


async def hear_the_end(logs: Logs) -> None:
    async with asyncio.timeout(LIMIT):
        while not any(line["event"] == "loop.unblocked" for line in logs):
            await asyncio.sleep(0)


async def test_a_block_is_logged_once_with_its_stack_and_stays_in_health_for_a_while() -> None:
    blocked: list[float] = []
    watch = LoopWatch(threshold=0.1, on_blocked=lambda: blocked.append(watch.blocked_for), advice="do not")
    with capture_logs() as logs:
        watch.start()
        assert watch.health() == "ok"
        await asyncio.create_task(_in_a_task(logs), name=f"{TASK_NAME}thoughtless")
        await hear_the_end(logs)
        assert watch.blocked_for == 0
        assert watch.health().startswith("event loop blocked by task type thoughtless for ")
        watch.stop()
    told = [line for line in logs if line["event"] == "loop.blocked"]
    assert [(line["blocked_by"], line["detail"]) for line in told] == [("task type thoughtless", "do not")]
    assert "in block_until_reported" in told[0]["stack"]
    assert len(blocked) == 1
    assert blocked[0] > 0.1


async def _in_a_task(logs: Logs) -> None:
    block_until_reported(logs)


async def _in_a_callback(logs: Logs) -> None:
    asyncio.get_running_loop().call_soon(block_until_reported, logs)


@pytest.mark.parametrize(("block", "name"), [(_in_a_task, "_in_a_task"), (_in_a_callback, "a callback")])
async def test_anything_else_that_blocks_is_named_too(block: Callable[[Logs], Any], name: str) -> None:
    watch = LoopWatch(threshold=0.1)
    with capture_logs() as logs:
        watch.start()
        await asyncio.create_task(block(logs))
        await hear_the_end(logs)
        watch.stop()
    assert [line["blocked_by"] for line in logs] == [name, name]


async def test_nothing_is_said_about_a_loop_that_a_person_holds_in_a_debugger() -> None:
    blocked = Event()
    watch = LoopWatch(threshold=0.05, on_blocked=blocked.set)
    with capture_logs() as logs:
        watch.start()
        with holding_loop():
            assert blocked.wait(LIMIT)
        while watch.blocked_for:
            await asyncio.sleep(0)
        assert watch.health() == "ok"
        watch.stop()
    assert logs == []


async def test_a_loop_that_has_answered_since_its_last_function_is_left_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    count: int | None = None
    watch = LoopWatch(threshold=0.01, count=lambda: count)
    asked: list[int | None] = []
    looked = asyncio.Event()
    ask, loop = watch._ask, asyncio.get_running_loop()

    def noted() -> None:
        asked.append(watch._last_count)
        ask()
        loop.call_soon_threadsafe(looked.set)

    async def until_asked(times: int) -> None:
        async with asyncio.timeout(LIMIT):
            while len(asked) < times:
                looked.clear()
                await looked.wait()

    monkeypatch.setattr(watch, "_ask", noted)
    watch.start()
    await until_asked(3)
    count = 7
    async with asyncio.timeout(LIMIT):
        while 7 not in asked:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.1)  # time for many looks
    assert asked.count(7) == 1
    count = 8
    await until_asked(asked.index(7) + 2)
    watch.stop()
    assert asked[-1] == 8


async def test_stopping_twice_is_harmless() -> None:
    watch = LoopWatch()
    watch.start()
    watch.stop()
    watch.stop()
    assert watch.health() == "ok"
