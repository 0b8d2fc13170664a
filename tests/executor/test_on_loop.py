"""Attempts of `async def` functions, on task loops and on the service's own."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Callable, MutableMapping
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasker import Context, Fail, Retry, Snooze
from tasker.logs.attempt import add_attempt
from tasker.logs.redaction import RedactingStream
from tasker.rules.lifecycle import Cancelled, Failed, Interrupted, Released, Snoozed, Succeeded, TimedOut
from tests.executor.rig import LIMIT, Rig, Signal, open_rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig(cancel_grace=timedelta(seconds=LIMIT)) as rig:
        yield rig


async def wait_for_ever(context: Context) -> None:
    context.output("started")
    await asyncio.Event().wait()


class Stubborn:
    """A function that swallows every cancellation until the test releases it."""

    def __init__(self) -> None:
        self.go = Signal()
        self.ended = Signal()

    def function(self) -> Callable[..., Any]:
        async def stubborn(context: Context) -> str:
            context.output("started")
            while not self.go.is_set():
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    continue
            context.output("too late")
            self.ended.set()
            return "late"

        return stubborn


async def test_what_is_printed_on_a_shared_loop_is_of_the_attempt_that_prints(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what its tasks and the threads of to_thread() print, and a last line without an end."""
    monkeypatch.setattr(sys, "stdout", RedactingStream(io.StringIO(), "stdout"))
    monkeypatch.setattr(sys, "stderr", RedactingStream(io.StringIO(), "stderr"))
    turns = [Signal(), Signal()]

    async def chatty(place: int) -> None:
        print("first of", place)
        turns[place].set()
        await turns[1 - place].wait()
        await asyncio.create_task(asyncio.to_thread(print, "from a thread of", place))
        print("half of", place, end="", file=sys.stderr)

    rig.registry.add(chatty)
    both = [rig.start("chatty", place) for place in (0, 1)]
    for place, running in enumerate(both):
        assert await running.outcome() == Succeeded(b"null")
        assert running.recorder.printed_lines == [
            ("stdout", f"first of {place}"), ("stdout", f"from a thread of {place}"), ("stderr", f"half of {place}"),
        ]  # fmt: skip


async def test_returns_the_result_as_json_text(rig: Rig) -> None:
    async def divide(a: float, b: float) -> float:
        await asyncio.sleep(0)
        return a / b

    rig.registry.add(divide)
    assert await rig.run("divide", 1, 2) == Succeeded(b"0.5")


async def test_reports_of_the_function_reach_the_observer(rig: Rig) -> None:
    async def speak(context: Context) -> str:
        context.progress(0.5)
        context.output("word")
        await asyncio.to_thread(context.output, "from a thread")
        await asyncio.to_thread(context.progress, 0.75)
        await asyncio.to_thread(context.log, "note", level="error", n=1)
        await asyncio.to_thread(context.usage, tokens=3)
        return f"{context.attempt} {context.task_id} {context.cancelled}"

    rig.registry.add(speak)
    running = rig.start("speak", attempt=2)
    assert await running.outcome() == Succeeded(f'"2 {running.claim.task_id} False"'.encode())
    said = running.recorder
    assert said.chunks == ["word", "from a thread"]
    assert [progress.fraction for progress in said.progresses] == [0.5, 0.75]
    assert said.logs == [("error", "note", {"n": 1})]
    assert said.used == {"tokens": 3}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("bad"), "ValueError: bad"),
        (SystemExit(1), "SystemExit: 1"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (MemoryError(), "MemoryError"),
        (Fail("no use"), "no use"),
        (Retry("later"), "later"),
    ],
)
async def test_an_exception_is_a_failure_of_its_attempt_alone(rig: Rig, error: BaseException, outcome: str) -> None:
    async def raise_it() -> None:
        raise error

    rig.registry.add(raise_it)
    ended = await rig.run("raise_it")
    assert isinstance(ended, Failed)
    assert ended.problem.detail == outcome
    assert ended.problem.retryable == (not isinstance(error, Fail))
    assert await rig.run("sum", 2, 3) == Succeeded(b"5")


async def test_a_snooze(rig: Rig) -> None:
    async def nap() -> None:
        raise Snooze(5)

    rig.registry.add(nap)
    assert await rig.run("nap") == Snoozed(timedelta(seconds=5))


async def test_a_result_over_the_limit_fails_for_good() -> None:
    async def make_text(size: int) -> str:
        return "x" * size

    async with open_rig(targets=(), max_result=100) as rig:
        rig.registry.add(make_text)
        assert isinstance(await rig.run("make_text", 98), Succeeded)
        outcome = await rig.run("make_text", 99)
        assert isinstance(outcome, Failed)
        assert outcome.problem.type == "/problems/result-too-large"
        assert "TASKER_MAX_RESULT" in outcome.problem.detail


async def test_log_lines_inside_name_the_task_and_those_outside_do_not(rig: Rig) -> None:
    lines: list[MutableMapping[str, Any]] = []

    async def speak() -> None:
        lines.append(add_attempt(None, "info", {"event": "inside", "attempt": "its own"}))
        await asyncio.to_thread(lambda: lines.append(add_attempt(None, "info", {})))

    rig.registry.add(speak)
    running = rig.start("speak", attempt=3)
    await running.outcome()
    named = {"task_id": str(running.claim.task_id), "attempt": 3, "type": "speak"}
    assert lines == [{**named, "event": "inside", "attempt": "its own"}, named]
    assert add_attempt(None, "info", {"event": "outside"}) == {"event": "outside"}


async def test_a_timeout_cancels_the_function(rig: Rig) -> None:
    rig.registry.add(wait_for_ever)
    assert await rig.run("wait_for_ever", timeout=0.05) == TimedOut(timedelta(seconds=0.05))


async def test_a_cancel_reaches_the_function_at_once_and_lets_it_clean_up(rig: Rig) -> None:
    async def tidy(context: Context) -> str:
        context.output("started")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            context.output(f"cleaned up, cancelled is {context.cancelled}")
        return "never"

    rig.registry.add(tidy)
    running = rig.start("tidy")
    await running.recorder.heard()
    running.stop.cancel()
    running.stop.cancel()
    assert await running.outcome() == Cancelled()
    assert running.recorder.chunks[1:] == ["cleaned up, cancelled is True"]


async def test_a_cancel_after_the_end_changes_nothing(rig: Rig) -> None:
    running = rig.start("sum", 2, 3)
    assert await running.outcome() == Succeeded(b"5")
    running.stop.cancel()
    running.stop.abandon(Released())


async def test_a_function_that_swallows_its_cancel_is_decided_without_it_and_named() -> None:
    async with open_rig(targets=(), cancel_grace=timedelta(seconds=0.05)) as rig:
        stubborn = Stubborn()
        rig.registry.add(stubborn.function())
        for timeout in (None, 0.05):
            running = rig.start("stubborn", timeout=timeout)
            await running.recorder.heard()
            with capture_logs() as logs:
                if timeout is None:
                    running.stop.cancel()
                expected = Cancelled() if timeout is None else TimedOut(timedelta(seconds=0.05))
                assert await running.outcome() == expected
            assert [(line["event"], line["type"]) for line in logs] == [("task.ignores_cancel", "stubborn")]
        stubborn.go.set()
        await stubborn.ended.wait()
        assert running.recorder.chunks == ["started"]


async def test_an_abandoned_attempt_returns_at_once(rig: Rig) -> None:
    stubborn = Stubborn()
    rig.registry.add(stubborn.function())
    running = rig.start("stubborn")
    await running.recorder.heard()
    running.stop.abandon(Interrupted())
    assert await running.outcome() == Interrupted()
    stubborn.go.set()
    await stubborn.ended.wait()
    assert running.recorder.chunks == ["started"]


async def test_a_run_that_is_itself_cancelled_cancels_the_function(rig: Rig) -> None:
    ended = Signal()

    async def tidy(context: Context) -> None:
        context.output("started")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    rig.registry.add(tidy)
    running = rig.start("tidy")
    await running.recorder.heard()
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.outcome()
    async with asyncio.timeout(LIMIT):
        await ended.wait()


async def test_closing_releases_what_runs(rig: Rig) -> None:
    rig.registry.add(wait_for_ever)
    running = rig.start("wait_for_ever")
    await running.recorder.heard()
    await rig.executor.close()
    assert await running.outcome() == Released()


async def test_an_unknown_type_fails(rig: Rig) -> None:
    outcome = await rig.run("nowhere")
    assert isinstance(outcome, Failed)
    assert outcome.problem.type == "/problems/unknown-type"
