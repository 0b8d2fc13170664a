"""Functions in child processes that work in steps: over the channel, from several threads, and at their ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasker.model.steps import Wait
from tasker.rules.lifecycle import Cancelled, Failed, Outcome, Parked, Released, Succeeded
from tasker.tasktypes.steps import Await, RunChildrenAgain, StartChildren, StoreStep
from tasker.testing import START
from tests.executor.rig import LIMIT, TASKS, Rig, open_rig
from tests.executor.stepper import MemoryStepper, Store, later

HERE = str(Path(TASKS).with_name("step_tasks.py"))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig(targets=(HERE, TASKS)) as rig:
        yield rig


@pytest.fixture
def store() -> Store:
    return Store()


def come(store: Store, wait: Wait) -> None:
    """Have all come that an attempt waits for."""
    if wait.until is not None and not wait.inputs:
        store.now = wait.until
    for key in wait.children:
        for place in store.children[key]:
            store.end_child(key, place, msgspec.json.encode({"order": f"{key} {place}", "total": place}))
    for key in wait.inputs:
        store.answer(key, b"true")


async def run_to_the_end(rig: Rig, type_name: str, store: Store, *, isolate: bool = False) -> tuple[Outcome, int]:
    """Run a task as often as it parks; return how it ended, and the number of its attempts."""
    for attempt in range(1, 20):
        stepper = store.stepper(attempt)
        running = rig.start(type_name, "a", stepper=stepper, attempt=attempt, isolate=isolate)
        outcome = await running.outcome()
        if not isinstance(outcome, Parked):
            return outcome, attempt
        come(store, outcome.wait)
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("type_name", "isolate"), [("order", False), ("order_async", False), ("order_async", True)])
async def test_all_calls_do_the_same_wherever_a_function_runs(
    rig: Rig, store: Store, type_name: str, isolate: bool
) -> None:
    outcome, attempts = await run_to_the_end(rig, type_name, store, isolate=isolate)
    assert isinstance(outcome, Succeeded)
    assert msgspec.json.decode(outcome.result) == [
        {"order": "a", "total": 3},
        {"order": "a", "total": 4},
        {"order": "render 0", "total": 0},
        [{"order": f"render#2 {place}", "total": place} for place in range(4)],
        True,
        {"order": "render#3 0", "total": 0},
    ]
    assert attempts == 6
    assert list(store.steps) == ["charge", "charge#2", "cool off", "render", "render#2", "approve", "render#3"]
    assert [step.attempt for step in store.steps.values()] == [1, 1, 1, 2, 3, 4, 5]


async def test_threads_wait_together_and_park_together(rig: Rig, store: Store) -> None:
    stepper = store.stepper()
    stepper.before[Await] = lambda _: stepper.until(Await, 3)  # else it parks before the last one waits
    running = rig.start("sleep_in_threads", stepper=stepper)
    waits = Wait(until=START + timedelta(hours=2), children=("render",))
    assert await running.outcome() == Parked(waits)
    assert running.recorder.chunks == ["Parking"] * 2


async def test_threads_run_steps_at_the_same_time(rig: Rig, store: Store) -> None:
    stepper = store.stepper()
    outcome = await rig.start("step_in_threads", 8, stepper=stepper).outcome()
    assert outcome == Succeeded(b"[0,1,2,3,4,5,6,7]")
    assert len(stepper.asked(StoreStep)) == len(store.steps) == 40


async def test_a_thread_that_still_waits_ends_with_the_attempt(rig: Rig, store: Store) -> None:
    stepper = store.stepper()
    stepper.before[Await] = lambda _: asyncio.Event().wait()
    pid = await rig.value("get_pid")
    running = rig.start("leave_a_waiting_thread", stepper=stepper)
    assert await running.outcome() == Succeeded(b'"a"')
    assert await rig.value("get_pid") == pid, "the child has no thread left, and is used again"
    async with asyncio.timeout(LIMIT):
        while stepper.open:
            await asyncio.sleep(0)


async def test_a_cancel_unwinds_a_function_that_waits(rig: Rig, store: Store) -> None:
    stepper = store.stepper()
    stepper.before[Await] = lambda _: asyncio.Event().wait()
    pid = await rig.value("get_pid")
    running = rig.start("sleep_and_clean_up", stepper=stepper)
    await stepper.until(Await)
    running.stop.cancel()
    assert await running.outcome() == Cancelled()
    assert running.recorder.chunks == ["started", "cleaned up"]
    assert await rig.value("get_pid") == pid


async def test_an_isolated_function_may_store_steps_while_a_cancel_unwinds_it(rig: Rig, store: Store) -> None:
    stepper = store.stepper()
    stepper.before[Await] = lambda _: asyncio.Event().wait()
    running = rig.start("sleep_and_store", stepper=stepper, isolate=True)
    await stepper.until(Await)
    running.stop.cancel()
    assert await running.outcome() == Cancelled()
    assert store.steps["refund"].value == b'{"order":"a","total":-1}'


async def test_a_step_that_hangs_is_killed(store: Store) -> None:
    async with open_rig(targets=(HERE,), cancel_grace=timedelta(seconds=0.1)) as rig:
        running = rig.start("step_for_ever", stepper=store.stepper())
        async with asyncio.timeout(LIMIT):
            while not running.recorder.step_events:
                await asyncio.sleep(0.001)
        running.stop.cancel()
        assert await running.outcome() == Cancelled()
    assert store.steps == {}


async def test_a_superseded_attempt_is_given_back(rig: Rig, store: Store) -> None:
    stepper = store.stepper()
    stepper.is_superseded = True
    assert await rig.start("order", "a", stepper=stepper).outcome() == Released()


async def test_a_function_that_swallows_the_parking_fails(rig: Rig, store: Store) -> None:
    outcome = await rig.start("swallow", stepper=store.stepper()).outcome()
    assert isinstance(outcome, Failed)
    assert outcome.problem.type == "/problems/park-swallowed"


async def test_a_failed_child_runs_again_in_a_new_try(rig: Rig, store: Store) -> None:
    await rig.start("order", "a", stepper=store.stepper()).outcome()
    later(store, hours=2)
    await rig.start("order", "a", stepper=store.stepper(2)).outcome()
    store.end_child("render", 0, None)
    outcome = await rig.start("order", "a", stepper=store.stepper(3)).outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.problem.type, outcome.problem.retryable) == ("/problems/child-failed", True)
    store.change("render", may_run_again=True)
    stepper = store.stepper(4)
    assert await rig.start("order", "a", stepper=stepper).outcome() == Parked(Wait(children=("render",)))
    assert stepper.asked(RunChildrenAgain) == [RunChildrenAgain("render")]
    assert stepper.asked(StartChildren) == []


async def test_errors_of_children_are_values(rig: Rig, store: Store) -> None:
    await rig.start("tell_of_failures", stepper=store.stepper()).outcome()
    store.end_child("render", 0, None)
    store.end_child("render", 1, b'{"order":"b","total":1}')
    assert await rig.start("tell_of_failures", stepper=store.stepper()).outcome() == Succeeded(b'["ChildFailed","b"]')


async def test_a_context_without_a_worker_says_so(rig: Rig) -> None:
    outcome: Any = await rig.run("order", "a")
    assert "this context keeps no steps" in outcome.problem.detail


async def test_a_plain_function_that_gives_an_awaitable_has_an_async_context(rig: Rig, store: Store) -> None:
    outcome = await rig.start("wrapped", "a", stepper=store.stepper()).outcome()
    assert outcome == Succeeded(b'{"order":"a","total":1}')


async def test_large_values_pass_the_channel(rig: Rig, store: Store) -> None:
    stepper: MemoryStepper = store.stepper()
    size = (1 << 20) - 2
    outcome = await rig.start("store_much", size, stepper=stepper).outcome()
    assert outcome == Succeeded(b"%d" % size)
    again = await rig.start("store_much", size, stepper=store.stepper(2)).outcome()
    assert again == outcome
