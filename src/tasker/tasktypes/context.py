"""The public `Context`: with it, an `async def` function reports, and does its work in steps.

A function gets one by annotating a parameter with it. What its calls do is decided in `calls`; here they are awaited.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload
from uuid import UUID

from tasker.errors import ChildFailed
from tasker.model import RetryPolicy
from tasker.tasktypes.carrying import carry_out_async, end_wait
from tasker.tasktypes.children import Target, type_name_of
from tasker.tasktypes.durable_context import DurableContext, calls_of
from tasker.tasktypes.operations import Operation
from tasker.tasktypes.ports import AsyncPort
from tasker.tasktypes.reporting import Reporter
from tasker.tasktypes.signature import ABSENT
from tasker.tasktypes.steps import ChildOptions

P = ParamSpec("P")
R = TypeVar("R")


class Handle(Generic[R]):
    """A child that was started by `spawn`. task_id: its own."""

    __slots__ = ("_result", "task_id")

    def __init__(self, task_id: UUID, result: Callable[[], Coroutine[Any, Any, R]]) -> None:
        self.task_id = task_id
        self._result = result

    def result(self) -> Coroutine[Any, Any, R]:
        """Wait for the child, and return its result. Raises ChildFailed."""
        return self._result()


class Context(DurableContext):
    """The running attempt of an `async def` function: its reports, and its steps, which are awaited.

    What is inside a step happens once and is remembered; what is between steps may run again. A call that has to wait
    for long unwinds the function by an exception that `except Exception` does not catch; the task goes on later, from
    the function's first line, and finds its steps stored.
    """

    __slots__ = ("_made", "_port", "_waiting")

    def __init__(
        self,
        task_id: UUID,
        attempt: int,
        reporter: Reporter,
        is_cancelled: Callable[[], bool],
        port: AsyncPort | None = None,
    ) -> None:
        super().__init__(task_id, attempt, reporter, is_cancelled, port)
        self._port = port
        self._waiting: set[Any] = set()
        self._made: dict[Any, tuple[str, Coroutine[Any, Any, Any]]] = {}  # calls that are not awaited yet

    @overload
    def step(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        returns: type[R],
        key: str | None = None,
        retry: int | RetryPolicy | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        returns: object,
        key: str | None = None,
        retry: int | RetryPolicy | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]: ...
    @overload
    def step(
        self,
        name: str,
        function: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        key: str,
        retry: int | RetryPolicy | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self,
        name: str,
        function: Callable[..., R],
        /,
        *args: Any,
        key: str,
        retry: int | RetryPolicy | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self,
        name: str,
        function: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        retry: int | RetryPolicy,
        key: str | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self,
        name: str,
        function: Callable[..., R],
        /,
        *args: Any,
        retry: int | RetryPolicy,
        key: str | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    def step(  # type: ignore[misc]  # the options are none of P's
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        key: str | None = None,
        retry: int | RetryPolicy | None = None,
        returns: Any = ABSENT,
        **kwargs: Any,
    ) -> Any:
        """Run a function once, and return its result; if an earlier attempt has stored that, return it at once.

        function: async or not, also a lambda or a method. A plain one runs in this thread as it is called, so
        let one that blocks run in another: `context.step(name, asyncio.to_thread, function, ..., returns=...)`.
        name: with the number of its uses the step's key; key: one of your own. retry: how many tries it has within this
        attempt, or a RetryPolicy. returns: the type of the result, where no annotation says it.

        The result is stored as JSON before the call returns, and read back as the annotated type. A function that
        raises stores nothing. Raises what it raises, StepChanged, ResultError, and ValueError for an unsuitable key.
        """
        operation = calls_of(self).step(name, function, args, kwargs, key=key, retry=retry, returns=returns)
        return self._run(operation, f"context.step({name!r})")

    def sleep(
        self,
        name: str,
        *,
        seconds: float | None = None,
        minutes: float | None = None,
        hours: float | None = None,
        days: float | None = None,
        until: datetime | None = None,
        key: str | None = None,
    ) -> Coroutine[Any, Any, None]:
        """Sleep for a time, or until one (with a time zone). A sleep of more than a moment gives the slot back."""
        units = {"seconds": seconds, "minutes": minutes, "hours": hours, "days": days}
        return self._run(calls_of(self).sleep(name, units, key=key, until=until), f"context.sleep({name!r})")

    @overload
    def ask(
        self,
        name: str,
        type_: type[R],
        /,
        *,
        message: str,
        choices: Sequence[Any] | None = None,
        timeout: timedelta | float | str | None = None,
        default: Any = ABSENT,
        key: str | None = None,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def ask(
        self,
        name: str,
        type_: Any = Any,
        /,
        *,
        message: str,
        choices: Sequence[Any] | None = None,
        timeout: timedelta | float | str | None = None,
        default: Any = ABSENT,
        key: str | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def ask(
        self,
        name: str,
        type_: Any = Any,
        /,
        *,
        message: str,
        choices: Sequence[Any] | None = None,
        timeout: timedelta | float | str | None = None,
        default: Any = ABSENT,
        key: str | None = None,
    ) -> Any:
        """Ask a person, and return the answer as the given type: a class, or a JSON Schema (a dict).

        choices: the values that it may have. timeout: seconds, a timedelta, or ISO 8601 text ("P3D"); after that
        `default` is the answer, or InputTimeout is raised. A task that waits for an answer holds no slot.
        """
        operation = calls_of(self).ask(
            name, type_, message=message, choices=choices, timeout=timeout, default=default, key=key
        )
        return self._run(operation, f"context.ask({name!r})")

    @overload
    def call(
        self,
        target: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(
        self,
        target: Callable[..., R],
        /,
        *args: Any,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(
        self,
        target: str,
        /,
        *args: Any,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]: ...
    def call(
        self,
        target: Target,
        /,
        *args: Any,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start one child, wait for it and return its result. Raises ChildFailed.

        target: a task's function, or the name of its type; the arguments are its params, all by position or all by
        name. name: of the step, by default the type's.
        """
        operation = calls_of(self).call(target, args, kwargs, name=name, key=key, options=options)
        return self._run(operation, f"context.call({type_name_of(target)!r})")

    @overload
    def map(
        self,
        target: Callable[..., Awaitable[R]],
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        return_errors: Literal[False] = False,
        max_in_flight: int | None = None,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
    ) -> Coroutine[Any, Any, list[R]]: ...
    @overload
    def map(
        self,
        target: Callable[..., Awaitable[R]],
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        return_errors: Literal[True],
        max_in_flight: int | None = None,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
    ) -> Coroutine[Any, Any, list[R | ChildFailed]]: ...
    @overload
    def map(
        self,
        target: Callable[..., R],
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        return_errors: Literal[False] = False,
        max_in_flight: int | None = None,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
    ) -> Coroutine[Any, Any, list[R]]: ...
    @overload
    def map(
        self,
        target: Callable[..., R],
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        return_errors: Literal[True],
        max_in_flight: int | None = None,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
    ) -> Coroutine[Any, Any, list[R | ChildFailed]]: ...
    @overload
    def map(
        self,
        target: str,
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        return_errors: Literal[False] = False,
        max_in_flight: int | None = None,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
    ) -> Coroutine[Any, Any, list[Any]]: ...
    @overload
    def map(
        self,
        target: str,
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        return_errors: Literal[True],
        max_in_flight: int | None = None,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
    ) -> Coroutine[Any, Any, list[Any]]: ...
    def map(
        self,
        target: Target,
        items: Iterable[Any],
        /,
        *more: Iterable[Any],
        return_errors: bool = False,
        max_in_flight: int | None = None,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
    ) -> Any:
        """Start a child for each item, wait for all and return their results in order. Raises the first ChildFailed.

        Each item is the one argument of its child, whatever it is; for more arguments, give more iterables of the same
        length. max_in_flight: how many children may be pending or running at a time. return_errors: a ChildFailed is
        the result of a child that failed. name: of the step, by default the type's.
        """
        operation = calls_of(self).map(
            target,
            items,
            more,
            name=name,
            key=key,
            options=options,
            max_in_flight=max_in_flight,
            return_errors=return_errors,
        )
        return self._run(operation, f"context.map({type_name_of(target)!r})")

    @overload
    def spawn(
        self,
        target: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        detached: bool = False,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Handle[R]]: ...
    @overload
    def spawn(
        self,
        target: Callable[..., R],
        /,
        *args: Any,
        detached: bool = False,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Handle[R]]: ...
    @overload
    def spawn(
        self,
        target: str,
        /,
        *args: Any,
        detached: bool = False,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Handle[Any]]: ...
    def spawn(
        self,
        target: Target,
        /,
        *args: Any,
        detached: bool = False,
        name: str | None = None,
        key: str | None = None,
        options: ChildOptions | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start one child, and return its handle. detached: it goes on if this task fails or is cancelled.

        target, name: as in `call`.
        """
        calls = calls_of(self)
        brood, start = calls.spawn(target, args, kwargs, name=name, key=key, options=options, detached=detached)
        result = "handle.result()"
        return self._run(
            _handle(start, lambda: self._run(calls.result(brood), result)), f"context.spawn({type_name_of(target)!r})"
        )

    def _run(self, operation: Operation[R], what: str) -> Coroutine[Any, Any, R]:
        """Return the call to be awaited. what: how it is written."""
        made = self._carry_out(operation)
        self._made[operation] = (what, made)
        return made

    async def _carry_out(self, operation: Operation[R]) -> R:
        del self._made[operation]
        assert self._port is not None
        return await carry_out_async(operation, self._port, self._waiting)

    def _forgotten(self) -> str | None:
        made, self._made = self._made, {}
        for what, coroutine in made.values():
            if getcoroutinestate(coroutine) == CORO_CREATED:  # else it was cancelled or closed before it began
                coroutine.close()
                return what
        return None

    def _wake(self) -> None:
        for future in tuple(self._waiting):
            future.get_loop().call_soon_threadsafe(end_wait, future)


def _handle(start: Operation[UUID], result: Callable[[], Coroutine[Any, Any, Any]]) -> Operation[Handle[Any]]:
    return Handle((yield from start), result)
