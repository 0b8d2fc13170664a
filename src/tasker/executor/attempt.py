"""One attempt under way: what it comes to when its function, the client, the worker and the clock disagree."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from tasker.executor.stop import Stop
from tasker.model import Claim
from tasker.rules.lifecycle import Cancelled, Outcome, TimedOut
from tasker.tasktypes.context import Reporter


class Observer(Reporter, Protocol):
    """Takes what is to be known of an attempt: what its function says, and what its executor sees of it.

    max_output: bytes that it may say, None for any number. is_cut_off: it has said more, and is heard no more; may be
    asked in any thread. is_full: it says more than can be stored at once, and should wait.
    """

    max_output: int | None
    is_cut_off: bool

    @property
    def is_full(self) -> bool: ...

    def when_room(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, once, as soon as it is not full."""

    def printed(self, size: int) -> bool:
        """Count a line that it has printed or logged for the server's log; tell whether that takes it."""

    def peak_memory(self, size: int) -> None:
        """Take how many bytes its process has held at most; told once, before the attempt ends."""


class Attempt:
    """The rules that both kinds share; a kind says how its function is told and how it is ended.

    - Abandoned: ended at once, with the worker's outcome.
    - Cancelled: told, and ended after the grace. One that ends in time has been cancelled if it had noticed.
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

    async def outcome(self) -> Outcome:
        """Wait for the end. If the waiting is cancelled, so is the attempt, at once."""
        try:
            return await self._done
        except asyncio.CancelledError:
            self._end()
            raise
        finally:
            self._stop.detach()
            for timer in self._timers:
                timer.cancel()

    def _watch(self) -> None:
        """Begin to listen to the clock and the worker."""
        if self.claim.policy.timeout is not None:
            self._later(self.claim.policy.timeout, self._time_out)
        self._stop.attach(self._stop_requested)

    def _later(self, delay: timedelta, callback: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay.total_seconds(), callback))

    def _settle(self, outcome: Outcome) -> None:
        if not self._done.done():
            self._done.set_result(outcome)

    def _stop_requested(self) -> None:
        if self._stop.abandoned is not None:
            self._verdict = self._stop.abandoned
            self._end()
        elif self._verdict is None and self._tell_cancelled():
            self._verdict = Cancelled()
            self._later(self._grace, self._give_up)

    def _time_out(self) -> None:
        if self._verdict is None:
            assert self.claim.policy.timeout is not None
            self._verdict = TimedOut(self.claim.policy.timeout)
            self._tell_timed_out()

    def _tell_cancelled(self) -> bool:
        """Tell the function that it should stop; False if it has ended already."""
        raise NotImplementedError

    def _tell_timed_out(self) -> None:
        """End the function because its time is up."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """The function was told and has not ended within the grace."""
        raise NotImplementedError

    def _end(self) -> None:
        """End at once, with the verdict as it stands."""
        raise NotImplementedError
