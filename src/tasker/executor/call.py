"""Calls a task's function and says how it ended: the innermost step, on the loop and in a child alike.

These are the only places where whatever a function raises is caught, SystemExit and KeyboardInterrupt included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tasker.errors import RequestError
from tasker.executor.outcomes import raised, succeeded
from tasker.rules.lifecycle import Failed, Outcome, problem
from tasker.tasktypes.context import Context
from tasker.tasktypes.registry import TaskType


class Call:
    """One call: the function, its arguments from the claim's params, and the largest result that is kept."""

    __slots__ = ("_context", "_max_result", "_params", "_type")

    def __init__(self, task_type: TaskType, params: bytes, context: Context, max_result: int) -> None:
        self._type = task_type
        self._params = params
        self._context = context
        self._max_result = max_result

    def run(self, drive: Callable[[Coroutine[Any, Any, Outcome]], Outcome]) -> Outcome:
        """Call a plain function; `drive` runs a coroutine to its end. Never raises.

        A `def` may wrap an `async def`: what it returns is awaited.
        """
        try:
            args, kwargs = self._arguments()
        except RequestError as error:
            return _unfit(error)
        except BaseException as error:
            return raised(error)
        try:
            value = self._type.function(*args, **kwargs)
            if hasattr(type(value), "__await__"):
                return drive(self._awaited(value))
            return succeeded(self._type, value, self._max_result)
        except BaseException as error:
            return raised(error)

    async def _awaited(self, value: Awaitable[Any]) -> Outcome:
        try:
            return succeeded(self._type, await value, self._max_result)
        except BaseException as error:
            return raised(error)

    async def run_async(self) -> Outcome:
        """Await a coroutine function. Never raises: CancelledError, too, is an outcome for the caller to judge."""
        try:
            args, kwargs = self._arguments()
        except RequestError as error:
            return _unfit(error)
        except BaseException as error:
            return raised(error)
        try:
            return succeeded(self._type, await self._type.function(*args, **kwargs), self._max_result)
        except BaseException as error:
            return raised(error)

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = self._type.bind(self._params)
        if self._type.context_parameter is not None:
            kwargs[self._type.context_parameter] = self._context
        return args, kwargs


def _unfit(error: RequestError) -> Failed:
    """The params were right when they were submitted: the function has changed since, and trying again is no use."""
    faults = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in error.faults[:10])
    return Failed(problem(error.kind.name, f"{error.detail} ({faults})" if faults else error.detail))
