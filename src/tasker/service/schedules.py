"""The use cases of schedules: create, get, find, change, delete, and fire what is due."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from random import SystemRandom
from typing import Any
from uuid import UUID

import structlog
from msgspec import structs

from tasker.clock import Clock, Steps
from tasker.engine import Engine
from tasker.errors import NotFound, RequestError, Unavailable
from tasker.model import Draft, new_task_id
from tasker.model.keys import Caller
from tasker.model.schedules import Fired, Firing, Schedule, SchedulePage, Skip
from tasker.registry import Registry, TaskType
from tasker.scheduling import FIELDS, merge
from tasker.service.drafts import draft_of
from tasker.submission import Submission, read_submission
from tasker.timing import first_ticks, for_tick, plan, resumed_at, set_right

AT_ONCE = 100
"""Schedules that are read together."""
_TRIES = 10
"""So often a change is made again because the schedule has fired, or was changed, in the same moment."""
_LOOK_AGAIN = 1.0
"""Seconds at the most between looks at the clock while a schedule waits: the wall clock may be set."""
_ASK_AGAIN = 5.0
"""Seconds at the most between looks into the store: another process may have changed a schedule, and ended."""
_AT_LEAST = 0.02
"""Seconds between looks into a store whose time is behind ours."""
_AFTER_A_FAULT = timedelta(seconds=1)
_LANES = 3
"""Schedules that one of many processes fires at the same time: each takes a connection."""
_TIMING = frozenset({"cron", "interval", "time_zone", "starts_at", "ends_at", "paused"})
"""Fields with which the next tick changes."""

_log = structlog.get_logger(__name__)


class Schedules:
    """What can be asked of schedules, by any face of it; and the chore that fires them, one in each process."""

    def __init__(self, engine: Engine, registry: Registry, clock: Clock) -> None:
        self._registry = registry
        self._book = engine.schedules
        self._clock = clock
        self._changed = asyncio.Event()
        self._lanes = _LANES if engine.is_shared else AT_ONCE
        self._random = SystemRandom()
        self._steps: Steps | None = None

    async def create(self, caller: Caller, fields: dict[str, Any]) -> Schedule:
        """Store a schedule of the fields that `scheduling.read_schedule` found valid. Raises Conflict (its name)."""
        now = self._clock.now()
        schedule = Schedule(
            schedule_id=new_task_id(now), owner=caller.owner, created_at=now, updated_at=now,
            anchor=fields["starts_at"] or now, **fields,
        )  # fmt: skip
        schedule = structs.replace(schedule, next_fire_at=resumed_at(schedule, now))
        await self._book.create(schedule)
        self._changed.set()
        return schedule

    async def get(self, caller: Caller, schedule_id: UUID) -> Schedule:
        """Return the schedule. Raises NotFound, also for another owner's."""
        schedule = await self._book.find(schedule_id)
        if schedule is None or not caller.sees(schedule.owner):
            raise NotFound(f"there is no schedule {schedule_id}")
        return schedule

    async def find_many(
        self, caller: Caller, *, name: str | None = None, limit: int, cursor: str | None = None
    ) -> SchedulePage:
        """Return schedules, newest first. Raises Invalid for a cursor that no page gave out."""
        return await self._book.find_many(owner=caller.only, name=name, limit=limit, cursor=cursor)

    async def change(self, caller: Caller, schedule_id: UUID, fields: dict[str, Any]) -> Schedule:
        """Set the fields that `scheduling.read_patch` found valid; a new rule has its next tick from now on.

        Raises NotFound, Invalid (the whole does not go together), Conflict (its name).
        """
        for _ in range(_TRIES):
            before = await self.get(caller, schedule_id)
            after = _changed(before, fields, self._clock.now())
            if after == before or await self._book.update(after):
                self._changed.set()
                return after
        raise Unavailable("the schedule changes all the time", retry_after=timedelta(seconds=1))

    async def delete(self, caller: Caller, schedule_id: UUID) -> None:
        """Erase a schedule; its tasks stay. Raises NotFound."""
        await self.get(caller, schedule_id)
        await self._book.delete(schedule_id)

    async def template(self, caller: Caller, schedule_id: UUID) -> tuple[Caller, TaskType, Submission]:
        """Return what a schedule submits, and for whom. Raises NotFound, Invalid (the task type has changed since)."""
        schedule = await self.get(caller, schedule_id)
        owner = caller if caller.owner == schedule.owner else Caller(schedule.owner)
        return owner, *read_submission(bytes(schedule.task), self._registry, self._clock.now())

    async def next_ticks(self, caller: Caller, schedule_id: UUID, count: int) -> list[datetime]:
        """Return the next ticks that a schedule has, or had if it were not paused. Raises NotFound."""
        schedule = await self.get(caller, schedule_id)
        first = schedule.next_fire_at or resumed_at(structs.replace(schedule, paused=False), self._clock.now())
        if first is None:
            return []
        return first_ticks(schedule, first - timedelta(microseconds=1), count)

    # the chore

    async def run(self) -> None:
        """Fire every tick within about a second of its time, until cancelled."""
        while True:
            self._changed.clear()
            try:
                next_at = await self.run_once()
            except Unavailable as error:
                _log.warning("chore.failed", chore="fire", reason=error.detail)
                await asyncio.sleep(_AFTER_A_FAULT.total_seconds())
            except Exception:  # a fault of ours, or of somebody's hand in the store: the next time may go well
                _log.exception("chore.failed", chore="fire")
                await asyncio.sleep(_AFTER_A_FAULT.total_seconds())
            else:
                await self._wait_for(next_at)

    async def _wait_for(self, next_at: datetime | None) -> None:
        """Return when a tick has come, a schedule was changed here, or it is time to ask the store again."""
        ask_again = self._clock.monotonic() + _ASK_AGAIN
        left = _ASK_AGAIN
        while left > 0:
            if next_at is not None:
                left = min(left, _LOOK_AGAIN, (next_at - self._clock.now()).total_seconds())
            try:
                async with asyncio.timeout(max(left, _AT_LEAST)):
                    await self._changed.wait()
                    return
            except TimeoutError:
                left = ask_again - self._clock.monotonic()
            if next_at is not None and next_at <= self._clock.now():
                return

    async def run_once(self) -> datetime | None:
        """Fire what is due; return when to look again, None if there is nothing to wait for."""
        await self._follow_clock()
        while True:
            due = await self._book.find_due(types=self._registry.known_names(), limit=AT_ONCE)
            if not due.schedules:
                return due.next_at
            self._random.shuffle(due.schedules)  # of many processes each has others to begin with
            lanes = asyncio.Semaphore(self._lanes)
            done = await asyncio.gather(*(self._fire(schedule, due.now, lanes) for schedule in due.schedules))
            if not any(done):  # those that cannot be fired do not keep the others from being fired
                return due.now + _AFTER_A_FAULT

    async def _follow_clock(self) -> None:
        """Put right what a wall clock that was wrong has done, at first and whenever it was set."""
        step = self._steps.pending() if self._steps is not None else 0
        if self._steps is not None and not step:
            return
        steps, now, cursor = self._steps or Steps(self._clock), self._clock.now(), None
        while True:
            page = await self._book.find_many(limit=AT_ONCE, cursor=cursor)
            for schedule in page.items:
                after = set_right(schedule, now)
                if after is not schedule and await self._book.update(after):
                    _log.warning("schedule.set_right", schedule=schedule.name, was_to_fire_at=schedule.next_fire_at)
            cursor = page.next_cursor
            if cursor is None:
                break
        steps.follow(step)
        self._steps = steps

    async def _fire(self, schedule: Schedule, now: datetime, lanes: asyncio.Semaphore) -> bool:
        """Fire a schedule, or leave it to whoever has fired or changed it; tell whether this went well."""
        async with lanes:
            try:
                fired = await self._book.fire(self._firing(schedule, now))
            except Unavailable:
                raise
            except Exception:  # a fault of ours, or of somebody's hand in the store
                _log.exception("schedule.failed", schedule=schedule.name)
                return False
        if fired is not None:
            self._tell(schedule, fired)
        return True

    def _tell(self, before: Schedule, fired: Fired) -> None:
        skip = fired.schedule.last_skip
        if skip is not None and skip != before.last_skip:
            _log.warning("schedule.skipped", schedule=before.name, tick=skip.tick.isoformat(), reason=skip.reason)
        if fired.submitted:
            _log.info("schedule.fired", schedule=before.name, tasks=len(fired.submitted))

    def _firing(self, schedule: Schedule, now: datetime) -> Firing:
        planned = plan(schedule, now)
        drafts, skip = [], planned.skip
        for tick in planned.ticks:
            try:
                drafts.append(self._draft(schedule, tick, now))
            except RequestError as error:  # the task type has changed since
                skip = Skip(tick=tick, reason="refused", detail=error.detail)
        return Firing(schedule=schedule, drafts=tuple(drafts), next_fire_at=planned.next_fire_at, skip=skip)

    def _draft(self, schedule: Schedule, tick: datetime, now: datetime) -> Draft:
        task_type, submission = read_submission(bytes(schedule.task), self._registry, now)
        return for_tick(draft_of(Caller(schedule.owner), task_type, submission, self._clock.now()), schedule, tick)


def _changed(before: Schedule, given: dict[str, Any], now: datetime) -> Schedule:
    """Return the next version of a schedule; the same one if nothing changes. Raises Invalid."""
    current = {name: getattr(before, name) for name in FIELDS}
    fields = merge(current, given)
    changed = {name for name in FIELDS if fields[name] != current[name]}
    if not changed:
        return before
    after = structs.replace(before, **fields, version=before.version + 1, updated_at=now)
    if not changed & _TIMING:
        return after
    if changed & {"interval", "starts_at"}:
        after = structs.replace(after, anchor=after.starts_at or now)
    return structs.replace(after, next_fire_at=resumed_at(after, now))
