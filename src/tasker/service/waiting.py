"""What a task waits for: in one word and in a sentence, its place in line, and about when it starts and ends.

All of it is asked of the store when one task is read, and none of it is stored. Lists tell the word alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from msgspec import Struct, structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.model import Reason, Status, Task, WorkerState
from tasker.model.history import History
from tasker.model.keys import Caller
from tasker.model.queues import MOST_BEFORE, Place, QueueState
from tasker.service.load import Load

SOON = timedelta(seconds=1)
"""When to ask again about a task of whose type nothing is known."""
_LATE = timedelta(minutes=1)
"""When to ask again at the latest about one that takes longer than others of its type did."""
_KNOWN_FOR = 10.0
"""Seconds for which what the store tells of run times is good enough."""
_WORKERS_KNOWN_FOR = 1.0
"""Seconds for which a look at the workers stands: many may ask about their tasks at once."""
_SILENT_AFTER = timedelta(seconds=30)
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Situation(Struct, frozen=True, kw_only=True):
    """What is known of a pending task's queue and workers.

    state: what is set of the queue; None for nothing. has_worker: whether a worker takes tasks of this type and queue.
    running: attempts of the queue that run. run_time: how long the type's attempts take about. is_own: whether only its
    owner's tasks are told of: when it starts nobody can tell by these.
    """

    state: QueueState | None = None
    place: Place | None = None
    has_worker: bool = True
    running: int = 0
    run_time: timedelta | None = None
    is_own: bool = False


class Waiting:
    """Explains what open tasks wait for.

    history: the run times of this process. is_stopping: tells whether this process starts no task any more. load: who
    is told of everybody's tasks; all others are told of their own, and of what an admin has set.
    """

    def __init__(
        self, engine: Engine, clock: Clock, history: History, is_stopping: Callable[[], bool], load: Load
    ) -> None:
        self._load = load
        self._engine = engine
        self._clock = clock
        self._history = history
        self._is_stopping = is_stopping
        self._told: dict[str, tuple[float, timedelta | None]] = {}
        self._workers: list[WorkerState] = []
        self._looked_at: float | None = None

    async def explain(self, caller: Caller, task: Task) -> Task:
        """Return a task with what it waits for, if it is pending, as far as the caller is told."""
        if task.status is not Status.PENDING:
            return task
        if self._is_stopping() and not await self._runs_elsewhere(task):
            return structs.replace(task, reason="restart", waiting_for="restart of the service")
        now = self._clock.now()
        situation = await self._situation(task, now, self._load.of(caller))
        reason, words = describe(task, situation, now)
        place = situation.place
        return structs.replace(
            task, reason=reason, waiting_for=words, queue_position=None if place is None else place.before + 1,
            estimated_start_at=estimate(task, situation, now),
        )  # fmt: skip

    async def _runs_elsewhere(self, task: Task) -> bool:
        """Tell whether another process may run a task while this one stops."""
        if not self._engine.is_shared:
            return False
        try:
            workers = await self._engine.workers.find_all()
        except Unavailable:  # nobody knows
            return True
        now = self._clock.now()
        return any(_takes(worker, task, now) for worker in workers)

    async def with_reasons(self, caller: Caller, tasks: Sequence[Task]) -> list[Task]:
        """Return tasks with the word for what they wait for, as far as the caller is told."""
        if not any(task.reason == "queued" for task in tasks):
            return list(tasks)
        states = await self._states({task.queue for task in tasks}, self._load.of(caller))
        return [
            structs.replace(task, reason=limit_of(states[task.queue]) or "queued")
            if task.reason == "queued" and task.queue in states
            else task
            for task in tasks
        ]

    async def ask_again(self, caller: Caller, task: Task) -> timedelta:
        """Return when it is worth asking again about an open task, as `explain` has it."""
        now = self._clock.now()
        if _is_later(task, now):
            return ask_again_in(task, None, now)
        if self._load.of(caller) is None:
            return ask_again_in(task, await self._run_time(task), now)
        waited = now - task.created_at  # all that is its owner's own
        return ask_again_in(task, None, now) if task.status is Status.RUNNING else min(max(SOON, waited / 10), _LATE)

    def ask_again_at_first(self, caller: Caller, task: Task) -> timedelta:
        """Return the same for a task that was submitted just now, by what this process knows."""
        run_time = self._history.run_time(task.type) if self._load.of(caller) is None else None
        return ask_again_in(task, run_time, self._clock.now())

    async def _situation(self, task: Task, now: datetime, owner: str | None) -> Situation:
        """Return what is known; of an owner's tasks alone if one is given."""
        if _is_later(task, now):
            return Situation()
        states, workers = await self._states({task.queue}, owner), await self._find_workers()
        place = await self._engine.queues.find_place(task.task_id, owner)
        has_worker = any(_takes(worker, task, now) for worker in workers)
        if owner is not None:
            return Situation(state=states.get(task.queue), place=place, has_worker=has_worker, is_own=True)
        return Situation(
            state=states.get(task.queue), place=place, has_worker=has_worker,
            running=sum(one.queue == task.queue for worker in workers for one in worker.running),
            run_time=await self._run_time(task),
        )  # fmt: skip

    async def _find_workers(self) -> list[WorkerState]:
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at > _WORKERS_KNOWN_FOR:
            self._workers = await self._engine.workers.find_all()
            self._looked_at = now
        return self._workers

    async def _states(self, queues: Collection[str], owner: str | None) -> dict[str, QueueState]:
        """Return what is set of queues, and how they are used; for one owner's eyes as if nobody used them."""
        states = {state.settings.name: state for state in await self._engine.queues.find_all(queues)}
        if owner is None:
            return states
        return {name: structs.replace(state, running=0, tokens=math.inf) for name, state in states.items()}

    async def _run_time(self, task: Task) -> timedelta | None:
        """Return how long the type's attempts take: as this process has seen, or else as the store tells."""
        seen = self._history.run_time(task.type)
        if seen is not None:
            return seen
        now = self._clock.monotonic()
        at, told = self._told.get(task.type, (None, None))
        if at is None or now - at > _KNOWN_FOR:
            told = await self._engine.queues.find_run_time(task.task_id)
            if len(self._told) > 1000:
                self._told.clear()
            self._told[task.type] = now, told
        return told


def describe(task: Task, situation: Situation, now: datetime) -> tuple[Reason | None, str]:
    """Return the word and the sentence for what a pending task waits for."""
    due = task.next_attempt_at or task.run_at
    if _is_later(task, now):
        return task.reason, _waits_for_a_moment(task, due, now)
    state, place = situation.state, situation.place
    if state is not None and state.settings.paused:
        return "paused", "queue paused"
    if not situation.has_worker:
        return task.reason, "no worker has this type"
    if state is not None:
        limit = _at_a_limit(task, state, place)
        if limit is not None:
            return limit
    return task.reason, _in_line(place, is_own=situation.is_own)


def _waits_for_a_moment(task: Task, due: datetime | None, now: datetime) -> str:
    if task.reason == "dependencies":
        return "tasks that it depends on"
    if task.reason == "budget_exhausted":
        return "budget of the day used up"
    left = "" if due is None else f" in {_length(due - now)}"
    return {"retrying": "retry", "snoozed": "snoozed, goes on"}.get(str(task.reason), "starts") + left


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
        return limit, f"rate of the queue used up: {settings.rate.limit:,} in {_length(settings.rate.per)}"
    return None


def limit_of(state: QueueState, weight: int = 1) -> Reason | None:
    """Return what of a queue keeps a due task from starting; None if nothing does."""
    settings, rate = state.settings, state.settings.rate
    if settings.paused:
        return "paused"
    if settings.concurrency is not None and state.running >= settings.concurrency:
        return "concurrency_limited"
    if rate is not None and not rate.can_pay(state.tokens, weight):
        return "rate_limited"
    return None


def _in_line(place: Place | None, *, is_own: bool) -> str:
    if is_own:
        return _in_own_line(place)
    if place is None or place.before == 0:
        return "next in line"
    if place.before >= MOST_BEFORE:
        return f"more than {MOST_BEFORE - 1:,} tasks are before it"
    return "1 task is before it" if place.before == 1 else f"{place.before:,} tasks are before it"


def _in_own_line(place: Place | None) -> str:
    if place is None or place.before == 0:
        return "in line; of its owner's tasks it is the next"
    if place.before >= MOST_BEFORE:
        return f"more than {MOST_BEFORE - 1:,} tasks of its owner are before it"
    own = "1 task of its owner is" if place.before == 1 else f"{place.before:,} tasks of its owner are"
    return f"{own} before it"


def estimate(task: Task, situation: Situation, now: datetime) -> datetime | None:
    """Return about when a pending task starts; None where nobody can tell."""
    if _is_later(task, now):
        return None if task.reason == "dependencies" else task.next_attempt_at or task.run_at
    state, place = situation.state, situation.place
    if situation.is_own or not situation.has_worker or place is None or place.before >= MOST_BEFORE:
        return None
    if state is not None and state.settings.paused:
        return None
    waits = [timedelta(0)]
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
    """Return when it is worth asking again about an open task, from how long its type takes."""
    if task.status is Status.RUNNING and task.started_at is not None:
        ran = now - task.started_at
        left = timedelta(0) if run_time is None else run_time - ran
        return left if left > timedelta(0) else min(max(SOON, ran / 10), _LATE)
    if _is_later(task, now):
        due = task.next_attempt_at or task.run_at
        return SOON if due is None else due - now
    start = task.estimated_start_at
    return max(SOON, (timedelta(0) if start is None else start - now) + (run_time or timedelta(0)))


def _is_later(task: Task, now: datetime) -> bool:
    """Tell whether a task waits for a moment, or for something else than its queue."""
    if task.reason in ("dependencies", "budget_exhausted"):
        return True
    due = task.next_attempt_at or task.run_at
    return task.status is Status.PENDING and due is not None and due > now


def _takes(worker: WorkerState, task: Task, now: datetime) -> bool:
    info = worker.info
    is_silent = now - worker.heartbeat_at > max(_SILENT_AFTER, 3 * info.heartbeat_every)
    has_queue = info.queues is None or task.queue in info.queues
    return task.type in info.types and has_queue and not info.draining and not is_silent


def _length(time: timedelta) -> str:
    seconds = max(time.total_seconds(), 0)
    if seconds < 1:
        return f"{seconds:.1g} s"
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= 2 * size or size == 1)
    return f"{seconds / size:.0f} {unit}"
