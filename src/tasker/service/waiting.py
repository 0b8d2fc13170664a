"""The use case of explaining what an open task waits for: the reason, its position, about when it starts.

It is computed when a single task is read, and never stored. Lists show only the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.model import Status, Task, WorkerState
from tasker.model.history import History
from tasker.model.keys import Caller
from tasker.model.queues import QueueState
from tasker.rules.waiting import LATE, SOON, Situation, ask_again_in, describe, estimate, is_later, limit_of, takes
from tasker.service.queues import Load

_RUN_TIME_KNOWN_FOR = 10.0
"""Seconds for which a run time that the store returned is used."""
_WORKERS_KNOWN_FOR = 1.0
"""Seconds for which a list of the workers is used, as many clients may ask about their tasks at once."""
_MOST_TYPES = 1000


class Waiting:
    """Explains what open tasks wait for.

    history: the run times of this process. is_stopping: tells whether this process no longer starts tasks. load: which
    callers' figures cover all owners' tasks; other callers see their own tasks, and the settings of queues.
    """

    def __init__(
        self, engine: Engine, clock: Clock, history: History, is_stopping: Callable[[], bool], load: Load
    ) -> None:
        self._queues = engine.queues
        self._worker_store = engine.workers
        self._is_shared = engine.is_shared
        self._load = load
        self._clock = clock
        self._history = history
        self._is_stopping = is_stopping
        self._run_times: dict[str, tuple[float, timedelta | None]] = {}
        self._workers: list[WorkerState] = []
        self._workers_read_at: float | None = None

    async def explain(self, caller: Caller, task: Task) -> Task:
        """Return a task; a pending one with what it waits for, as far as the caller may know."""
        if task.status is not Status.PENDING:
            return task
        if self._is_stopping() and not await self._runs_elsewhere(task):
            return structs.replace(task, reason="restart", waiting_for="restart of the service")
        now = self._clock.now()
        situation = await self._situation(task, now, self._load.of(caller))
        reason, sentence = describe(task, situation, now)
        place = situation.place
        return structs.replace(
            task,
            reason=reason,
            waiting_for=sentence,
            queue_position=None if place is None else place.before + 1,
            estimated_start_at=estimate(task, situation, now),
        )

    async def _runs_elsewhere(self, task: Task) -> bool:
        """Tell whether another process may run a task while this one stops."""
        if not self._is_shared:
            return False
        try:
            workers = await self._worker_store.find_all()
        except Unavailable:  # then it may
            return True
        now = self._clock.now()
        return any(takes(worker, task, now) for worker in workers)

    async def with_reasons(self, caller: Caller, tasks: Sequence[Task]) -> list[Task]:
        """Return tasks, each with the reason why it waits, as far as the caller may know."""
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
        """Return the time until asking again about an open task that `explain` returned."""
        now = self._clock.now()
        if is_later(task, now):
            return ask_again_in(task, None, now)
        if self._load.of(caller) is None:
            return ask_again_in(task, await self._run_time(task), now)
        waited = now - task.created_at  # the caller may learn no more than its own task's age
        return ask_again_in(task, None, now) if task.status is Status.RUNNING else min(max(SOON, waited / 10), LATE)

    def ask_again_at_first(self, caller: Caller, task: Task) -> timedelta:
        """Return the same for a task that was just submitted, without a query."""
        run_time = self._history.run_time(task.type) if self._load.of(caller) is None else None
        return ask_again_in(task, run_time, self._clock.now())

    def ask_again_in_line(self, caller: Caller, type_: str) -> timedelta:
        """Return the same for one that waits for nothing but its turn."""
        run_time = self._history.run_time(type_) if self._load.of(caller) is None else None
        return SOON if run_time is None else max(SOON, run_time)

    async def _situation(self, task: Task, now: datetime, owner: str | None) -> Situation:
        """Return what is known; owner: count only this owner's tasks."""
        if is_later(task, now):
            return Situation()
        states, workers = await self._states({task.queue}, owner), await self._find_workers()
        situation = Situation(
            state=states.get(task.queue),
            place=await self._queues.find_place(task.task_id, owner),
            has_worker=any(takes(worker, task, now) for worker in workers),
            is_own=owner is not None,
        )
        if owner is not None:
            return situation
        running = sum(one.queue == task.queue for worker in workers for one in worker.running)
        return structs.replace(situation, running=running, run_time=await self._run_time(task))

    async def _find_workers(self) -> list[WorkerState]:
        now = self._clock.monotonic()
        if self._workers_read_at is None or now - self._workers_read_at > _WORKERS_KNOWN_FOR:
            self._workers = await self._worker_store.find_all()
            self._workers_read_at = now
        return self._workers

    async def _states(self, queues: Collection[str], owner: str | None) -> dict[str, QueueState]:
        """Return the settings and use of queues by name; for a single owner, as if they were unused."""
        states = {state.settings.name: state for state in await self._queues.find_all(queues)}
        if owner is None:
            return states
        return {name: structs.replace(state, running=0, tokens=math.inf) for name, state in states.items()}

    async def _run_time(self, task: Task) -> timedelta | None:
        """Return how long attempts of the type take, from this process's history or else from the store."""
        seen = self._history.run_time(task.type)
        if seen is not None:
            return seen
        now = self._clock.monotonic()
        at, run_time = self._run_times.get(task.type, (None, None))
        if at is None or now - at > _RUN_TIME_KNOWN_FOR:
            run_time = await self._queues.find_run_time(task.task_id)
            if len(self._run_times) > _MOST_TYPES:
                self._run_times.clear()
            self._run_times[task.type] = now, run_time
        return run_time
