"""The ways of a function's context to the worker that keeps its steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tasker.model.steps import Step
from tasker.tasktypes.steps import AnyAnswer, AnyRequest


class Port(Protocol):
    """The way to the worker. stored: the steps at the beginning. max_value: bytes of a step's result."""

    @property
    def stored(self) -> Sequence[Step]: ...
    @property
    def max_value(self) -> int: ...


class AsyncPort(Port, Protocol):
    """The way of an `async def` function."""

    def ask(self, request: AnyRequest) -> Any:
        """Make a request; return an asyncio.Future of the answer, of the running loop."""


class SyncPort(Port, Protocol):
    """The way of a `def` function; its methods block, and may be called in any thread."""

    def ask(self, request: AnyRequest) -> AnyAnswer:
        """Make a request and wait for the answer."""

    def wait(self, request: AnyRequest | None, seconds: float | None, until: Callable[[], bool]) -> AnyAnswer | None:
        """Wait for the answer to a request, if one is given, for at most some seconds.

        Return None if it does not come: the time or `until` is over, or the client has asked to cancel the attempt.
        """

    def wake(self) -> None:
        """Have all threads that wait ask their `until` again."""
