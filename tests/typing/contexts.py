"""The types of what contexts give. mypy checks this file; it is never run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, assert_type
from uuid import UUID

from tasker import ChildFailed, ChildOptions, Context, SyncContext, task
from tasker.model import RetryPolicy
from tasker.tasktypes.context import Handle
from tasker.tasktypes.sync_context import SyncHandle


class Receipt:
    def send(self, to: str) -> bool:
        return bool(to)


async def charge(order: str, total: int = 1) -> Receipt:
    raise NotImplementedError


def charge_now(order: str, total: int = 1) -> Receipt:
    raise NotImplementedError


@task
async def render(page: str, context: Context) -> int:
    raise NotImplementedError


@task
def render_now(page: str, context: SyncContext) -> int:
    raise NotImplementedError


async def steps(context: Context) -> None:
    assert_type(await context.step("charge", charge, "a", total=3), Receipt)
    assert_type(await context.step("charge", charge_now, "a"), Receipt)
    assert_type(await context.step("send", Receipt().send, "a"), bool)
    assert_type(await context.step("count", lambda: 5), int)
    assert_type(await context.step("thread", asyncio.to_thread, charge_now, "a"), Receipt)  # pyright: ignore[reportArgumentType, reportAssertTypeFailure, reportCallIssue]
    assert_type(await context.step("charge", charge, "a", key="mine"), Receipt)
    assert_type(await context.step("charge", charge_now, "a", retry=3), Receipt)
    assert_type(await context.step("charge", charge, "a", retry=RetryPolicy(max_attempts=3), key="mine"), Receipt)
    assert_type(await context.step("charge", lambda: {"a": 1}, returns=Receipt), Receipt)
    assert_type(await context.step("charge", lambda: 1, returns=int | None), Any)
    await context.step("charge", charge, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await context.step("charge", charge_now)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await context.step("charge", charge, "a", wrong=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await context.step(5, charge, "a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    nap: Coroutine[Any, Any, None] = context.sleep("nap", hours=2)
    await nap


async def children(context: Context) -> None:
    assert_type(await context.call(render, "a"), int)
    assert_type(await context.call(render_now, page="a", options=ChildOptions(queue="slow")), int)
    assert_type(await context.call("render", "a"), Any)
    assert_type(await context.map(render, ["a"], max_in_flight=2), list[int])
    assert_type(await context.map(render_now, ["a"], [1]), list[int])
    assert_type(await context.map(render, ["a"], return_errors=True), list[int | ChildFailed])
    assert_type(await context.map("render", ["a"]), list[Any])
    handle = await context.spawn(render, "a", detached=True)
    assert_type(handle, Handle[int])
    assert_type(handle.task_id, UUID)
    assert_type(await handle.result(), int)
    assert_type(await context.spawn("render"), Handle[Any])
    await context.call(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def questions(context: Context) -> None:
    assert_type(await context.ask("approve", Receipt, message="Well?", timeout="P3D"), Receipt)
    assert_type(await context.ask("approve", bool, message="Well?", default=False, timeout=5), bool)
    assert_type(await context.ask("approve", {"type": "string"}, message="Well?", choices=["a"]), Any)
    await context.ask("approve", bool)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def blocking(context: SyncContext) -> None:
    assert_type(context.step("charge", charge, "a", total=3), Receipt)
    assert_type(context.step("charge", charge_now, "a"), Receipt)
    assert_type(context.step("charge", charge_now, "a", retry=3), Receipt)
    assert_type(context.step("charge", lambda: 1, returns=Receipt), Receipt)
    context.step("charge", charge_now, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    context.sleep("nap", minutes=2)
    assert_type(context.call(render, "a"), int)
    assert_type(context.map(render_now, ["a"]), list[int])
    assert_type(context.map(render_now, ["a"], return_errors=True), list[int | ChildFailed])
    handle = context.spawn(render, "a")
    assert_type(handle, SyncHandle[int])
    assert_type(handle.result(), int)
    assert_type(context.ask("approve", Receipt, message="Well?"), Receipt)
