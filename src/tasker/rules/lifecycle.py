"""Pure rules of a task's life: what a task becomes after an attempt has ended. No clock, no store."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from msgspec import Struct, structs

from tasker.errors import PROBLEMS
from tasker.model import Claim, Ending, Reason, RetryPolicy, Status, TaskProblem, Transition
from tasker.model.steps import Wait

MAX_CRASHES = 3
"""Number of crashed attempts of one task after which it fails for good."""
MAX_INTERRUPTIONS = 3
"""Number of interrupted attempts in a row after which a task is a suspect: it runs alone in a child process."""
MAX_DELAY = timedelta(days=3653)
"""Ten years. Longer delays (a typing error, a distant Retry-After) are cut to this."""


class Succeeded(Struct, frozen=True):
    """The function returned; `result` is JSON text."""

    result: bytes


class Failed(Struct, frozen=True):
    """The function raised, or its result cannot be stored. `after` is the least delay before the next try."""

    problem: TaskProblem
    after: timedelta | None = None
    ending: Ending = "failed"


class Snoozed(Struct, frozen=True):
    """The function asked to be run later, or may not run now; uses up no try."""

    after: timedelta
    reason: Reason = "snoozed"


class Parked(Struct, frozen=True):
    """The function waits for `wait` and has given its slot back; uses up no try."""

    wait: Wait


class Cancelled(Struct, frozen=True):
    """The attempt stopped because a client asked for it."""


class TimedOut(Struct, frozen=True):
    """The attempt took longer than its timeout and was stopped."""

    timeout: timedelta


class Crashed(Struct, frozen=True):
    """The attempt's own child process died while the service went on."""

    detail: str
    problem: str = "worker-crashed"


class Interrupted(Struct, frozen=True):
    """The whole service or worker ended during the attempt; uses up no try."""


class Released(Struct, frozen=True):
    """The service drained and gave the attempt back; uses up no try."""


Outcome = Succeeded | Failed | Snoozed | Parked | Cancelled | TimedOut | Crashed | Interrupted | Released


def problem(name: str, detail: str, *, attempt: int = 0, retryable: bool = False) -> TaskProblem:
    """Return the problem object of the kind `name` (a row of PROBLEMS)."""
    kind = PROBLEMS[name]
    return TaskProblem(type=f"/problems/{name}", title=kind.title, detail=detail, retryable=retryable, attempt=attempt)


def backoff(policy: RetryPolicy, tries: int, random: Random) -> timedelta:
    """Return the delay after try number `tries`: exponential, capped, full jitter (AWS Architecture Blog, 2015)."""
    try:
        ceiling = min(policy.max, policy.initial * policy.factor ** (tries - 1))
    except OverflowError:
        ceiling = policy.max
    return ceiling * random.random() if policy.jitter else ceiling


def decide(outcome: Outcome, claim: Claim, now: datetime, random: Random) -> Transition:
    """Return what the task becomes after `outcome` of the attempt `claim`."""
    match outcome:
        case Succeeded(result):
            return _end(claim, now, Status.COMPLETED, "succeeded", tries=claim.tries + 1, result=result)
        case Failed(error, after, ending):
            return _failed(claim, now, error, ending, after, random)
        case TimedOut(timeout):
            error = problem("timed-out", f"the attempt ran longer than {timeout.total_seconds():g} s", retryable=True)
            return _failed(claim, now, error, "timed_out", None, random)
        case Crashed(detail, name):
            return _crashed(claim, now, problem(name, detail), random)
        case Snoozed(after, reason):
            return _again(claim, now, "snoozed", reason=reason, run_at=now + min(after, MAX_DELAY))
        case Parked(wait):
            until = None if wait.until is None else max(now, min(wait.until, now + MAX_DELAY))
            return structs.replace(
                _again(claim, now, "parked", reason=wait.reason, run_at=until, interruptions=_suspicion(claim)),
                wait=wait,
            )
        case Cancelled():
            return _end(claim, now, Status.CANCELLED, "cancelled", tries=claim.tries)
        case Interrupted():
            return _again(claim, now, "interrupted", run_at=now, interruptions=claim.interruptions + 1)
        case Released():
            return _again(claim, now, "released", run_at=now, interruptions=_suspicion(claim))


def _suspicion(claim: Claim) -> int:
    """Return the interruptions after an attempt whose end does not clear a suspect, as it ran alone in a child."""
    return claim.interruptions if claim.interruptions >= MAX_INTERRUPTIONS else 0


def _failed(
    claim: Claim, now: datetime, error: TaskProblem, ending: Ending, after: timedelta | None, random: Random
) -> Transition:
    error = structs.replace(error, attempt=claim.attempt)
    tries = claim.tries + 1
    policy = claim.policy.retry
    if not error.retryable or tries >= policy.max_attempts:
        return _end(claim, now, Status.FAILED, ending, tries=tries, error=error)
    delay = min(max(backoff(policy, tries, random), after or timedelta(0)), MAX_DELAY)
    return _again(claim, now, ending, reason="retrying", run_at=now + delay, tries=tries, error=error)


def _crashed(claim: Claim, now: datetime, error: TaskProblem, random: Random) -> Transition:
    """Decide after a crash, which uses up no try of the retry policy but has its own limit. A suspect stays one."""
    crashes = claim.crashes + 1
    again = claim.policy.on_crash == "retry" and crashes < MAX_CRASHES
    error = structs.replace(error, attempt=claim.attempt, retryable=again)
    if not again:
        return _end(claim, now, Status.FAILED, "crashed", tries=claim.tries, crashes=crashes, error=error)
    run_at = now + backoff(RetryPolicy(), crashes, random)
    return structs.replace(
        _again(claim, now, "crashed", reason="retrying", run_at=run_at, interruptions=_suspicion(claim), error=error),
        crashes=crashes,
    )


def _end(
    claim: Claim,
    now: datetime,
    status: Status,
    ending: Ending,
    *,
    tries: int,
    crashes: int | None = None,
    result: bytes | None = None,
    error: TaskProblem | None = None,
) -> Transition:
    return Transition(
        status=status,
        ending=ending,
        at=now,
        type=claim.type,
        owner=claim.owner,
        queue=claim.queue,
        started_at=claim.started_at,
        tries=tries,
        crashes=claim.crashes if crashes is None else crashes,
        interruptions=0,
        result=result,
        error=error,
    )


def _again(
    claim: Claim,
    now: datetime,
    ending: Ending,
    *,
    run_at: datetime | None,
    reason: Reason = "queued",
    tries: int | None = None,
    interruptions: int = 0,
    error: TaskProblem | None = None,
) -> Transition:
    return Transition(
        status=Status.PENDING,
        ending=ending,
        at=now,
        type=claim.type,
        owner=claim.owner,
        queue=claim.queue,
        started_at=claim.started_at,
        tries=claim.tries if tries is None else tries,
        crashes=claim.crashes,
        interruptions=interruptions,
        reason=reason,
        run_at=run_at,
        error=error,
    )


def deadline_passed(deadline: datetime, last: TaskProblem | None) -> TaskProblem:
    """Return the error of a task that waited until its deadline. last: how its latest attempt failed."""
    detail = f"no attempt could start before {deadline.isoformat()}"
    return problem("deadline-passed", detail if last is None else f"{detail}; the last one failed: {last.detail}")


def dependency_failed(depends_on: UUID, status: Status, error: TaskProblem | None) -> TaskProblem:
    """Return the error of a task that depends on one that has failed or was cancelled."""
    end = "was cancelled" if status is Status.CANCELLED else "failed"
    detail = f"task {depends_on}, on which this one depends, {end}"
    return problem("dependency-failed", detail if error is None else f"{detail}: {error.detail}"[:2000])


def group_failed(name: str, failed: int, cancelled: int) -> TaskProblem:
    """Return the error of a task that depends on the completion of a group, of which tasks failed or were cancelled."""
    ends = [f"{number:,} {end}" for number, end in ((failed, "failed"), (cancelled, "cancelled")) if number]
    return problem("dependency-failed", f"of the group {name!r}, on which this task depends, {' and '.join(ends)}")
