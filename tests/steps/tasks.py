"""Tasks with steps, children, sleeps and questions, as a user writes them; each as `async def` and as `def`.

What they do outside is a line in effects.jsonl next to the database: a kill cannot undo it. A file named after a point
kills the service once, when a task comes to that point.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from tasker import Context, SyncContext, task


@dataclass
class Order:
    """point: where the service is killed, once."""

    id: str
    total: int
    pages: list[int]
    pause: float = 0.0
    point: str = ""


@dataclass
class Receipt:
    paid: str
    pages: list[str]
    mail: str
    approved: bool
    archive: str


def note(context: Context | SyncContext, what: str) -> str:
    """Append a line about an effect; return its nonce."""
    nonce = uuid4().hex
    line = {"task_id": str(context.task_id), "attempt": context.attempt, "what": what, "nonce": nonce}
    effects = os.open("effects.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(effects, json.dumps(line).encode() + b"\n")
    os.close(effects)
    return nonce


def die(order: Order, point: str) -> None:
    """Kill the whole service here, if this is the order's point and it was not killed there before."""
    if order.point == point:
        kill_service(f"{order.id}-{point}")


def kill_service(gate: str) -> None:
    """Kill the process of the service whose id it wrote down, once for each gate."""
    try:
        os.close(os.open(f"{gate}.killed", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(int(Path("service.pid").read_text()), signal.SIGKILL)
    signal.pause()


def charge(context: Context | SyncContext, order: Order) -> str:
    die(order, "step began")
    nonce = note(context, "charge")
    die(order, "effect done")
    return f"{order.total} by {nonce}"


@task
async def render(page: int, context: Context) -> str:
    note(context, "render")
    return f"page {page}"


@task
def render_in_child(page: int, context: SyncContext) -> str:
    note(context, "render")
    return f"page {page}"


@task
async def kill_in(gate: str, context: Context) -> str:
    """Kill the service from within a task on its loop."""
    note(context, "kill_in")
    if gate:
        kill_service(gate)
    return "sent"


@task
async def archive(order_id: str, context: Context) -> str:
    note(context, "archive")
    return order_id


def _gate(order: Order) -> str:
    return f"{order.id}-{order.point}" if order.point == "child runs" else ""


@task
async def onboard(order: Order, context: Context) -> Receipt:
    """Charge once, render pages, send a mail, wait, ask a person, and leave an archive behind."""
    die(order, "began")
    paid = await context.step("charge", charge, context, order)
    die(order, "step stored")
    pages = await context.map(render, order.pages, max_in_flight=2)
    die(order, "children done")
    mail = await context.call("kill_in", gate=_gate(order))
    try:
        await context.sleep("cool off", seconds=order.pause)
    finally:
        die(order, "sleep parks")
    die(order, "slept")
    try:
        approved = await context.ask("approve", bool, message=f"Ship {order.id}?", timeout="P3D")
    finally:
        die(order, "question parks")
    die(order, "answered")
    late = await context.spawn(archive, order.id)
    die(order, "spawned")
    return Receipt(paid, pages, mail, approved, str(late.task_id))


@task
def onboard_in_child(order: Order, context: SyncContext) -> Receipt:
    """The same in a child process."""
    die(order, "began")
    paid = context.step("charge", charge, context, order)
    die(order, "step stored")
    pages = context.map(render_in_child, order.pages, max_in_flight=2)
    die(order, "children done")
    mail = context.call("kill_in", gate=_gate(order))
    try:
        context.sleep("cool off", seconds=order.pause)
    finally:
        die(order, "sleep parks")
    die(order, "slept")
    try:
        approved = context.ask("approve", bool, message=f"Ship {order.id}?", timeout="P3D")
    finally:
        die(order, "question parks")
    die(order, "answered")
    late = context.spawn(archive, order.id)
    die(order, "spawned")
    return Receipt(paid, pages, mail, approved, str(late.task_id))


@task
async def tree(levels: int, context: Context) -> int:
    """Count the leaves of a binary tree of tasks, whose levels take turns between `async def` and `def`."""
    if levels == 0:
        return 1
    return sum(await context.map(tree_in_child, [levels - 1] * 2))


@task
def tree_in_child(levels: int, context: SyncContext) -> int:
    if levels == 0:
        return 1
    return sum(context.map(tree, [levels - 1] * 2))


@task
async def parent_of(children: int, context: Context) -> int:
    """Start as many children that never end by themselves."""
    return len(await context.map(hold, [0] * children))


@task
async def hold(number: int) -> None:
    await asyncio.Event().wait()


@task
async def gated(context: Context) -> str:
    """Hold a step until this attempt's gate is open (a file is its opening)."""

    async def wait() -> str:
        nonce = note(context, "gated")
        while not Path(f"{context.task_id}.{context.attempt}.open").exists():
            await asyncio.sleep(0.01)
        return nonce

    return await context.step("gated", wait)


@task
async def busy(number: int, context: Context) -> list[str]:
    """Three steps one after the other, children, and a short sleep: something happens at any moment."""
    done = [await context.step("one", _effect(context, f"one {number}"))]
    done += await context.map(leaf, [number, number + 1, number + 2])
    await context.sleep("short", seconds=0.05)
    done += await asyncio.gather(*(context.step("many", _effect(context, f"many {n}")) for n in range(3)))
    return [*done, await context.call(leaf, number)]


@task
def busy_in_child(number: int, context: SyncContext) -> list[str]:
    """The same in a child process."""
    done = [context.step("one", _effect(context, f"one {number}"))]
    done += context.map(leaf, [number, number + 1, number + 2])
    context.sleep("short", seconds=0.05)
    done += [context.step("many", _effect(context, f"many {n}")) for n in range(3)]
    return [*done, context.call(leaf, number)]


@task
async def leaf(number: int, context: Context) -> str:
    return await context.step("leaf", _effect(context, "leaf"))


def _effect(context: Context | SyncContext, what: str) -> Callable[[], str]:
    return lambda: note(context, what)


@task
async def identify(context: Context) -> UUID:
    return context.task_id
