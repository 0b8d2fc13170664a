"""Failures on demand: the next attempts of a type end without their function."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from tasker.executor.attempt import Observer, Stop
from tasker.executor.call import raised
from tasker.executor.executor import Executor
from tasker.logs.attempt import ATTEMPT
from tasker.model import Claim
from tasker.rules.lifecycle import Crashed, Outcome, TimedOut
from tasker.tasktypes.steps import Parking, Stepper

HowToFail = BaseException | type[BaseException] | Literal["crash", "timeout"]
"""What an attempt raises, or how else it ends."""


class Failures:
    """What the next attempts of each type fail by, and what functions have raised, by task."""

    def __init__(self) -> None:
        self._next: dict[str, deque[HowToFail]] = {}
        self._raised: dict[UUID, BaseException] = {}

    def add(self, type_name: str, how: HowToFail, times: int) -> None:
        """Have the next `times` attempts of a type fail."""
        self._next.setdefault(type_name, deque()).extend([how] * times)

    def is_due(self, type_name: str) -> bool:
        """Tell whether the next attempt of a type fails."""
        return bool(self._next.get(type_name))

    def take(self, claim: Claim) -> Outcome:
        """Return how this attempt fails."""
        how = self._next[claim.type].popleft()
        if how == "crash":
            return Crashed("its process died: fail_next made it crash")
        if how == "timeout":
            return TimedOut(claim.policy.timeout or timedelta(0))
        error = how() if isinstance(how, type) else how
        assert isinstance(error, BaseException)
        self._raised[claim.task_id] = error
        return raised(error)

    def note(self, error: BaseException) -> None:
        """Remember what the function of the running attempt has raised."""
        attempt = ATTEMPT.get(None)
        if attempt is not None and not isinstance(error, Parking):
            self._raised[attempt.task_id] = error

    def find(self, task_id: UUID) -> BaseException | None:
        """Return what the function of a task has raised last."""
        return self._raised.get(task_id)


class FailingExecutor(Executor):
    """An executor that first asks `failures`."""

    def __init__(self, failures: Failures, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._failures = failures

    async def run(
        self,
        claim: Claim,
        observer: Observer,
        stop: Stop,
        *,
        stepper: Stepper | None = None,
        isolate: bool = False,
    ) -> Outcome:
        if self._failures.is_due(claim.type):
            return self._failures.take(claim)
        return await super().run(claim, observer, stop, stepper=stepper, isolate=isolate)

    def run_at_once(self, claim: Claim) -> Outcome | None:
        return self._failures.take(claim) if self._failures.is_due(claim.type) else super().run_at_once(claim)
