"""The public `Context` and `SyncContext`: with one of them, a running function reports, and does work in steps.

A function gets one by annotating a parameter with it. What the calls do is in `calls` and `children`; here it is carried out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeVar, overload
from uuid import UUID

from tasker.model import RetryPolicy
from tasker.model.steps import Step
from tasker.tasktypes.calls import Calls
from tasker.tasktypes.durable import STEP_UNDER_WAY, Durable
from tasker.tasktypes.operations import Effect, Invoke, Operation, Pause
from tasker.tasktypes.reporting import Reporter, Reporting
from tasker.tasktypes.signature import ABSENT
from tasker.tasktypes.steps import AnyAnswer, AnyRequest, Await, Steps

P = ParamSpec("P")
R = TypeVar("R")
_NOTHING = Steps(())


class Port(Protocol):
    """The way to the worker. stored: the steps at the beginning. max_value: bytes of a step's result."""

    @property
    def stored(self) -> Sequence[Step]: ...
    @property
    def max_value(self) -> int: ...


class AsyncPort(Port, Protocol):
    """The way of an `async def` function to the worker."""

    def ask(self, request: AnyRequest) -> Any:
        """Make a request; return an asyncio.Future of the answer, of the running loop."""


class SyncPort(Port, Protocol):
    """The way of a `def` function to the worker; its methods block, and may be called in any thread."""

    def ask(self, request: AnyRequest) -> AnyAnswer:
        """Make a request and wait for the answer."""

    def wait(self, request: AnyRequest | None, seconds: float, until: Callable[[], bool]) -> AnyAnswer | None:
        """Wait for the answer to a request, for at most some seconds if there is none.

        Return None if it does not come: `until` is true, or the client has asked to cancel the attempt.
        """

    def wake(self) -> None:
        """Have all threads that wait ask their `until` again."""


class Context(Reporting):
    """The running attempt of an `async def` function. What is inside a step happens once; the rest may run again."""

    __slots__ = ("_calls", "_durable", "_port", "_waiting")

    def __init__(
        self,
        task_id: UUID,
        attempt: int,
        reporter: Reporter,
        is_cancelled: Callable[[], bool],
        port: AsyncPort | None = None,
    ) -> None:
        super().__init__(task_id, attempt, reporter, is_cancelled)
        self._port = port
        self._waiting: set[Any] = set()
        self._durable, self._calls = _begin(self, port, self._wake)

    @overload
    def step(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self,
        name: str,
        function: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        key: str | None = None,
        retry: int | RetryPolicy | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, R]: ...
    def step(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        key: str | None = None,
        retry: int | RetryPolicy | None = None,
        returns: Any = ABSENT,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Run a function once, and return its result; if that is stored already, by an earlier attempt, return it at once."""
        return self._run(
            self._made().step(name, function, args, kwargs, key=key, retry=retry, returns=returns),
        )

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
        """Sleep for a time, or until one (with a time zone). A sleep of more than a second gives the slot back."""
        return self._run(
            self._made().sleep(name, key=key, until=until, seconds=seconds, minutes=minutes, hours=hours, days=days)
        )

    def _made(self) -> Calls:
        return _there(self._calls)

    async def _run(self, operation: Operation[R]) -> R:
        """Carry out an operation."""
        go_on, value = operation.send, None
        try:
            while True:
                effect = go_on(value)  # type: ignore[arg-type]
                try:
                    go_on, value = operation.send, await self._perform(effect)
                except BaseException as error:  # the operation decides what it means
                    go_on, value = operation.throw, error  # type: ignore[assignment]
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            del value

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Invoke):
            token = STEP_UNDER_WAY.set(effect.name)
            try:
                value = effect.function(*effect.args, **effect.kwargs)
                return await value if hasattr(type(value), "__await__") else value
            finally:
                STEP_UNDER_WAY.reset(token)
        if isinstance(effect, Pause):
            from asyncio import sleep  # a child process that runs `def` functions does not need it

            return await sleep(effect.seconds)
        assert self._port is not None
        future = self._port.ask(effect)
        return await (self._wait(future) if isinstance(effect, Await) else future)

    async def _wait(self, future: Any) -> Any:
        """Wait for an answer, or until the attempt ends."""
        self._waiting.add(future)
        try:
            return await future
        finally:
            self._waiting.discard(future)

    def _wake(self) -> None:
        for future in tuple(self._waiting):
            future.get_loop().call_soon_threadsafe(_end_wait, future)


class SyncContext(Reporting):
    """The running attempt of a `def` function: a Context whose calls block."""

    __slots__ = ("_calls", "_durable", "_port")

    def __init__(
        self,
        task_id: UUID,
        attempt: int,
        reporter: Reporter,
        is_cancelled: Callable[[], bool],
        port: SyncPort | None = None,
    ) -> None:
        super().__init__(task_id, attempt, reporter, is_cancelled)
        self._port = port
        self._durable, self._calls = _begin(self, port, self._wake)

    def _wake(self) -> None:
        if self._port is not None:
            self._port.wake()


def durable_of(context: Reporting | None) -> Durable | None:
    """Return the durable side of a context, if it has one."""
    return context._durable if isinstance(context, Context | SyncContext) else None


def _begin(context: Reporting, port: Port | None, wake: Callable[[], None]) -> tuple[Durable | None, Calls | None]:
    if port is None:
        return None, None
    durable = Durable(port.stored, wake)
    return durable, Calls(durable, context._reporter, context.attempt, port.max_value)


def _there(calls: Calls | None) -> Calls:
    if calls is None:
        raise RuntimeError("this context keeps no steps: its function is not run by a worker")
    return calls


def _end_wait(future: Any) -> None:
    if not future.done():
        future.set_result(_NOTHING)
