"""Task types whose functions work in steps; the executor's tests run them in real child processes and on loops."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from dataclasses import dataclass

from tasker import ChildFailed, Context, SyncContext, task


@dataclass
class Receipt:
    order: str
    total: int


def charge(order: str, total: int) -> Receipt:
    return Receipt(order, total)


async def charge_async(order: str, total: int) -> Receipt:
    await asyncio.sleep(0)
    return Receipt(order, total)


@task
def render(page: str) -> Receipt:
    return Receipt(page, len(page))


@task
def order(name: str, context: SyncContext) -> list[object]:
    """A bit of everything, for a `def`."""
    first = context.step("charge", charge, name, 3)
    second = context.step("charge", charge_async, name, total=4)
    context.sleep("cool off", hours=2)
    page = context.call(render, "one")
    pages = context.map(render, ["a", "bb", "ccc", "dddd"], max_in_flight=2)
    is_right = context.ask("approve", bool, message=f"Ship {name}?", timeout="P3D")
    late = context.spawn(render, "late")
    assert isinstance(first, Receipt)
    return [first, second, page, pages, is_right, late.result()]


@task
async def order_async(name: str, context: Context) -> list[object]:
    """The same, for an `async def`."""
    first = await context.step("charge", charge, name, 3)
    second = await context.step("charge", charge_async, name, total=4)
    await context.sleep("cool off", hours=2)
    page = await context.call(render, "one")
    pages = await context.map(render, ["a", "bb", "ccc", "dddd"], max_in_flight=2)
    is_right = await context.ask("approve", bool, message=f"Ship {name}?", timeout="P3D")
    late = await context.spawn(render, "late")
    assert isinstance(first, Receipt)
    return [first, second, page, pages, is_right, await late.result()]


@task
def sleep_in_threads(context: SyncContext) -> str:
    """Wait in two threads, and in the main one."""
    threads = [threading.Thread(target=_sleep, args=(context, hours)) for hours in (2, 3)]
    for thread in threads:
        thread.start()
    try:
        context.call("render", "page")
    finally:
        for thread in threads:
            thread.join()
    return "done"


def _sleep(context: SyncContext, hours: int) -> None:
    try:
        context.sleep(f"sleep {hours}", hours=hours)
    except BaseException as error:
        context.output(type(error).__name__)


@task
def step_in_threads(count: int, context: SyncContext) -> list[int]:
    """Run steps in several threads at once."""
    found: dict[int, int] = {}

    def run(place: int) -> None:
        for _ in range(5):
            found[place] = context.step(f"step {place}", int, place)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[place] for place in range(count)]


@task
def leave_a_waiting_thread(context: SyncContext) -> str:
    """End while a thread of ours still waits."""
    threading.Thread(target=_sleep, args=(context, 2)).start()
    return context.step("charge", charge, "a", 1).order


@task
def step_for_ever(context: SyncContext) -> None:
    context.step("hang", threading.Event().wait)


@task
def sleep_and_clean_up(context: SyncContext) -> None:
    context.output("started")
    try:
        context.sleep("long", hours=2)
    finally:
        context.output("cleaned up")


@task
async def sleep_and_store(context: Context) -> None:
    """Store a step while a cancel unwinds the function."""
    context.output("started")
    try:
        await context.sleep("long", hours=2)
    except asyncio.CancelledError:
        await context.step("refund", charge, "a", -1)
        raise


@task
def tell_of_failures(context: SyncContext) -> list[str]:
    found = context.map(render, ["a", "b"], return_errors=True)
    return [type(one).__name__ if isinstance(one, ChildFailed) else one.order for one in found]


@task
async def collect_garbage() -> int:
    return gc.collect()


@task
def swallow(context: SyncContext) -> str:
    try:
        context.sleep("nap", hours=2)
    except BaseException:
        return "anyway"
    return "slept"


async def _charge(name: str, context: Context) -> Receipt:
    return await context.step("charge", charge_async, name, 1)


@task(name="wrapped")
@functools.wraps(_charge)
def wrapped(name: str, context: Context) -> object:
    return _charge(name, context)


@task
def store_much(size: int, context: SyncContext) -> int:
    return len(context.step("much", lambda: "x" * size))
