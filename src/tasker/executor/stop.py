"""How a worker asks a running attempt to end."""

from __future__ import annotations

from collections.abc import Callable

from tasker.rules.lifecycle import Outcome


class Stop:
    """Handed to a running attempt; both requests may come at any time, also before it starts. For the loop's thread.

    The executor listens through `attach`; the worker only calls `cancel` and `abandon`.
    """

    __slots__ = ("_listener", "abandoned", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
        self.abandoned: Outcome | None = None
        self._listener: Callable[[], None] | None = None

    def cancel(self) -> None:
        """A client asked for it: tell the function at once, kill it after the grace."""
        if not self.cancelled and self.abandoned is None:
            self.cancelled = True
            self._tell()

    def abandon(self, outcome: Outcome) -> None:
        """End the attempt at once (lease lost, drain deadline): `run` returns `outcome`, unless it has ended."""
        if self.abandoned is None:
            self.abandoned = outcome
            self._tell()

    @property
    def is_requested(self) -> bool:
        return self.cancelled or self.abandoned is not None

    def attach(self, listener: Callable[[], None]) -> None:
        """Call `listener` at each request, and now if there was one already. One listener at a time."""
        self._listener = listener
        if self.is_requested:
            listener()

    def detach(self) -> None:
        self._listener = None

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener()
