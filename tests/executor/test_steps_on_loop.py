"""Functions on loops that work in steps: what is stored, how they park, and how they end when they must not go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tasker import ChildFailed, Context, Fail, Snooze
from tasker.executor.requests import Requests
from tasker.model.steps import Wait
from tasker.rules.lifecycle import Cancelled, Failed, Outcome, Parked, Released, Succeeded, TimedOut
from tasker.tasktypes.steps import Await, Refused, Sleep, StoreStep, Superseded
from tasker.testing import START
from tests.executor.rig import LIMIT, TASKS, Rig, Signal, make_claim, open_rig
from tests.executor.stepper import MemoryStepper, Store, later

HERE = str(Path(TASKS).with_name("step_tasks.py"))
TWO_HOURS = Parked(Wait(until=START + timedelta(hours=2)))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig(targets=(HERE,)) as rig:
        yield rig


@pytest.fixture
def store() -> Store:
    return Store()


async def run(rig: Rig, function: Callable[..., Any], stepper: MemoryStepper) -> Outcome:
    if function.__name__ not in rig.registry:
        rig.registry.add(function)
    return await rig.start(function.__name__, stepper=stepper, attempt=stepper.attempt).outcome()


def detail(outcome: Outcome) -> tuple[str, str, bool]:
    assert isinstance(outcome, Failed), outcome
    return outcome.problem.type.rpartition("/")[2], outcome.problem.detail, outcome.problem.retryable


@dataclass
class Receipt:
    order: str


async def charge(order: str) -> Receipt:
    return Receipt(order)


async def test_a_function_goes_on_where_it_was(rig: Rig, store: Store) -> None:
    ran = []

    async def buy(context: Context) -> list[str]:
        ran.append("between")
        first = await context.step("charge", charge, "a")
        await context.sleep("cool off", hours=2)
        second = await context.step("charge", charge, "b")
        assert type(first) is type(second) is Receipt
        return [first.order, second.order]

    assert await run(rig, buy, store.stepper(1)) == TWO_HOURS
    later(store, hours=2)
    assert await run(rig, buy, store.stepper(2)) == Succeeded(b'["a","b"]')
    assert [step.attempt for step in store.steps.values()] == [1, 1, 2]
    assert ran == ["between"] * 2


async def test_steps_of_a_gather_are_counted_in_the_order_of_their_calls(rig: Rig, store: Store) -> None:
    async def late(place: int) -> int:
        for _ in range(5 - place):
            await asyncio.sleep(0)
        return place

    async def gathers(context: Context) -> list[int]:
        return await asyncio.gather(*(context.step("late", late, place) for place in range(5)))

    assert await run(rig, gathers, store.stepper()) == Succeeded(b"[0,1,2,3,4]")
    stored = {step.key: step.value for step in store.steps.values()}
    assert stored == {"late": b"0", "late#2": b"1", "late#3": b"2", "late#4": b"3", "late#5": b"4"}


async def waits_by_gather(context: Context) -> None:
    await asyncio.gather(
        context.sleep("short", hours=2),
        context.sleep("long", hours=9),
        context.call("add", 1, 2),
        context.ask("approve", bool, message="Well?"),
    )


async def waits_in_a_group(context: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(context.sleep("short", hours=2))
        group.create_task(context.sleep("long", hours=9))
        group.create_task(context.call("add", 1, 2))
        group.create_task(context.ask("approve", bool, message="Well?"))
        group.create_task(asyncio.Event().wait())  # is cancelled because of the others


async def waits_within_groups(context: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(waits_in_a_group(context))
        await asyncio.Event().wait()


@pytest.mark.parametrize("function", [waits_by_gather, waits_in_a_group, waits_within_groups])
async def test_parks_with_all_that_the_branches_wait_for(rig: Rig, store: Store, function: Callable[..., Any]) -> None:
    union = Wait(until=START + timedelta(hours=2), inputs=("approve",), children=("add",))
    assert await run(rig, function, store.stepper()) == Parked(union)


async def test_a_step_that_runs_keeps_the_attempt_alive(rig: Rig, store: Store) -> None:
    go = Signal()

    async def slow() -> str:
        await go.wait()
        return "done"

    async def both(context: Context) -> None:
        await asyncio.gather(context.sleep("nap", hours=2), context.step("slow", slow))

    rig.registry.add(both)
    stepper = store.stepper()
    stepper.before[Await] = lambda _: asyncio.sleep(0)
    running = rig.start("both", stepper=stepper)
    await stepper.until(Await, 5)
    assert not running.task.done()
    go.set()
    assert await running.outcome() == TWO_HOURS
    assert store.steps["slow"].value == b'"done"'


async def test_finally_runs_and_further_calls_are_unwound(rig: Rig, store: Store) -> None:
    seen = []

    async def tidy(context: Context) -> None:
        try:
            await context.sleep("nap", hours=2)
        except Exception:
            seen.append("caught")
        finally:
            try:
                await context.step("charge", charge, "a")
            except BaseException as error:
                seen.append(type(error).__name__)
                raise

    assert await run(rig, tidy, store.stepper()) == TWO_HOURS
    assert seen == ["Parking"]
    assert list(store.steps) == ["nap"]


async def swallows(context: Context) -> str:
    try:
        await context.sleep("nap", hours=2)
    except BaseException:
        return "anyway"
    return "slept"


async def raises_instead(context: Context) -> None:
    try:
        await context.sleep("nap", hours=2)
    finally:
        raise ValueError("mine")


async def snoozes_instead(context: Context) -> None:
    try:
        await context.sleep("nap", hours=2)
    finally:
        raise Snooze(5)


@pytest.mark.parametrize(
    ("function", "what"),
    [(swallows, "it returned"), (raises_instead, "it raised ValueError"), (snoozes_instead, "it raised Snooze")],
)
async def test_a_function_that_swallows_the_parking_fails(
    rig: Rig, store: Store, function: Callable[..., Any], what: str
) -> None:
    name, text, retryable = detail(await run(rig, function, store.stepper()))
    assert (name, retryable) == ("park-swallowed", False)
    assert what in text


async def test_a_branch_that_fails_as_the_others_park_runs_again_later(rig: Rig, store: Store) -> None:
    async def breaks(context: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(context.sleep("nap", hours=2))
            group.create_task(fails_when_cancelled())

    async def fails_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("of a branch")

    assert await run(rig, breaks, store.stepper()) == TWO_HOURS


async def test_what_is_there_quickly_costs_no_parking(rig: Rig, store: Store) -> None:
    async def answers(context: Context) -> list[Any]:
        return [await context.call("add", 1, 2), await context.ask("approve", bool, message="Well?")]

    stepper = store.stepper()

    async def come(request: Any) -> None:
        for key in request.wait.children:
            store.end_child(key, 0, b"3")
        for key in request.wait.inputs:
            store.answer(key, b"true")

    stepper.before[Await] = come
    assert await run(rig, answers, stepper) == Succeeded(b"[3,true]")


@pytest.mark.parametrize("kind", [StoreStep, Sleep, Await])
async def test_a_superseded_attempt_is_given_back(rig: Rig, store: Store, kind: type) -> None:
    async def buy(context: Context) -> str:
        try:
            await context.step("charge", charge, "a")
            await context.sleep("nap", hours=2)
        except BaseException:
            if kind is not Await:
                raise
        return "whatever"

    stepper = store.stepper()

    async def supersede(_: Any) -> None:
        stepper.is_superseded = True

    stepper.before[kind] = supersede
    assert await run(rig, buy, stepper) == Released()


async def test_failures_have_their_problems(rig: Rig, store: Store) -> None:
    async def with_child(context: Context) -> None:
        await context.call("add", 1, 2)

    async def with_question(context: Context) -> None:
        await context.ask("approve", bool, message="Well?", timeout=1)

    async def with_step(context: Context) -> None:
        await context.step("charge", charge, "a")

    async def with_child_caught(context: Context) -> str:
        try:
            await context.call("add", 1, 2)
        except ChildFailed as error:
            raise Fail("child gone") from error
        return ""

    for function in (with_child, with_question):
        await run(rig, function, store.stepper())
    store.end_child("add", 0, None)
    later(store, seconds=1)
    store.put("charge", 1, name="charge", kind="step", value=b"5", finished_at=START)
    found = [
        detail(await run(rig, one, store.stepper()))
        for one in (with_child, with_question, with_step, with_child_caught)
    ]
    assert [(name, retryable) for name, _, retryable in found] == [
        ("child-failed", True), ("input-timeout", False), ("step-changed", False), ("task-failed", False),
    ]  # fmt: skip
    assert str(store.children["add"][0].task_id) in found[0][1]


async def test_children_that_are_refused_fail_the_attempt(rig: Rig, store: Store) -> None:
    async def with_child(context: Context) -> None:
        await context.call("nothing")

    stepper = store.stepper()
    stepper.refusal = Refused("unknown-type", "there is no task type 'nothing'")
    outcome = detail(await run(rig, with_child, stepper))
    assert outcome == ("unknown-type", "there is no task type 'nothing'", False)


async def test_a_context_without_a_worker_says_so(rig: Rig) -> None:
    async def buy(context: Context) -> None:
        await context.sleep("nap", hours=2)

    rig.registry.add(buy)
    assert "this context keeps no steps" in detail(await rig.run("buy"))[1]


async def test_a_call_within_a_step_is_refused(rig: Rig, store: Store) -> None:
    async def nested(context: Context) -> None:
        async def inner() -> None:
            await context.sleep("nap", hours=2)

        await context.step("outer", inner)

    name, text, _ = detail(await run(rig, nested, store.stepper()))
    assert name == "task-raised"
    assert "within the step 'outer'" in text
    assert store.steps == {}


async def test_a_blocking_function_may_run_in_a_thread(rig: Rig, store: Store) -> None:
    here = []

    def block(order: str) -> Receipt:
        here.append(threading.current_thread())
        return Receipt(order)

    async def buy(context: Context) -> str:
        here.append(threading.current_thread())
        receipt = await context.step("charge", asyncio.to_thread, block, "a")
        assert isinstance(receipt, Receipt)
        return receipt.order

    assert await run(rig, buy, store.stepper()) == Succeeded(b'"a"')
    assert here[0] is not here[1]


# the ends of attempts


async def test_a_cancel_may_store_steps_while_it_unwinds_the_function(rig: Rig, store: Store) -> None:
    stepper = store.stepper()
    stepper.before[Await] = lambda _: asyncio.Event().wait()
    running = rig.start("sleep_and_store", stepper=stepper)
    await stepper.until(Await)
    running.stop.cancel()
    assert await running.outcome() == Cancelled()
    assert store.steps["refund"].value == b'{"order":"a","total":-1}'
    await idle(stepper)


async def idle(stepper: MemoryStepper) -> None:
    """Wait until no request is open."""
    async with asyncio.timeout(LIMIT):
        while stepper.open:
            await asyncio.sleep(0)


@pytest.mark.parametrize("how", ["cancel", "abandon", "timeout"])
async def test_the_end_of_an_attempt_cancels_its_open_requests(rig: Rig, store: Store, how: str) -> None:
    async def nap(context: Context) -> None:
        await context.sleep("nap", hours=2)

    rig.registry.add(nap)
    stepper = store.stepper()
    stepper.before[Await] = lambda _: asyncio.Event().wait()
    running = rig.start("nap", stepper=stepper, timeout=0.05 if how == "timeout" else None)
    await stepper.until(Await)
    if how == "cancel":
        running.stop.cancel()
    elif how == "abandon":
        running.stop.abandon(Released())
    assert isinstance(await running.outcome(), Cancelled | Released | TimedOut)
    await idle(stepper)


async def test_a_function_that_goes_on_after_its_end_is_superseded(store: Store) -> None:
    ended = Signal()
    seen: list[str] = []

    async def stubborn(context: Context) -> None:
        while not ended.is_set():
            try:
                await context.sleep("nap", hours=2)
            except asyncio.CancelledError:
                continue
            except BaseException as error:
                seen.append(type(error).__name__)
                ended.set()

    async with open_rig(cancel_grace=timedelta(0)) as rig:
        rig.registry.add(stubborn)
        stepper = store.stepper()
        stepper.before[Sleep] = lambda _: asyncio.Event().wait()
        running = rig.start("stubborn", stepper=stepper, timeout=0.05)
        await running.outcome()
        await asyncio.wait_for(ended.wait(), LIMIT)
    assert seen == ["Parking"]


async def test_requests_are_answered_concurrently_and_a_bug_is_an_answer(store: Store) -> None:
    stepper = store.stepper()
    replies: list[Any] = []
    requests = Requests(stepper, make_claim("order"))
    gate = asyncio.Event()
    stepper.before[Sleep] = lambda _: gate.wait()

    def explode(_: Any) -> None:
        raise RuntimeError("bug")

    stepper.before[StoreStep] = explode
    requests.serve(Sleep("a", "a", timedelta(0)), lambda _: replies.append("slept"))
    requests.serve(StoreStep("b", "b", b"1", 0.0), replies.append)
    await stepper.until(StoreStep)
    async with asyncio.timeout(LIMIT):
        while not replies:
            await asyncio.sleep(0)
    assert isinstance(replies[0], Refused)
    assert replies[0].problem == "internal"
    requests.close()
    async with asyncio.timeout(LIMIT):
        while len(replies) < 2:
            await asyncio.sleep(0)
    requests.serve(Sleep("c", "c", timedelta(0)), replies.append)
    assert replies[1:] == ["slept", Superseded()]


async def test_a_request_that_is_cancelled_before_it_begins_has_an_answer(store: Store) -> None:
    replies: list[Any] = []
    requests = Requests(store.stepper(), make_claim("order"))
    requests.serve(Sleep("a", "a", timedelta(0)), replies.append)
    requests.close()
    async with asyncio.timeout(LIMIT):
        while not replies:
            await asyncio.sleep(0)
    assert replies == [Superseded()]
    assert store.steps == {}


async def test_parking_within_a_task_that_nobody_awaits_leaves_no_noise(
    rig: Rig, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    done = Signal()

    async def leaves(context: Context) -> None:
        left = asyncio.create_task(context.sleep("other", hours=3))
        left.add_done_callback(lambda _: done.set())
        del left
        await context.sleep("nap", hours=2)

    assert await run(rig, leaves, store.stepper()) == TWO_HOURS
    await asyncio.wait_for(done.wait(), LIMIT)
    assert await rig.value("collect_garbage") >= 0
    assert [record.message for record in caplog.records] == []


async def forgets_a_step(context: Context) -> str:
    context.step("charge", charge, "a")  # type: ignore[unused-coroutine]
    return "done"


async def forgets_a_sleep(context: Context) -> None:
    context.sleep("nap", hours=2)  # type: ignore[unused-coroutine]


async def forgets_a_map(context: Context) -> None:
    context.map("add", [1])  # type: ignore[unused-coroutine]


@pytest.mark.parametrize(
    ("function", "call"),
    [(forgets_a_step, "step('charge')"), (forgets_a_sleep, "sleep('nap')"), (forgets_a_map, "map('add')")],
)
async def test_a_forgotten_await_fails_the_attempt(
    rig: Rig, store: Store, function: Callable[..., Any], call: str
) -> None:
    text = f"context.{call} was never awaited, and did nothing: write `await context.{call}`"
    assert detail(await run(rig, function, store.stepper())) == ("task-failed", text, False)
    assert store.steps == {}


async def test_a_call_that_was_cancelled_before_it_began_is_not_forgotten(rig: Rig, store: Store) -> None:
    async def changes_its_mind(context: Context) -> str:
        asyncio.create_task(context.sleep("nap", hours=2)).cancel()
        context.step("charge", charge, "a").close()
        await asyncio.sleep(0)
        return "done"

    assert await run(rig, changes_its_mind, store.stepper()) == Succeeded(b'"done"')


async def test_a_thread_with_a_loop_of_its_own_may_call_the_context(rig: Rig, store: Store) -> None:
    async def in_a_thread(context: Context) -> str:
        receipt = await asyncio.to_thread(asyncio.run, context.step("charge", charge, "a"))
        return receipt.order

    assert await run(rig, in_a_thread, store.stepper()) == Succeeded(b'"a"')
