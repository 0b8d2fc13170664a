"""Functions that report faster than is stored wait; those over their output limit are cut off, and go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tasker.executor.attempt import Stop
from tasker.executor.loop_reporter import InFlight
from tasker.rules.lifecycle import Cancelled, Succeeded
from tests.executor.rig import LIMIT, Recorder, Rig, make_claim, open_rig

PIECES = 300
"""Of 32 KiB: far more than a socket and a stalled store take."""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig() as rig:
        yield rig


class Behind(Recorder):
    """An observer that is full as soon as it has output, until the test frees it."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[], None]] = []
        self._is_freed = False

    @property
    def is_full(self) -> bool:  # type: ignore[override]
        return bool(self.chunks) and not self._is_freed

    def when_not_full(self, callback: Callable[[], None]) -> None:
        if self.is_full:
            self._callbacks.append(callback)
        else:
            callback()

    def free(self) -> None:
        self._is_freed = True
        while self._callbacks:
            self._callbacks.pop()()


async def settled(path: Path) -> int:
    """Return the number of pieces once it has not grown for a while."""
    said, still = -1, 0
    async with asyncio.timeout(LIMIT):
        while still < 10:
            await asyncio.sleep(0.02)
            now = len(path.read_text().splitlines()) if path.exists() else 0
            still = still + 1 if now == said and now else 0
            said = now
    return said


async def test_a_child_waits_while_the_store_is_behind(rig: Rig, tmp_path: Path) -> None:
    observer, stop, path = Behind(), Stop(), tmp_path / "said"
    run = asyncio.create_task(rig.executor.run(make_claim("talk", [PIECES, str(path)]), observer, stop))
    assert await settled(path) < PIECES / 4
    assert not run.done()
    observer.free()
    async with asyncio.timeout(LIMIT):
        outcome = await run
    assert outcome == Succeeded(b"%d" % PIECES)
    assert len("".join(observer.chunks)) == PIECES * 32 * 1024, "nothing is lost"


async def test_a_paused_child_can_be_killed_and_the_next_one_is_read(tmp_path: Path) -> None:
    async with open_rig(cancel_grace=timedelta(seconds=0.1)) as rig:
        observer, stop, path = Behind(), Stop(), tmp_path / "said"
        run = asyncio.create_task(rig.executor.run(make_claim("talk", [PIECES, str(path)]), observer, stop))
        await settled(path)
        stop.cancel()
        async with asyncio.timeout(LIMIT):
            assert await run == Cancelled()
        assert await rig.value("add", 4, 2) == 6


async def test_the_end_of_a_paused_child_is_read_after_the_pause(rig: Rig, tmp_path: Path) -> None:
    """Its end may come behind the reports that had to wait, or before."""
    observer, path = Behind(), tmp_path / "said"
    run = asyncio.create_task(rig.executor.run(make_claim("talk", [1, str(path)]), observer, Stop()))
    await settled(path)
    observer.free()
    async with asyncio.timeout(LIMIT):
        assert await run == Succeeded(b"1")
    assert await rig.value("add", 4, 2) == 6


async def test_a_function_on_a_loop_waits_for_a_while(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.executor.loop_reporter._LONGEST_WAIT", LIMIT)
    observer, path = Behind(), tmp_path / "said"
    run = asyncio.create_task(rig.executor.run(make_claim("talk_async", [PIECES, str(path)]), observer, Stop()))
    assert await settled(path) < PIECES / 4
    observer.free()
    async with asyncio.timeout(LIMIT):
        assert await run == Succeeded(b"%d" % PIECES)
    assert len("".join(observer.chunks)) == PIECES * 32 * 1024


async def test_reports_that_a_loop_had_to_drop_are_counted_in_the_log(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function goes on: it shares its loop with others."""
    monkeypatch.setattr("tasker.executor.loop_reporter._LONGEST_WAIT", 0.01)
    observer, path = Behind(), tmp_path / "said"
    outcome = await asyncio.wait_for(
        rig.executor.run(make_claim("talk_async", [PIECES, str(path)]), observer, Stop()), LIMIT
    )
    assert outcome == Succeeded(b"%d" % PIECES)
    assert len(observer.chunks) < PIECES / 4
    assert [message for _, message, _ in observer.logs] == [
        f"{PIECES - len(observer.chunks):,} reports dropped: they could not be stored in time"
    ]


def test_space_is_given_back() -> None:
    in_flight = InFlight()
    assert in_flight.take(10**9), "one report fits, however long"
    assert not in_flight.take(1)
    assert not in_flight.take(1)
    in_flight.free(10**9)
    assert in_flight.take(1)


@pytest.mark.parametrize("isolate", [False, True])
async def test_a_function_over_its_output_limit_is_cut_off_and_goes_on(rig: Rig, isolate: bool) -> None:
    observer = Recorder()
    observer.max_output = 20_000
    with capture_logs() as logs:
        claim = make_claim("say_too_much")
        outcome = await asyncio.wait_for(rig.executor.run(claim, observer, Stop(), isolate=isolate), LIMIT)
        assert outcome == Succeeded(b'"done"')
    words = sum(map(len, observer.chunks)) + sum(len(message) for _, message, _ in observer.logs)
    printed = sum(len(entry["event"]) for entry in logs if entry["event"].startswith("ppp"))
    assert 20_000 < words + printed <= 22_000, "including the first report over the limit, so that the service knows"
    again = await rig.value("make_text", 10)
    assert len(again) == 10
