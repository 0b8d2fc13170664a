"""Carry out operations: in a coroutine, or in a thread that blocks."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from tasker.tasktypes.durable import STEP_UNDER_WAY, Durable
from tasker.tasktypes.operations import Effect, Invoke, Operation, Pause
from tasker.tasktypes.ports import AsyncPort, SyncPort
from tasker.tasktypes.steps import Await, Parking, Steps

R = TypeVar("R")
_NOTHING = Steps(())

SKIPS_PAUSES: ContextVar[bool] = ContextVar("tasker_skips_pauses", default=False)
"""Whether the pauses between two tries of a step take no time: so it is in tests."""


async def carry_out_async(operation: Operation[R], port: AsyncPort, waiting: set[Any]) -> R:
    """Carry out an operation. waiting: takes the futures to `end_wait` when the attempt ends."""
    go_on: Callable[[Any], Effect] = operation.send
    value: Any = None
    try:
        while True:
            effect = go_on(value)
            try:
                value = await _perform_async(effect, port, waiting)
                go_on = operation.send
            except BaseException as error:  # the operation decides what it means
                go_on, value = operation.throw, error
    except StopIteration as end:
        result: R = end.value
        return result
    except Parking:
        _be_quiet()
        raise
    finally:
        del value  # an exception would hold on to this frame, and it to the exception


def _be_quiet() -> None:
    """Have no warning written if nobody awaits the task that parks."""
    from asyncio import current_task  # as below

    if (task := current_task()) is not None:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _perform_async(effect: Effect, port: AsyncPort, waiting: set[Any]) -> Any:
    if isinstance(effect, Invoke):
        token = STEP_UNDER_WAY.set(effect.name)
        try:
            value = effect.function(*effect.args, **effect.kwargs)
            return await value if hasattr(type(value), "__await__") else value
        finally:
            STEP_UNDER_WAY.reset(token)
    if isinstance(effect, Pause):
        from asyncio import sleep  # a child process that runs `def` functions does not need it

        return await sleep(0 if SKIPS_PAUSES.get() else effect.seconds)
    future = port.ask(effect)
    if not isinstance(effect, Await):
        return await future
    waiting.add(future)
    try:
        return await future
    finally:
        waiting.discard(future)


def end_wait(future: Any) -> None:
    """Have a call that waits look whether the attempt ends."""
    if not future.done():
        future.set_result(_NOTHING)


def carry_out(operation: Operation[R], port: SyncPort, durable: Durable, is_cancelled: Callable[[], bool]) -> R:
    """Carry out an operation in this thread. A call that waits is unwound when a client cancels the attempt."""
    go_on: Callable[[Any], Effect] = operation.send
    value: Any = None
    try:
        while True:
            effect = go_on(value)
            try:
                value = _perform(effect, port, durable, is_cancelled)
                go_on = operation.send
            except BaseException as error:  # the operation decides what it means
                go_on, value = operation.throw, error
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        del value  # as above


def _perform(effect: Effect, port: SyncPort, durable: Durable, is_cancelled: Callable[[], bool]) -> Any:
    if isinstance(effect, Invoke):
        token = STEP_UNDER_WAY.set(effect.name)
        try:
            value = effect.function(*effect.args, **effect.kwargs)
            return _run(value) if hasattr(type(value), "__await__") else value
        finally:
            STEP_UNDER_WAY.reset(token)
    if isinstance(effect, Pause):
        answer = port.wait(None, 0 if SKIPS_PAUSES.get() else effect.seconds, lambda: durable.is_ending)
    elif isinstance(effect, Await):
        answer = port.wait(effect, None, lambda: durable.is_ending)
    else:
        return port.ask(effect)
    if answer is None and is_cancelled():
        durable.stop()
    return answer or _NOTHING


def _run(value: Any) -> Any:
    """Await in a loop of its own what a step's function has returned."""
    import asyncio

    async def awaited() -> Any:
        return await value

    return asyncio.run(awaited())
