"""The use cases of schedules: create, get, find, change, delete, and fire what is due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Set
from datetime import datetime, timedelta
from functools import partial
from itertools import islice, pairwise
from random import SystemRandom
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from msgspec import structs

from tasker.clock import MICROSECOND, Clock, Steps
from tasker.engines.protocol import Engine
from tasker.errors import Fault, Forbidden, Invalid, NotFound, RequestError, Unavailable
from tasker.model import new_task_id
from tasker.model.keys import Caller, Scope, as_scopes
from tasker.model.schedules import KEEP_FIRINGS, Fired, Firing, PastTick, Schedule, SchedulePage, Skip
from tasker.requests.schedules import FIELDS, MIN_INTERVAL, merge
from tasker.requests.submissions import Submission
from tasker.rules.ticks import for_tick, plan, resumed_at, set_right, ticks
from tasker.service.admission import OpenQueues
from tasker.service.cursors import Cursors
from tasker.service.drafts import check_submission, draft_of
from tasker.service.pauses import Pauses, Turns
from tasker.service.reading import Reading
from tasker.tasktypes.registry import Registry, TaskType

DEFAULT_LIMIT = 1000
"""Schedules of one owner at most."""
_MINUTE = timedelta(minutes=1)
"""The shortest time between ticks of a cron rule."""
_TICKS_LOOKED_AT = 100
"""Number of a cron rule's next ticks whose distances are checked."""
AT_ONCE = 100
"""Due schedules read from the store together."""
_TRIES = 10
"""Attempts at a change while the schedule keeps firing or changing at the same moment."""
_AFTER_A_FAULT = timedelta(seconds=1)
_CONCURRENCY = 3
"""Schedules that one of many processes fires at the same time: each takes a connection."""
_TIMING = frozenset({"cron", "interval", "time_zone", "starts_at", "ends_at", "paused"})
"""Fields whose change changes the next tick."""
_ACTING = frozenset({"task", "overlap"})
"""Fields that define what a tick does; it acts with the rights of the caller who last set one of them."""

_PATIENCE = 0.1
"""Seconds that other schedules wait for a schedule whose params are checked by code of the type's author."""
_MOST_SLOW = 1_000
"""Limit of finished slow readings that are kept."""
_SLOW_OF_ONE = 10
"""Limit of one owner's slow readings under way: its checks run one after the other."""
_Read = tuple[TaskType, Submission] | RequestError | None

_log = structlog.get_logger(__name__)


class Change(NamedTuple):
    """A schedule after a change, and the fields that the request gave."""

    schedule: Schedule
    given: Set[str]


class _Slow(NamedTuple):
    """A reading of a schedule's submission that takes longer than _PATIENCE."""

    owner: str
    version: int
    reading: asyncio.Task[_Read]


class Schedules:
    """The use cases of schedules, and how the chore of each process fires them.

    changed: set when a schedule may be due earlier than `run_once` returned.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        clock: Clock,
        cursors: Cursors,
        reading: Reading,
        *,
        open_queues: OpenQueues,
        limit: int = DEFAULT_LIMIT,
        min_interval: timedelta = MIN_INTERVAL,
    ) -> None:
        self._registry = registry
        self._cursors = cursors
        self._limit = limit
        self._min_interval = min_interval
        self._open_queues = open_queues
        self._reading = reading
        self._slow: dict[UUID, _Slow] = {}
        self._store = engine.schedules
        self._clock = clock
        self.changed = asyncio.Event()
        self._concurrency = _CONCURRENCY if engine.is_shared else AT_ONCE
        self._random = SystemRandom()
        self._steps: Steps | None = None
        self._turns = Turns()

    async def create(self, caller: Caller, body: bytes) -> Schedule:
        """Read, check and store a new schedule. It acts with the caller's rights.

        Raises Malformed, Invalid (every fault of the body; ticks too close together), Forbidden (the caller lacks the
        rights for its ticks), Conflict (its name is taken, or its owner has too many schedules), Unavailable.
        """
        fields, submission = await self._reading.schedule(caller.owner, body, is_new=True)
        now = self._clock.now()
        schedule = Schedule(
            schedule_id=new_task_id(now),
            owner=caller.owner,
            created_at=now,
            updated_at=now,
            anchor=fields["starts_at"] or now,
            scopes=as_scopes(caller),
            **fields,
        )
        await self._check_rights(caller, schedule, submission)
        schedule = structs.replace(schedule, next_fire_at=resumed_at(schedule, now))
        await self._check_pace(schedule, now)
        await self._store.create(schedule, most=self._limit)
        self.changed.set()
        return schedule

    async def get(self, caller: Caller, schedule_id: UUID) -> Schedule:
        """Return the schedule. Raises NotFound, also for another owner's."""
        schedule = await self._store.find(schedule_id)
        if schedule is None or not caller.sees(schedule.owner):
            raise NotFound(f"there is no schedule {schedule_id}")
        return schedule

    async def find_many(
        self, caller: Caller, *, name: str | None = None, limit: int, cursor: str | None = None
    ) -> SchedulePage:
        """Return schedules, newest first. Raises Invalid for a cursor that no page has returned."""
        found = partial(self._store.find_many, owner=caller.only, name=name, limit=limit)
        return await self._cursors.page("schedule", cursor, lambda at: found(cursor=at))

    async def change(self, caller: Caller, schedule_id: UUID, body: bytes) -> Change:
        """Read, check and make a change; a new rule has its next tick from now on.

        If `task` or `overlap` is changed, the schedule acts with the caller's rights from then on. Raises Malformed,
        Invalid (every fault of the body; inconsistent fields; ticks too close together), NotFound, Forbidden (the
        caller lacks the rights for its ticks before or after the change), Conflict (its name is taken), Unavailable.
        """
        fields, submission = await self._reading.schedule(caller.owner, body, is_new=False)
        for _ in range(_TRIES):
            before, now = await self.get(caller, schedule_id), self._clock.now()
            _check_rank(caller, before)
            after = _changed(before, fields, as_scopes(caller), now)
            if fields.keys() & _ACTING:
                await self._check_rights(caller, after, submission)
            if (after.cron, after.interval, after.time_zone) != (before.cron, before.interval, before.time_zone):
                await self._check_pace(after, now)
            if after == before or await self._store.update(after):
                self.changed.set()
                return Change(after, fields.keys())
        raise Unavailable("the schedule changes all the time", retry_after=timedelta(seconds=1))

    async def _check_pace(self, schedule: Schedule, now: datetime) -> None:
        """Raise Invalid for a rule whose ticks are too close together; of a cron rule the next ticks are checked."""
        least = self._min_interval
        if schedule.interval is not None:
            closest, name = schedule.interval, "interval"
        else:
            name = "cron"
            found = await _first_ticks(schedule, now, _TICKS_LOOKED_AT) if least > _MINUTE else []
            closest = min((later - tick for tick, later in pairwise(found)), default=least)
        if closest < least:
            seconds = f"{least.total_seconds():g}"
            fault = Fault(f"/{name}", f"expected ticks at least {seconds} seconds apart (TASKER_MIN_INTERVAL)")
            raise Invalid(f"its ticks are {closest.total_seconds():g} seconds apart", faults=[fault])

    async def delete(self, caller: Caller, schedule_id: UUID) -> None:
        """Erase a schedule; its tasks stay. Raises NotFound."""
        await self.get(caller, schedule_id)
        await self._store.delete(schedule_id)

    async def template(
        self, caller: Caller, schedule_id: UUID
    ) -> tuple[Caller, Awaitable[tuple[TaskType, Submission]]]:
        """Return the caller with the schedule's owner, and the reading of the schedule's submission.

        Raises NotFound; the reading raises Invalid (the task type has changed since).
        """
        schedule = await self.get(caller, schedule_id)
        if caller.owner != schedule.owner:
            caller = Caller(schedule.owner, scopes=caller.scopes)
        return caller, self._reading.submission(schedule.owner, bytes(schedule.task))

    async def next_ticks(self, caller: Caller, schedule_id: UUID, count: int) -> list[datetime]:
        """Return the next ticks of a schedule, as if it were not paused. Raises NotFound."""
        schedule = await self.get(caller, schedule_id)
        first = schedule.next_fire_at or resumed_at(structs.replace(schedule, paused=False), self._clock.now())
        return [] if first is None else await _first_ticks(schedule, first - MICROSECOND, count)

    async def _check_rights(self, caller: Caller, schedule: Schedule, submission: Submission | None) -> None:
        """Raise Forbidden if the caller lacks the rights for what a tick of the schedule does.

        submission: that of the schedule, if the request has it; else it is read from the schedule.
        """
        _check_overlap(caller, schedule)
        if submission is None:
            try:
                _, submission = await self._reading.submission(schedule.owner, bytes(schedule.task))
            except Invalid:  # the task type has changed: no tick can submit it as it is
                return
        check_submission(caller, submission)

    # fired by the chore `fire`

    @property
    def is_reading(self) -> bool:
        """Whether params of a due schedule are still checked; `changed` is set when that has ended."""
        return any(not slow.reading.done() for slow in self._slow.values())

    async def run_once(self) -> datetime | None:
        """Fire what is due; return when to look again, None if no schedule waits."""
        await self._follow_clock()
        passed = 0  # number of schedules that could not be fired now; they stay first, so the next query skips them
        while True:
            due = await self._store.find_due(types=self._registry.known_names(), limit=AT_ONCE, skip=passed)
            if not due.schedules:
                again = [due.now + _AFTER_A_FAULT] if passed else []
                return min([*again, *([] if due.next_at is None else [due.next_at])], default=None)
            self._random.shuffle(due.schedules)  # shuffled, so that each of many processes begins with other schedules
            slots = asyncio.Semaphore(self._concurrency)
            done = await asyncio.gather(*(self._fire(schedule, due.now, slots) for schedule in due.schedules))
            passed += done.count(False)

    async def _follow_clock(self) -> None:
        """Correct next ticks that a wrong wall clock has caused, at the start and whenever the clock was set."""
        step = self._steps.pending() if self._steps is not None else 0
        if self._steps is not None and not step:
            return
        steps, now, cursor = self._steps or Steps(self._clock), self._clock.now(), None
        while True:
            page = await self._store.find_many(limit=AT_ONCE, cursor=cursor)
            for schedule in page.items:
                after = set_right(schedule, now)
                if after is not schedule and await self._store.update(after):
                    _log.warning("schedule.set_right", schedule=schedule.name, was_to_fire_at=schedule.next_fire_at)
            cursor = page.next_cursor
            if cursor is None:
                break
        steps.follow(step)
        self._steps = steps

    async def _fire(self, schedule: Schedule, now: datetime, slots: asyncio.Semaphore) -> bool:
        """Fire a schedule, unless another process has fired or changed it; return False if it could not be fired."""
        try:
            await self._turns.next()
            read = await self._read(schedule)
            if read is None:
                return False
            async with slots:
                fired = await self._let_in(self._firing(schedule, now, read))
        except Unavailable:
            raise
        except Exception:  # a bug or hand-edited data must not stop the other schedules
            _log.exception("schedule.failed", schedule=schedule.name)
            return False
        if fired is not None:
            self._log_outcome(schedule, fired)
        return True

    async def _read(self, schedule: Schedule) -> _Read:
        """Return the submission of a schedule, or the refusal: the task type may have changed since.

        Return None if the check is slow: the schedule is fired once it is done, and others do not wait for it.
        """
        task_type = self._registry.find(schedule.type)
        if task_type is None or not task_type.has_own_code:
            return await self._read_template(schedule)
        slow = self._slow.get(schedule.schedule_id)
        if slow is not None:
            if not slow.reading.done():
                return None
            del self._slow[schedule.schedule_id]
            if slow.version == schedule.version:
                return slow.reading.result()
        if sum(one.owner == schedule.owner and not one.reading.done() for one in self._slow.values()) >= _SLOW_OF_ONE:
            return None
        reading = asyncio.create_task(self._read_template(schedule))
        await asyncio.wait([reading], timeout=_PATIENCE)
        if reading.done():
            return reading.result()
        reading.add_done_callback(lambda _: self.changed.set())
        self._slow[schedule.schedule_id] = _Slow(schedule.owner, schedule.version, reading)
        self._forget_slow()
        return None

    def _forget_slow(self) -> None:
        """Drop the oldest finished readings: their schedules may have been deleted."""
        done = [schedule_id for schedule_id, slow in self._slow.items() if slow.reading.done()]
        for schedule_id in done[:-_MOST_SLOW]:
            del self._slow[schedule_id]

    async def _read_template(self, schedule: Schedule) -> _Read:
        try:
            return await self._reading.submission(schedule.owner, bytes(schedule.task))
        except Unavailable:  # the owner's checks take long: the schedule is tried again
            return None
        except RequestError as error:
            return error

    def _log_outcome(self, before: Schedule, fired: Fired) -> None:
        skip = fired.schedule.last_skip
        if skip is not None and skip != before.last_skip:
            _log.warning("schedule.skipped", schedule=before.name, tick=skip.tick.isoformat(), reason=skip.reason)
        if fired.submitted:
            _log.info("schedule.fired", schedule=before.name, tasks=len(fired.submitted))

    async def _let_in(self, firing: Firing) -> Fired | None:
        """Fire within the owner's limit of open queues."""
        return await self._open_queues.let_in(
            firing.drafts, lambda drafts: self._store.fire(structs.replace(firing, drafts=tuple(drafts)))
        )

    def _firing(self, schedule: Schedule, now: datetime, read: tuple[TaskType, Submission] | RequestError) -> Firing:
        planned = plan(schedule, now)
        drafts, skip = [], planned.skip
        past = [PastTick(tick=tick, fired_at=now, skipped="missed") for tick in planned.missed]
        for tick in planned.ticks:
            try:
                if isinstance(read, RequestError):
                    raise read
                _check_overlap(schedule.caller, schedule)
                draft = draft_of(schedule.caller, *read, self._clock.now())
                drafts.append(for_tick(draft, schedule, tick))
            except RequestError as error:  # the task type has changed, or the schedule's creator lacks a right
                skip = Skip(tick=tick, reason="refused", detail=error.detail)
                past.append(PastTick(tick=tick, fired_at=now, skipped="refused", detail=error.detail))
        return Firing(
            schedule=schedule,
            now=now,
            drafts=tuple(drafts),
            next_fire_at=planned.next_fire_at,
            skip=skip,
            past=tuple(past[-KEEP_FIRINGS:]),
        )


async def _first_ticks(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    """Return the first ticks after a moment."""
    found, pauses = [], Pauses()
    for tick in islice(ticks(schedule, after), count):
        found.append(tick)
        if pauses.due():  # each tick of a rule that matches few days takes a millisecond
            await pauses.pause()
    return found


def _check_overlap(caller: Caller, schedule: Schedule) -> None:
    if schedule.overlap == "replace" and not caller.may("control"):
        raise Forbidden("control", "`overlap` `replace` cancels tasks")


def _check_rank(caller: Caller, schedule: Schedule) -> None:
    """Raise Forbidden if the schedule has the scope `control` and the caller lacks it."""
    if schedule.caller.may("control") and not caller.may("control"):
        raise Forbidden("control", "the schedule was made with the scope control")


def _changed(before: Schedule, given: dict[str, Any], scopes: tuple[Scope, ...], now: datetime) -> Schedule:
    """Return the schedule after a change; the same object if nothing changes. scopes: the caller's. Raises Invalid."""
    current = {name: getattr(before, name) for name in FIELDS}
    fields = merge(current, given)
    changed = {name for name in FIELDS if fields[name] != current[name]}
    scopes = scopes if given.keys() & _ACTING else before.scopes
    if not changed and scopes == before.scopes:
        return before
    after = structs.replace(before, **fields, scopes=scopes, version=before.version + 1, updated_at=now)
    if not changed & _TIMING:
        return after
    if changed & {"interval", "starts_at"}:
        after = structs.replace(after, anchor=after.starts_at or now)
    return structs.replace(after, next_fire_at=resumed_at(after, now))
