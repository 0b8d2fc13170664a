"""`def` functions in threads of the service: the same outcomes as in a child, but nothing that needs a kill."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tasker import SyncContext, task
from tasker.logs.redaction import RedactingStream
from tasker.model.steps import Wait
from tasker.rules.lifecycle import Cancelled, Failed, Parked, Released, Succeeded
from tasker.tasktypes.steps import Await
from tasker.testing import START
from tests.executor import step_tasks
from tests.executor.rig import LIMIT, Rig, Signal, open_rig, own_children
from tests.executor.stepper import Store
from tests.executor.test_steps_in_child import run_to_the_end

GO_ON: dict[str, threading.Event] = {}


@task
def get_thread() -> str:
    return threading.current_thread().name


@task
def boom(context: SyncContext) -> None:
    context.log("about to fail", level="warning")
    raise ValueError("no such page")


@task
def hold(name: str, context: SyncContext) -> str:
    """Wait for the test; notice nothing."""
    context.output("started")
    assert GO_ON[name].wait(LIMIT)
    return "done"


@task
def hold_and_look(name: str, context: SyncContext) -> str:
    context.output("started")
    assert GO_ON[name].wait(LIMIT)
    return "cancelled" if context.cancelled else "done"


@task
def say(text: str) -> None:
    print(text)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig(targets=(), in_process=True, cancel_grace=timedelta(seconds=0.01)) as rig:
        for function in (get_thread, boom, hold, hold_and_look, say, *_step_functions()):
            rig.registry.add(function)
        yield rig


def _step_functions() -> list[Callable[..., Any]]:
    names = ("order", "order_async", "render", "sleep_in_threads", "step_in_threads", "sleep_and_clean_up", "wrapped")
    return [getattr(step_tasks, name) for name in names]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = GO_ON["gate"] = threading.Event()
    yield event
    event.set()


async def test_a_function_runs_in_a_thread_and_no_child_is_started(rig: Rig) -> None:
    before = own_children()
    assert (await rig.value("get_thread")).startswith("task get_thread (")
    assert (await rig.value("get_thread", isolate=True)).startswith("task get_thread (")
    assert own_children() == before
    assert rig.executor.health() == "ok"


async def test_what_it_raises_and_reports_arrives(rig: Rig) -> None:
    running = rig.start("boom")
    outcome = await running.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.problem.traceback is not None
    assert "test_in_thread.py" in outcome.problem.traceback
    assert running.recorder.logs == [("warning", "about to fail", {})]


async def test_a_timeout_ends_nothing(rig: Rig, gate: threading.Event, capsys: pytest.CaptureFixture[str]) -> None:
    over = Signal()
    running = rig.start("hold", "gate", timeout=0.01)
    await running.recorder.heard()
    asyncio.get_running_loop().call_later(0.05, over.set)  # timers of a loop are in order
    await over.wait()
    assert not running.task.done()
    gate.set()
    assert await running.outcome() == Succeeded(b'"done"')
    assert "task.over_time" in capsys.readouterr().out


async def test_a_cancel_counts_if_the_function_has_noticed_it(rig: Rig, gate: threading.Event) -> None:
    running = rig.start("hold_and_look", "gate")
    await running.recorder.heard()
    running.stop.cancel()
    gate.set()
    assert await running.outcome() == Cancelled()


async def test_a_cancel_after_the_grace_counts_in_any_case(rig: Rig, gate: threading.Event) -> None:
    over = Signal()
    running = rig.start("hold", "gate")
    await running.recorder.heard()
    running.stop.cancel()
    asyncio.get_running_loop().call_later(0.05, over.set)  # later than the grace
    await over.wait()
    assert not running.task.done(), "the function still runs"
    gate.set()
    assert await running.outcome() == Cancelled()


async def test_an_abandoned_attempt_is_decided_without_its_function(rig: Rig, gate: threading.Event) -> None:
    running = rig.start("hold", "gate")
    await running.recorder.heard()
    running.stop.abandon(Released())
    assert await running.outcome() == Released()


@pytest.mark.parametrize("type_name", ["order", "order_async"])
async def test_all_calls_do_the_same_as_in_a_child(rig: Rig, type_name: str) -> None:
    store = Store()
    outcome, attempts = await run_to_the_end(rig, type_name, store)
    assert isinstance(outcome, Succeeded)
    assert msgspec.json.decode(outcome.result)[:2] == [{"order": "a", "total": 3}, {"order": "a", "total": 4}]
    assert attempts == 6
    assert list(store.steps) == ["charge", "charge#2", "cool off", "render", "render#2", "approve", "render#3"]


async def test_threads_of_a_function_wait_and_park_together(rig: Rig) -> None:
    stepper = Store().stepper()
    stepper.before[Await] = lambda _: stepper.until(Await, 3)  # else it parks before the last one waits
    running = rig.start("sleep_in_threads", stepper=stepper)
    assert await running.outcome() == Parked(Wait(until=START + timedelta(hours=2), children=("render",)))


async def test_threads_of_a_function_work_in_steps_at_once(rig: Rig) -> None:
    running = rig.start("step_in_threads", 4, stepper=Store().stepper())
    assert await running.outcome() == Succeeded(b"[0,1,2,3]")


async def test_a_cancel_unwinds_a_call_that_waits(rig: Rig) -> None:
    stepper, never = Store().stepper(), asyncio.Event()
    stepper.before = {Await: lambda _: never.wait()}
    running = rig.start("sleep_and_clean_up", stepper=stepper)
    await stepper.until(Await)
    running.stop.cancel()
    assert await running.outcome() == Cancelled()
    assert running.recorder.chunks == ["started", "cleaned up"]


async def test_an_abandoned_attempt_lets_go_of_a_thread_that_waits(rig: Rig) -> None:
    stepper, never = Store().stepper(), asyncio.Event()
    stepper.before = {Await: lambda _: never.wait()}
    running = rig.start("sleep_and_clean_up", stepper=stepper)
    await stepper.until(Await)
    thread = _thread_of("sleep_and_clean_up")
    running.stop.abandon(Released())
    assert await running.outcome() == Released()
    await asyncio.to_thread(thread.join, LIMIT)
    assert not thread.is_alive()


def _thread_of(type_name: str) -> threading.Thread:
    [thread] = [one for one in threading.enumerate() if one.name.startswith(f"task {type_name} (")]
    return thread


async def test_a_def_that_wraps_an_async_def_works_in_steps(rig: Rig) -> None:
    outcome = await rig.start("wrapped", "a", stepper=Store().stepper()).outcome()
    assert outcome == Succeeded(b'{"order":"a","total":1}')


async def test_what_it_prints_is_its_own(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", RedactingStream(sys.stdout, "stdout"))
    running, other = rig.start("say", "one"), rig.start("say", "two\nthree")
    await running.outcome()
    await other.outcome()
    assert running.recorder.printed_lines == [("stdout", "one")]
    assert other.recorder.printed_lines == [("stdout", "two"), ("stdout", "three")]
