"""Run one claimed attempt (budget check, secrets, the function itself) and store its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random

import structlog
from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.executor.attempt import Stop
from tasker.executor.executor import Executor
from tasker.metrics import Metrics
from tasker.model import Claim, Lease, Report, Transition
from tasker.model.history import History
from tasker.rules.lifecycle import Crashed, Failed, Outcome, Released, decide, problem
from tasker.rules.secrets import Erased, Scrubber, reveal
from tasker.tasktypes.registry import Registry
from tasker.worker.outages import Backoff
from tasker.worker.reports import Pace, ReportBuffer
from tasker.worker.steps import ChildStarter, StepParts, StepServer, resumed, start_none
from tasker.worker.wakeups import Wakeups

_CLOCK_JITTER = timedelta(seconds=1)
"""Largest difference between an attempt's wall-clock times and its run time that does not count as a clock reset."""

_log = structlog.get_logger(__name__)

BudgetCheck = Callable[[Claim], Awaitable[Outcome | None]]
"""Returns the outcome of an attempt that must not run; None if the budget allows it."""


class RunningAttempt:
    """An attempt that this worker runs. begun: its start by the monotonic clock. has_resumed: it began with steps."""

    __slots__ = ("begun", "claim", "has_resumed", "lease", "report", "scrubber", "stop")

    def __init__(self, claim: Claim, lease: Lease, report: ReportBuffer, stop: Stop, begun: float) -> None:
        self.begun = begun
        self.claim = claim
        self.has_resumed = False
        self.lease = lease
        self.report = report
        self.scrubber: Scrubber | None = None
        self.stop = stop


class AttemptRunner:
    """Runs the attempts of a worker.

    check_budget: asked before an attempt of a type that costs. max_output: bytes that an attempt may report, None for
    no limit. history: takes how long successful attempts ran. start_children: see ChildStarter.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        executor: Executor,
        clock: Clock,
        metrics: Metrics,
        *,
        random: Random,
        history: History | None = None,
        check_budget: BudgetCheck | None = None,
        start_children: ChildStarter | None = None,
        max_output: int | None = None,
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._clock = clock
        self._metrics = metrics
        self._random = random
        self._history = history or History()
        self._check_budget = check_budget
        self._max_output = max_output
        self._costs = frozenset(kind.name for kind in registry if kind.costs)
        self._with_secrets = {kind.name: kind.secrets for kind in registry if kind.secrets is not None}
        self._with_context = frozenset(kind.name for kind in registry if kind.context_parameter is not None)
        self._wakeups = Wakeups(engine)
        self._step_parts = StepParts(engine, clock, self._wakeups, start_children or start_none)
        self._pace = Pace()

    def prepare(self, claim: Claim, lease: Lease, stop: Stop) -> RunningAttempt:
        """Begin the attempt of a claim."""
        report = ReportBuffer(self._engine, lease, self._clock, claim.usage, self._pace, max_output=self._max_output)
        self._metrics.attempt_started(claim, claim.started_at)
        return RunningAttempt(claim, lease, report, stop, self._clock.monotonic())

    async def run(self, running: RunningAttempt, *, isolate: bool) -> Outcome:
        """Run the function and return how it ended; never raises. isolate: in a child of its own."""
        claim = running.claim
        try:
            if self._check_budget is not None and claim.type in self._costs:
                refused = await self._check_budget(claim)
                if refused is not None:
                    return refused
            if claim.type in self._with_secrets:
                claim = await self._reveal(running)
            stepper = await self._load_steps(running) if claim.type in self._with_context else None
            return await self._executor.run(claim, running.report, running.stop, stepper=stepper, isolate=isolate)
        except Erased:
            return Failed(problem("secrets-erased", "its secret params are not here: submit the task again"))
        except Unavailable as error:  # raised by the query for secrets or steps, before the function has begun
            _log.warning("worker.attempt_not_begun", task_id=str(claim.task_id), reason=error.detail)
            return Released()
        except Exception as error:
            return _failed_here(claim, error)

    async def _reveal(self, running: RunningAttempt) -> Claim:
        """Return the claim with its secret params, and mask these in its reports. Raises Erased, Unavailable."""
        claim, places = running.claim, self._with_secrets[running.claim.type]
        found = await self._engine.secrets.find(claim.task_id)
        params = reveal(claim.params, found, places)
        if found is None:
            return claim
        running.scrubber = Scrubber(found)
        running.report.scrub = running.scrubber.report
        return structs.replace(claim, params=params, secrets=found)

    async def _load_steps(self, running: RunningAttempt) -> StepServer:
        """Return what answers about the attempt's steps, with those that are stored. Raises Unavailable."""
        claim = running.claim
        stored = await self._engine.steps.find(claim.task_id) if claim.has_steps else ()
        if stored:
            running.has_resumed = True
            running.report.event(resumed(self._clock.now(), stored))
        return StepServer(self._step_parts, running.lease, running.report, running.stop, stored)

    def drain(self) -> None:
        """Let no attempt wait in memory any more: those that wait for others park."""
        self._wakeups.drain()

    def run_at_once(self, claim: Claim) -> Transition | None:
        """Run an attempt whose function awaits nothing; return its transition. None if the attempt needs `run`."""
        begun = self._clock.monotonic()
        try:
            outcome = self._executor.run_at_once(claim)
        except Exception as error:
            outcome = _failed_here(claim, error)
        if outcome is None:
            return None
        self._metrics.attempt_started(claim, claim.started_at)
        return self._decide(claim, outcome, begun)

    def store(self, lease: Lease, transition: Transition) -> asyncio.Future[bool]:
        """Begin to store the end of an attempt without reports; the future's result is that of `Engine.complete`."""
        try:
            return asyncio.ensure_future(self._engine.complete(lease, transition))
        except Unavailable as error:
            failed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    async def complete(self, running: RunningAttempt, outcome: Outcome) -> None:
        """Store how the attempt ended, together with its last reports."""
        try:
            report = await running.report.finish()
            transition = self._transition(running, outcome)
        except Exception as error:  # without an end, the task would wait for its lease, and run again for ever
            report, transition = None, self._decide(running.claim, _failed_here(running.claim, error), running.begun)
        is_stored = await self.store_at_last(running.lease, transition, report)
        self.stored(running.claim, transition, is_stored=is_stored, has_resumed=running.has_resumed)
        if is_stored and running.scrubber is not None and transition.status.is_terminal:
            await self._erase_secrets(running.claim)

    def stored(self, claim: Claim, transition: Transition, *, is_stored: bool, has_resumed: bool = False) -> None:
        """Count and log an end. is_stored: what `Engine.complete` has returned. has_resumed: it is no whole run."""
        if not is_stored:
            _log.warning("task.attempt_superseded", task_id=str(claim.task_id), type=claim.type, attempt=claim.attempt)
            return
        self._metrics.attempt_ended(claim, transition)
        if transition.ending == "succeeded" and not has_resumed:
            self._history.note(claim.type, transition.at - transition.started_at)
        if transition.error is not None:
            _log.warning(
                "task.attempt_failed",
                task_id=str(claim.task_id),
                type=claim.type,
                attempt=claim.attempt,
                ending=transition.ending,
                status=transition.status,
                detail=transition.error.detail,
            )

    def _decide(self, claim: Claim, outcome: Outcome, begun: float) -> Transition:
        """Return what the task becomes. begun: the attempt's start by the monotonic clock."""
        change = decide(outcome, claim, self._clock.now(), self._random)
        run_time = timedelta(seconds=self._clock.monotonic() - begun)
        if abs(change.at - change.started_at - run_time) >= _CLOCK_JITTER:  # the wall clock was set meanwhile
            change = structs.replace(change, started_at=change.at - run_time)
        return change

    def _transition(self, running: RunningAttempt, outcome: Outcome) -> Transition:
        change = self._decide(running.claim, outcome, running.begun)
        if running.report.peak is not None:
            change = structs.replace(change, peak_memory=running.report.peak)
        if running.scrubber is not None and change.error is not None:
            change = structs.replace(change, error=running.scrubber.problem(change.error))
        return change

    async def _erase_secrets(self, claim: Claim) -> None:
        """Erase the secrets of a task that has ended; if that fails now, a chore does it later."""
        try:
            await self._engine.secrets.erase([claim.task_id])
        except Unavailable as error:
            _log.info("worker.secrets_not_erased", task_id=str(claim.task_id), reason=error.detail)

    async def store_at_last(self, lease: Lease, transition: Transition, report: Report | None = None) -> bool:
        """Store the end of an attempt; retry while the store is unavailable, as the work is done."""
        backoff: Backoff | None = None
        while True:
            try:
                return await self._engine.complete(lease, transition, report)
            except Unavailable as error:
                _log.warning("task.end_not_stored", task_id=str(lease.task_id), reason=error.detail)
                backoff = backoff or Backoff()
                await backoff.wait()


def _failed_here(claim: Claim, error: Exception) -> Outcome:
    """Return the outcome after a bug of ours: the task must not hang because of it, nor be tried for ever."""
    _log.error(
        "worker.executor_failed", task_id=str(claim.task_id), type=claim.type, attempt=claim.attempt, exc_info=error
    )
    return Crashed(f"the executor failed: {error!r}")
