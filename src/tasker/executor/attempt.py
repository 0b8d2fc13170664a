"""One running attempt, and its outcome: decided by its function, the client, the worker or the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from tasker.executor.requests import Requests
from tasker.model import Claim
from tasker.rules.lifecycle import Cancelled, Outcome, TimedOut
from tasker.tasktypes.reporting import Reporter


class Stop:
    """A worker's request that an attempt ends; allowed at any time, also before the start, in the loop's thread.

    The executor listens through `attach`; the worker only calls `cancel` and `abandon`.
    """

    __slots__ = ("_listener", "abandoned", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
        self.abandoned: Outcome | None = None
        self._listener: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Ask the function to stop, for a client; the executor kills it after the grace."""
        if not self.cancelled and self.abandoned is None:
            self.cancelled = True
            self._notify()

    def abandon(self, outcome: Outcome) -> None:
        """End the attempt at once (lease lost, drain deadline): `run` returns `outcome`, unless it has ended."""
        if self.abandoned is None:
            self.abandoned = outcome
            self._notify()

    @property
    def is_requested(self) -> bool:
        return self.cancelled or self.abandoned is not None

    def attach(self, listener: Callable[[], None]) -> None:
        """Call `listener` at each request, and now if one was made already. One listener at a time."""
        self._listener = listener
        if self.is_requested:
            listener()

    def detach(self) -> None:
        self._listener = None

    def _notify(self) -> None:
        if self._listener is not None:
            self._listener()


class Observer(Reporter, Protocol):
    """Receives a function's reports, and what the executor observes of its attempt.

    max_output: bytes that the attempt may report, None for no limit. is_cut_off: it has reported more, and further
    reports are dropped; may be read in any thread. is_full: reports come faster than they are stored; wait.
    """

    max_output: int | None
    is_cut_off: bool

    @property
    def is_full(self) -> bool: ...

    def when_not_full(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, as soon as the observer is not full."""

    def printed(self, line: str, stream: str | None = None) -> bool:
        """Count a line for the server's log against max_output; return whether it may still be logged.

        stream: `stdout` or `stderr`, if it was printed there: then the task's log keeps it, too, up to a limit.
        """

    def peak_memory(self, size: int) -> None:
        """Take the peak memory of the attempt's process, in bytes; called once, before the attempt ends."""


class Attempt:
    """The rules for both kinds of attempts; a subclass implements how to ask its function to stop, and how to end it.

    - Abandoned: ended at once, with the worker's outcome.
    - Cancelled: asked to stop, and ended after the grace. One that ends in time counts as cancelled if it had noticed.
    - Timed out: ended.
    """

    def __init__(self, claim: Claim, stop: Stop, grace: timedelta) -> None:
        self.claim = claim
        self._stop = stop
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Outcome] = self._loop.create_future()
        self._verdict: Outcome | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._requests: Requests | None = None

    async def outcome(self) -> Outcome:
        """Wait for the end. If the waiting is cancelled, so is the attempt, at once."""
        try:
            return await self._done
        except asyncio.CancelledError:
            self._end()
            raise
        finally:
            self._stop.detach()
            if self._requests is not None:
                self._requests.close()
            for timer in self._timers:
                timer.cancel()

    def _watch(self) -> None:
        """Begin to listen to the clock and the worker."""
        if self.claim.policy.timeout is not None:
            self._later(self.claim.policy.timeout, self._on_timeout)
        self._stop.attach(self._on_stop)

    def _later(self, delay: timedelta, callback: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay.total_seconds(), callback))

    def _settle(self, outcome: Outcome) -> None:
        if not self._done.done():
            self._done.set_result(outcome)

    def _on_stop(self) -> None:
        if self._stop.abandoned is not None:
            self._verdict = self._stop.abandoned
            self._end()
        elif self._verdict is None and self._request_cancel():
            self._verdict = Cancelled()
            self._later(self._grace, self._on_grace_over)

    def _on_timeout(self) -> None:
        if self._verdict is None:
            assert self.claim.policy.timeout is not None
            self._verdict = TimedOut(self.claim.policy.timeout)
            self._end_timed_out()

    def _request_cancel(self) -> bool:
        """Ask the function to stop; return False if it has ended already."""
        raise NotImplementedError

    def _end_timed_out(self) -> None:
        """End the function because its time is up."""
        self._end()

    def _on_grace_over(self) -> None:
        """End the function, which was asked to stop and has not done so within the grace."""
        self._end()

    def _end(self) -> None:
        """End the function at once, with the present verdict as the outcome."""
        raise NotImplementedError
