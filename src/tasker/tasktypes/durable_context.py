"""What the contexts of `async def` and `def` functions have in common."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from tasker.tasktypes.calls import Calls
from tasker.tasktypes.durable import Durable
from tasker.tasktypes.ports import Port
from tasker.tasktypes.reporting import Reporter, Reporting


class DurableContext(Reporting):
    """A context that may keep steps. Its public methods are those of its subclasses."""

    __slots__ = ("_calls", "_durable")

    def __init__(
        self,
        task_id: UUID,
        attempt: int,
        reporter: Reporter,
        is_cancelled: Callable[[], bool],
        port: Port | None,
    ) -> None:
        super().__init__(task_id, attempt, reporter, is_cancelled)
        self._durable: Durable | None = None
        self._calls: Calls | None = None
        if port is not None:
            self._durable = Durable(port.stored, self._wake)
            self._calls = Calls(self._durable, reporter, attempt, port.max_value)

    def _forgotten(self) -> str | None:
        """Return a call that was made and never awaited, as it is written; None if there is none."""
        return None

    def _wake(self) -> None:
        """Have all calls that wait look whether the attempt ends."""


def calls_of(context: DurableContext) -> Calls:
    """Return the calls of a context. Raises RuntimeError if nobody keeps its steps."""
    if context._calls is None:
        raise RuntimeError("this context keeps no steps: no worker runs its function")
    return context._calls


def forgotten_in(context: DurableContext) -> str | None:
    """Return a call of a context that its function has never awaited, as it is written."""
    return context._forgotten()


def durable_of(context: DurableContext) -> Durable | None:
    """Return the durable side of a context, if somebody keeps its steps."""
    return context._durable
