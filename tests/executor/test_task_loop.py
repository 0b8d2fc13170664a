"""Users' `async def` functions that exit, block or refuse to stop harm only their own loop."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tasker import Context
from tasker.executor import attribution
from tasker.executor.task_loop import MAX_LOOPS, Mailbox
from tasker.rules.lifecycle import Cancelled, Failed, Interrupted, Succeeded, TimedOut
from tests.executor.rig import LIMIT, Rig, Signal, open_rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig(targets=(), cancel_grace=timedelta(seconds=0.05)) as rig:
        yield rig


async def leave() -> None:
    sys.exit(3)


async def interrupt() -> None:
    raise KeyboardInterrupt


async def gathers() -> None:
    await asyncio.gather(leave())


async def creates_and_awaits() -> None:
    await asyncio.create_task(leave())


async def creates_and_forgets() -> None:
    task = asyncio.create_task(leave())
    await asyncio.Event().wait()
    await task


async def catches_what_a_task_raised() -> None:
    try:
        await asyncio.gather(leave())
    except SystemExit:
        await asyncio.Event().wait()


async def groups() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(interrupt())


async def calls_soon() -> None:
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.Event().wait()


async def calls_later() -> None:
    asyncio.get_running_loop().call_later(0.001, sys.exit, 3)
    await asyncio.Event().wait()


async def calls_from_a_thread() -> None:
    await asyncio.to_thread(asyncio.get_running_loop().call_soon_threadsafe, sys.exit, 3)
    await asyncio.Event().wait()


async def exits_in_a_done_callback() -> None:
    asyncio.create_task(asyncio.sleep(0)).add_done_callback(lambda _: sys.exit(3))
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("function", "detail"),
    [
        (leave, "SystemExit: 3"),
        (gathers, "SystemExit: 3"),
        (creates_and_awaits, "SystemExit: 3"),
        (creates_and_forgets, "SystemExit: 3"),
        (catches_what_a_task_raised, "SystemExit: 3"),
        (groups, "KeyboardInterrupt"),
        (calls_soon, "SystemExit: 3"),
        (calls_later, "SystemExit: 3"),
        (calls_from_a_thread, "SystemExit: 3"),
        (exits_in_a_done_callback, "SystemExit: 3"),
    ],
)
async def test_an_exit_from_anywhere_fails_its_own_attempt_and_no_other(
    rig: Rig, function: Callable[..., Awaitable[None]], detail: str
) -> None:
    go = Signal()

    async def sibling(context: Context) -> str:
        context.output("started")
        await go.wait()
        return threading.current_thread().name

    rig.registry.add(sibling)
    rig.registry.add(function)
    beside = rig.start("sibling")
    await beside.recorder.heard()
    outcome = await rig.run(function.__name__)
    assert isinstance(outcome, Failed)
    assert outcome.problem.detail == detail
    assert outcome.problem.exception is not None
    assert outcome.problem.exception.class_ == detail.partition(":")[0]
    go.set()
    assert await beside.outcome() == Succeeded(b'"task loop 1"')
    assert await rig.run("sibling") == Succeeded(b'"task loop 1"'), "the same loop goes on"


async def test_an_exit_is_logged_with_the_task_that_it_came_from(rig: Rig) -> None:
    rig.registry.add(calls_soon)
    with capture_logs() as logs:
        running = rig.start("calls_soon")
        await running.outcome()
    [line] = [line for line in logs if line["event"] == "task.tried_to_exit"]
    assert line["raised"] == "SystemExit"
    assert line["by"] == f"task type calls_soon (task {running.claim.task_id})"


class ExitsWhenShown(Exception):
    def __str__(self) -> str:
        sys.exit(0)


class ExitsWhenAsked(Exception):
    @property
    def __class__(self) -> type:
        sys.exit(0)


@pytest.mark.parametrize("kind", [ExitsWhenShown, ExitsWhenAsked])
async def test_an_exception_that_exits_when_it_is_looked_at_is_a_failure(rig: Rig, kind: type[Exception]) -> None:
    async def raises() -> None:
        raise kind

    rig.registry.add(raises)
    outcome = await rig.run("raises")
    assert isinstance(outcome, Failed)
    assert outcome.problem.detail.startswith(kind.__name__)
    assert outcome.problem.retryable


async def test_a_function_that_stops_its_loop_stops_nothing(rig: Rig) -> None:
    async def stops() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.001)
        return "still here"

    rig.registry.add(stops)
    assert await rig.run("stops") == Succeeded(b'"still here"')


async def test_attempts_on_a_broken_loop_run_again_and_new_ones_find_another_loop(rig: Rig) -> None:
    async def breaks() -> None:
        def select(_timeout: float | None = None) -> None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

        asyncio.get_running_loop()._selector.select = select  # type: ignore[attr-defined]

    async def sibling(context: Context) -> str:
        context.output("started")
        await asyncio.Event().wait()
        return "never"

    async def name() -> str:
        return threading.current_thread().name

    for function in (breaks, sibling, name):
        rig.registry.add(function)
    beside = rig.start("sibling")
    await beside.recorder.heard()
    with capture_logs() as logs:
        await rig.run("breaks")
        assert await beside.outcome() == Interrupted()
    assert "task.loop_broken" in [line["event"] for line in logs]
    assert await rig.run("name") == Succeeded(b'"task loop 2"')


async def test_a_blocked_loop_delays_nothing_else(rig: Rig) -> None:
    """The service's own loop goes on, and a task that the blocked loop has not begun moves to another one."""
    go = threading.Event()

    async def blocks(context: Context) -> str:
        context.output("started")
        go.wait(LIMIT)
        return threading.current_thread().name

    async def name() -> str:
        return threading.current_thread().name

    rig.registry.add(blocks)
    rig.registry.add(name)
    with capture_logs() as logs:
        blocked = rig.start("blocks")
        await blocked.recorder.heard()
        assert await rig.run("name") == Succeeded(b'"task loop 2"')
        assert await rig.run("sum", 2, 3) == Succeeded(b"5")
        assert rig.executor.health() == "ok"
        go.set()
        assert await blocked.outcome() == Succeeded(b'"task loop 1"')
    [line] = [line for line in logs if line["event"] == "loop.blocked"]
    assert line["blocked_by"] == f"task type blocks (task {blocked.claim.task_id})"
    assert "in blocks" in line["stack"]


async def test_a_blocked_attempt_is_decided_by_its_timeout_and_its_cancel(rig: Rig) -> None:
    """It goes on in its thread, where nothing can end it; later reports and its result are ignored."""
    go, ended = threading.Event(), Signal()

    async def blocks(context: Context) -> str:
        context.output("started")
        go.wait(LIMIT)
        context.output("too late")
        ended.set()
        return "late"

    rig.registry.add(blocks)
    timed = rig.start("blocks", timeout=0.05)
    assert await timed.outcome() == TimedOut(timedelta(seconds=0.05))
    cancelled = rig.start("blocks")
    await cancelled.recorder.heard()
    cancelled.stop.cancel()
    assert await cancelled.outcome() == Cancelled()
    go.set()
    await ended.wait()
    assert (timed.recorder.chunks, cancelled.recorder.chunks) == (["started"], ["started"])


@pytest.mark.parametrize("is_moved", [False, True])
async def test_an_attempt_cancelled_before_its_loop_begins_it_never_runs(rig: Rig, is_moved: bool) -> None:
    go = threading.Event()
    ran: list[str] = []

    async def blocks(context: Context) -> None:
        context.output("started")
        go.wait(LIMIT)

    async def late() -> None:
        ran.append("late")

    async def name() -> str:
        return threading.current_thread().name

    for function in (blocks, late, name):
        rig.registry.add(function)
    first = rig.start("blocks")
    await first.recorder.heard()
    waiting = rig.start("late")
    await asyncio.sleep(0)
    waiting.stop.cancel()
    assert await waiting.outcome() == Cancelled()
    if is_moved:
        assert await rig.run("name") == Succeeded(b'"task loop 2"')
    go.set()
    assert await first.outcome() == Succeeded(b"null")
    assert await rig.run("late") == Succeeded(b"null")
    assert ran == ["late"]


async def test_closing_logs_a_function_that_only_the_end_of_the_process_stops() -> None:
    go = threading.Event()
    async with open_rig(targets=()) as rig:

        async def blocks(context: Context) -> None:
            context.output("started")
            go.wait(LIMIT)

        rig.registry.add(blocks)
        await rig.start("blocks").recorder.heard()
        with capture_logs() as logs:
            await rig.executor.close()
        assert [line["event"] for line in logs] == ["executor.not_ended"]
        go.set()


async def test_closing_ends_the_threads_of_loops() -> None:
    async with open_rig(targets=()) as rig:
        thread: list[threading.Thread] = []

        async def waits(context: Context) -> None:
            thread.append(threading.current_thread())
            context.output("started")
            await asyncio.Event().wait()

        rig.registry.add(waits)
        await rig.start("waits").recorder.heard()
        with capture_logs() as logs:
            await rig.executor.close()
        assert logs == []
        assert not thread[0].is_alive()


async def test_a_mailbox_keeps_the_order_of_many_threads_and_shares_wake_ups() -> None:
    got: list[tuple[int, int]] = []
    mailbox = Mailbox(asyncio.get_running_loop())

    def post(sender: int) -> None:
        for number in range(1000):
            mailbox.post(got.append, (sender, number))

    await asyncio.gather(*(asyncio.to_thread(post, sender) for sender in range(4)))
    async with asyncio.timeout(LIMIT):
        while len(got) < 4000:
            await asyncio.sleep(0)
    for sender in range(4):
        assert [number for who, number in got if who == sender] == list(range(1000))


async def test_a_callback_that_raises_does_not_delay_later_posts() -> None:
    got: list[int] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    mailbox = Mailbox(loop)
    mailbox.post(int, "no number")
    mailbox.post(got.append, 1)
    deadline = time.monotonic() + LIMIT
    while not got and time.monotonic() < deadline:
        await asyncio.sleep(0)
    assert got == [1]


async def sets_a_factory() -> None:
    asyncio.get_running_loop().set_task_factory(lambda loop, coroutine: asyncio.Task(coroutine, loop=loop))  # type: ignore[arg-type]


async def sets_a_factory_that_raises() -> None:
    asyncio.get_running_loop().set_task_factory(lambda loop, coroutine: 1 / 0)  # type: ignore[arg-type, return-value]


async def shuts_the_executor_down() -> None:
    await asyncio.to_thread(int)
    await asyncio.get_running_loop().shutdown_default_executor()


async def sets_an_exception_handler() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)


@pytest.mark.parametrize(
    "spoil", [sets_a_factory, sets_a_factory_that_raises, shuts_the_executor_down, sets_an_exception_handler]
)
async def test_an_attempts_changes_to_its_loop_are_undone_for_the_next(
    rig: Rig, spoil: Callable[..., Awaitable[None]]
) -> None:
    async def works() -> str:
        assert asyncio.get_running_loop().get_exception_handler() is None
        return await asyncio.create_task(asyncio.to_thread(str, "works"))

    rig.registry.add(spoil)
    rig.registry.add(works)
    assert await rig.run(spoil.__name__) == Succeeded(b"null")
    assert await rig.run("works") == Succeeded(b'"works"')


async def test_attempts_run_again_after_one_cancels_all_tasks_of_their_loop(rig: Rig) -> None:
    async def sibling(context: Context) -> None:
        context.output("started")
        await asyncio.Event().wait()

    async def cancels_all() -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)

    rig.registry.add(sibling)
    rig.registry.add(cancels_all)
    beside = rig.start("sibling")
    await beside.recorder.heard()
    await rig.run("cancels_all")
    assert await beside.outcome() == Interrupted()


async def test_any_number_of_broken_loops_is_replaced(rig: Rig) -> None:
    async def breaks() -> None:
        asyncio.get_running_loop()._selector.select = None  # type: ignore[attr-defined]

    async def works() -> str:
        return "works"

    rig.registry.add(breaks)
    rig.registry.add(works)
    for _ in range(MAX_LOOPS + 1):
        await rig.run("breaks")
    assert await rig.run("works") == Succeeded(b'"works"')
    assert rig.executor.health() == "ok"


async def test_an_attempt_waits_while_every_loop_is_blocked_and_runs_on_the_first_that_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasker.executor.task_loop.MAX_LOOPS", 2)
    gates = [threading.Event(), threading.Event()]

    async def blocks(number: int, context: Context) -> None:
        context.output("started")
        gates[number].wait(LIMIT)

    async def works() -> str:
        return threading.current_thread().name

    rig.registry.add(blocks)
    rig.registry.add(works)
    first = rig.start("blocks", 0)
    await first.recorder.heard()
    second = rig.start("blocks", 1)
    await second.recorder.heard()
    async with asyncio.timeout(LIMIT):
        while rig.executor.health() == "ok":
            await asyncio.sleep(0.01)
    assert "task type blocks" in rig.executor.health()
    waiting, given_up = rig.start("works"), rig.start("works")
    await asyncio.sleep(0)
    given_up.stop.abandon(Interrupted())
    assert await given_up.outcome() == Interrupted()
    gates[1].set()
    assert await waiting.outcome() == Succeeded(b'"task loop 2"')
    gates[0].set()
    assert not any(loop.hosted for loop in rig.executor._task_loops._loops if not loop.is_blocked)
    assert await first.outcome() == await second.outcome() == Succeeded(b"null")


async def test_hard_work_in_a_child_is_not_slowed_down_by_audit_hooks() -> None:
    """Audit hooks run at each audited event, such as id(): with one, deepcopy took seven times as long."""
    source = "sys.addaudithook"
    modules = Path(attribution.__file__).parent.rglob("*.py")
    assert [module.name for module in modules if source in module.read_text()] == []


async def test_attempts_that_begin_together_wake_their_loop_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[asyncio.AbstractEventLoop] = []
    wake = Mailbox._wake

    def count(mailbox: Mailbox) -> None:
        woken.append(mailbox._loop)
        wake(mailbox)

    async def say() -> str:
        return "done"

    rig.registry.add(say)
    monkeypatch.setattr(Mailbox, "_wake", count)
    for _ in range(2):
        woken.clear()
        running = [rig.start("say") for _ in range(10)]
        assert [await one.outcome() for one in running] == [Succeeded(b'"done"')] * 10
        assert len([loop for loop in woken if loop is not asyncio.get_running_loop()]) == 1
