"""A loop that is blocked for real, by a task's function and by others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasker.executor.loop_watch import LoopWatch
from tests.executor.rig import LIMIT, open_rig

Logs = list[Any]


def block_until_reported(logs: Logs) -> None:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and not any(line["event"] == "loop.blocked" for line in logs):
        time.sleep(0.001)
    time.sleep(0.1)  # further looks at the blocked loop, and none of them a further report


async def hear_the_end(logs: Logs) -> None:
    async with asyncio.timeout(LIMIT):
        while not any(line["event"] == "loop.goes_on" for line in logs):
            await asyncio.sleep(0)


async def test_a_function_that_blocks_the_loop_is_named_once_with_its_stack() -> None:
    watch = LoopWatch(threshold=0.1)
    with capture_logs() as logs:
        async with open_rig(targets=()) as rig:

            async def thoughtless() -> bool:
                block_until_reported(logs)
                return watch.blocked_for > 0

            rig.registry.add(thoughtless)
            watch.start()
            assert watch.health() == "ok"
            assert (await rig.run("thoughtless")).result == b"true"  # type: ignore[union-attr]
            await hear_the_end(logs)
            assert watch.blocked_for == 0
            assert watch.health().startswith("event loop blocked by task type thoughtless for ")
            watch.stop()
    blocked = [line for line in logs if line["event"] == "loop.blocked"]
    assert [line["blocked_by"] for line in blocked] == ["task type thoughtless"]
    assert "in thoughtless" in blocked[0]["stack"]
    assert "in block_until_reported" in blocked[0]["stack"]


async def _in_a_task(logs: Logs) -> None:
    block_until_reported(logs)


async def _in_a_callback(logs: Logs) -> None:
    asyncio.get_running_loop().call_soon(block_until_reported, logs)


@pytest.mark.parametrize(("block", "name"), [(_in_a_task, "_in_a_task"), (_in_a_callback, "a callback")])
async def test_whatever_else_blocks_is_named_as_well(block: Callable[[Logs], Any], name: str) -> None:
    watch = LoopWatch(threshold=0.1)
    with capture_logs() as logs:
        watch.start()
        await asyncio.create_task(block(logs))
        await hear_the_end(logs)
        watch.stop()
    assert [line["blocked_by"] for line in logs] == [name, name]


async def test_stopping_twice_is_harmless() -> None:
    watch = LoopWatch()
    watch.start()
    watch.stop()
    watch.stop()
    assert watch.health() == "ok"
