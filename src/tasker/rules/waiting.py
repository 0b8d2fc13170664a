"""Pure rules of waiting: why a task is pending, about when it starts, when to ask again. No clock, no store."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from tasker.model import Reason, Status, Task, WorkerState
from tasker.model.queues import MOST_BEFORE, Place, QueueState

SOON = timedelta(seconds=1)
"""Time until asking again about a task whose type has no known run time."""
LATE = timedelta(minutes=1)
"""Longest time until asking again about a task that runs longer than others of its type."""
_AT_ONCE = timedelta(0)
_SILENT_AFTER = timedelta(seconds=30)
_FOR_OTHERS = ("waiting_for_children", "input_required")
"""Reasons of parked tasks for which something else comes, at the latest at the time that they may have."""
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Situation(Struct, frozen=True, kw_only=True):
    """Facts about a pending task's queue and workers.

    state: the queue's settings and use; None without settings. has_worker: whether a worker takes tasks of this type
    and queue. running: attempts of the queue that run now. run_time: about how long attempts of the type take.
    is_own: whether only tasks of the same owner are counted; then the start cannot be estimated.
    """

    state: QueueState | None = None
    place: Place | None = None
    has_worker: bool = True
    running: int = 0
    run_time: timedelta | None = None
    is_own: bool = False


def describe(task: Task, situation: Situation, now: datetime) -> tuple[Reason | None, str]:
    """Return what a pending task waits for, as a reason and as a sentence."""
    due = task.next_attempt_at or task.run_at
    if is_later(task, now):
        return task.reason, _waits_for_time(task, due, now)
    state, place = situation.state, situation.place
    if state is not None and state.settings.paused:
        return "paused", "queue paused"
    if not situation.has_worker:
        return task.reason, "no worker has this type"
    if state is not None:
        limit = _at_a_limit(task, state, place)
        if limit is not None:
            return limit
    return task.reason, _describe_place(place, is_own=situation.is_own)


def _waits_for_time(task: Task, due: datetime | None, now: datetime) -> str:
    if task.reason == "dependencies":
        return "tasks that it depends on"
    if task.reason == "budget_exhausted":
        return "budget of the day used up"
    if task.reason == "waiting_for_children":
        return _describe_children(task)
    if task.reason == "input_required":
        return _describe_question(task, now)
    left = "" if due is None else f" in {_show_length(due - now)}"
    words = {"retrying": "retry", "snoozed": "snoozed, goes on", "sleeping": "sleeps, goes on"}
    return words.get(str(task.reason), "starts") + left


def _describe_children(task: Task) -> str:
    left = 0 if task.children is None else task.children.pending + task.children.running
    if not left:
        return "its children"
    return "1 of its children has not ended" if left == 1 else f"{left:,} of its children have not ended"


def _describe_question(task: Task, now: datetime) -> str:
    asked = task.input
    if asked is None:
        return "an answer"
    left = "" if asked.expires_at is None else f", for {_show_length(asked.expires_at - now)} more"
    return f"an answer to `{asked.name}`{left}"


def _at_a_limit(task: Task, state: QueueState, place: Place | None) -> tuple[Reason, str] | None:
    settings = state.settings
    per_key = settings.concurrency_per_key
    key_running = 0 if place is None else place.key_running
    if per_key is not None and (task.reason == "concurrency_limited" or key_running >= per_key):
        return "concurrency_limited", f"{max(key_running, per_key)} of {per_key} slots of its concurrency key busy"
    limit = limit_of(state, 1 if place is None else place.weight)
    if limit == "concurrency_limited":
        return limit, f"{state.running} of {settings.concurrency} slots busy"
    if limit == "rate_limited" and settings.rate is not None:
        return limit, f"rate of the queue used up: {settings.rate.limit:,} in {_show_length(settings.rate.per)}"
    return None


def limit_of(state: QueueState, weight: int = 1) -> Reason | None:
    """Return which setting of a queue keeps a due task from starting; None if none does."""
    settings, rate = state.settings, state.settings.rate
    if settings.paused:
        return "paused"
    if settings.concurrency is not None and state.running >= settings.concurrency:
        return "concurrency_limited"
    if rate is not None and not rate.can_pay(state.tokens, weight):
        return "rate_limited"
    return None


def _describe_place(place: Place | None, *, is_own: bool) -> str:
    if is_own:
        return _describe_own_place(place)
    if place is None or place.before == 0:
        return "next in line"
    if place.before >= MOST_BEFORE:
        return f"more than {MOST_BEFORE - 1:,} tasks are before it"
    return "1 task is before it" if place.before == 1 else f"{place.before:,} tasks are before it"


def _describe_own_place(place: Place | None) -> str:
    if place is None or place.before == 0:
        return "in line; of its owner's tasks it is the next"
    if place.before >= MOST_BEFORE:
        return f"more than {MOST_BEFORE - 1:,} tasks of its owner are before it"
    own = "1 task of its owner is" if place.before == 1 else f"{place.before:,} tasks of its owner are"
    return f"{own} before it"


def estimate(task: Task, situation: Situation, now: datetime) -> datetime | None:
    """Estimate when a pending task starts; None if that is unknown."""
    if is_later(task, now):
        is_unknown = task.reason == "dependencies" or task.reason in _FOR_OTHERS
        return None if is_unknown else task.next_attempt_at or task.run_at
    state, place = situation.state, situation.place
    if situation.is_own or not situation.has_worker or place is None or place.before >= MOST_BEFORE:
        return None
    if state is not None and state.settings.paused:
        return None
    waits = [_AT_ONCE]
    if situation.running:
        if situation.run_time is None:
            return None
        waits.append(situation.run_time * ((place.before + 1) / situation.running))
    if state is not None and state.settings.rate is not None:
        rate = state.settings.rate
        units = place.before + min(place.weight, rate.burst) - state.tokens
        waits.append(timedelta(seconds=max(0.0, units) / rate.per_second))
    return now + max(waits)


def ask_again_in(task: Task, run_time: timedelta | None, now: datetime) -> timedelta:
    """Return the time until asking again about an open task. run_time: about how long its type takes."""
    if task.status is Status.RUNNING and task.started_at is not None:
        ran = now - task.started_at
        left = _AT_ONCE if run_time is None else run_time - ran
        return left if left > _AT_ONCE else min(max(SOON, ran / 10), LATE)
    if is_later(task, now):
        return _until_due(task, now)
    start = task.estimated_start_at
    return max(SOON, (_AT_ONCE if start is None else start - now) + (run_time or _AT_ONCE))


def _until_due(task: Task, now: datetime) -> timedelta:
    due = task.next_attempt_at or task.run_at
    if task.reason == "input_required":  # a person may answer at any time
        return LATE if due is None else min(due - now, LATE)
    return SOON if due is None or task.reason == "waiting_for_children" else due - now


def is_later(task: Task, now: datetime) -> bool:
    """Tell whether a task waits for a time, or for something other than its queue."""
    if task.reason in ("dependencies", "budget_exhausted"):
        return True
    due = task.next_attempt_at or task.run_at
    if due is None:
        return task.reason in _FOR_OTHERS
    return task.status is Status.PENDING and due > now


def takes(worker: WorkerState, task: Task, now: datetime) -> bool:
    """Tell whether a worker is alive and takes tasks of this type and queue."""
    info = worker.info
    is_silent = now - worker.heartbeat_at > max(_SILENT_AFTER, 3 * info.heartbeat_every)
    has_queue = info.queues is None or task.queue in info.queues
    return task.type in info.types and has_queue and not info.draining and not is_silent


def _show_length(time: timedelta) -> str:
    seconds = max(time.total_seconds(), 0)
    if seconds < 1:
        return f"{seconds:.1g} s"
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= 2 * size or size == 1)
    return f"{seconds / size:.0f} {unit}"
