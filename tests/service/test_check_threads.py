"""Checks of params in threads: one owner's wait for each other, none keeps the loop, and none lasts for ever."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tasker.errors import Unavailable
from tasker.service import check_threads
from tasker.service.check_threads import CheckThreads, CheckTimeout


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def spin() -> None:
    while True:
        pass


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def threads_of_checks() -> int:
    return sum(thread.name == "tasker-check" for thread in threading.enumerate())


async def test_it_returns_or_raises_what_the_check_does() -> None:
    threads = CheckThreads()
    assert await threads.run("", lambda: threading.current_thread().name) == "tasker-check"
    with pytest.raises(ZeroDivisionError):
        await threads.run("", lambda: 1 // 0)


async def test_an_owner_has_one_thread_and_others_theirs(release: threading.Event) -> None:
    threads, order = CheckThreads(), []

    def first() -> None:
        release.wait()
        order.append("first")

    slow = asyncio.create_task(threads.run("a", first))
    next_one = asyncio.create_task(threads.run("a", lambda: order.append("second")))
    await threads.run("b", lambda: order.append("other"))
    release.set()
    await asyncio.gather(slow, next_one)
    assert order == ["other", "first", "second"]


async def test_a_check_that_takes_too_long_is_stopped_and_the_next_one_begins() -> None:
    threads = CheckThreads(within=0.1)
    with pytest.raises(CheckTimeout):
        await threads.run("a", spin)
    threads.within = 30
    assert await threads.run("a", lambda: 5) == 5


async def test_a_cancelled_request_stops_its_check() -> None:
    threads = CheckThreads()
    task = asyncio.create_task(threads.run("a", spin))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await threads.run("a", lambda: 5) == 5


async def test_the_patience_for_earlier_ones_ends(release: threading.Event) -> None:
    threads = CheckThreads(patience=0.05)
    slow = asyncio.create_task(threads.run("a", release.wait))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="other checks of params take long"):
        await threads.run("a", lambda: 5)
    release.set()
    await slow
    assert await threads.run("a", lambda: 5) == 5


async def test_a_check_that_cannot_be_stopped_is_abandoned(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_threads, "ENDS_WITHIN", 0.1)
    monkeypatch.setattr(check_threads, "MAX_LEFT", 1)
    threads = CheckThreads(within=0.05)
    with pytest.raises(CheckTimeout):
        await threads.run("a", release.wait)
    with pytest.raises(Unavailable, match="hang"):
        await threads.run("a", lambda: 5)
    release.set()
    threads.within = 30
    await until(lambda: not threads._left[0].is_alive())
    assert await threads.run("a", lambda: 5) == 5


async def test_a_check_that_catches_everything_ends_all_the_same() -> None:
    def stubborn() -> str:
        for _ in range(3):
            try:
                spin()
            except BaseException:
                continue
        return "end"

    threads = CheckThreads(within=0.05)
    with pytest.raises(CheckTimeout):
        await threads.run("a", stubborn)
    threads.within = 30
    assert await threads.run("a", lambda: 5) == 5


async def test_the_loop_goes_on_while_a_check_computes() -> None:
    """It has its turns; after the check Python switches between threads as it did before."""
    before = sys.getswitchinterval()
    threads = CheckThreads(within=30)
    task = asyncio.create_task(threads.run("a", spin))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not task.done()
    assert sys.getswitchinterval() <= check_threads.SWITCH_EVERY
    task.cancel()
    await until(lambda: sys.getswitchinterval() == before)


async def test_nothing_is_left_behind() -> None:
    threads = CheckThreads()
    await asyncio.gather(*(threads.run(str(owner), lambda: None) for owner in range(50)))
    assert not threads._turns
    assert len(threads._idle) <= check_threads.THREADS
    before = threads_of_checks()
    count = len(threads._idle)
    del threads
    gc.collect()
    await until(lambda: threads_of_checks() <= before - count)


async def test_many_slow_owners_keep_no_quick_one_waiting(release: threading.Event) -> None:
    """As many slow owners wait as there are threads; another owner, who was never slow, gets a thread at once."""
    threads = CheckThreads(within=60, patience=60, slow_after=0.01)
    owners = [f"slow {number}" for number in range(check_threads.THREADS)]
    for owner in owners:
        await threads.run(owner, lambda: time.sleep(0.03))
    slow = [asyncio.create_task(threads.run(owner, release.wait)) for owner in owners]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        for _ in range(3):
            assert await threads.run("quick", lambda: 5) == 5
    assert not any(task.done() for task in slow)
    release.set()
    await asyncio.gather(*slow)
