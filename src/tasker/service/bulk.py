"""The use cases of one action on many tasks: count them, then act in small steps that are stored.

The process that makes an action works at it for a moment; the chore `bulk` goes on with what is left, also after the
end of that process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import structlog
from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.errors import Conflict, NotFound, Unavailable
from tasker.model import Status, Task, TaskFilter, new_task_id
from tasker.model.bulk import HOLD, BulkAction, BulkPage, Step, read_filter, write_filter
from tasker.model.control import ACTS_ON, Action, ChosenTask
from tasker.model.keys import Caller
from tasker.service.admission import OpenQueues, OwnerQueue
from tasker.service.cursors import Cursors

WITHIN = 10.0
"""Seconds for which the process that makes an action works at it."""
COUNT_WITHIN = 10.0
"""Seconds after which a count is given up, unless a limit needs it."""
MOST_COUNTED = 10_001
"""Where a count stops, unless a limit needs more: that many or more."""
KEEP_FOR = timedelta(days=30)
"""How long a bulk action can be read after its end."""
_IN_ONE_COMMIT = 100
"""Limit of tasks in one commit: other writers wait for at most one such commit."""
_NEWEST = 5
"""Tasks that a preview shows."""
_AT_ONCE = 20
"""Actions that the chore reads from the store together."""
_TURN = 1.0
"""Seconds for which the chore works at one action before it turns to the next."""
_ERASED_AT_ONCE = 500

_log = structlog.get_logger(__name__)


class Selection(NamedTuple):
    """Which tasks an action is for: all of a filter, or those with these ids."""

    where: TaskFilter = TaskFilter()
    task_ids: tuple[UUID, ...] | None = None


class Counting(NamedTuple):
    """How many tasks one look has found.

    next_cursor: where to go on counting; None at the end. up_to: see `start`.
    """

    matched: int
    next_cursor: str | None = None
    up_to: str | None = None


class Preview(NamedTuple):
    """What an action would change now: how many tasks, None if too many to count, and the newest few of them.

    up_to: see `start`.
    """

    matched: int | None
    newest: list[Task]
    up_to: str | None


class _Found(NamedTuple):
    """How many tasks there are, None if unknown, and the place before the newest of them."""

    number: int | None
    place: str | None


class _Next(NamedTuple):
    """The next step of an action, and the open queues that were entered for it."""

    step: Step
    entered: list[OwnerQueue]


class Bulk:
    """Acts on all tasks of a filter, or on given tasks, that the caller sees."""

    def __init__(self, engine: Engine, clock: Clock, cursors: Cursors, open_queues: OpenQueues) -> None:
        self._engine = engine
        self._control = engine.control
        self._store = engine.bulk
        self._clock = clock
        self._cursors = cursors
        self._open_queues = open_queues

    async def count(self, caller: Caller, action: Action, chosen: Selection, cursor: str | None = None) -> Counting:
        """Count the tasks that the action would change now, as far as one look gets, from where an earlier count ended.

        Raises Invalid for a cursor that no count returned.
        """
        seal, up_to = await self._cursors.of("count"), await self._cursors.of("bulk")
        begun = None if cursor is None else seal.open(cursor)
        if chosen.task_ids is not None:
            return Counting(await self._count_given(caller, action, chosen.task_ids))
        found = _seen(caller, action, chosen.where)
        if found is None:
            return Counting(0)
        counted = await self._control.count(found, cursor=begun)
        next_cursor = None if counted.next_cursor is None else seal.close(counted.next_cursor)
        return Counting(counted.count, next_cursor, None if counted.cursor is None else up_to.close(counted.cursor))

    async def preview(self, caller: Caller, action: Action, chosen: Selection) -> Preview:
        """Count the tasks that the action would change now, up to MOST_COUNTED, and find the newest of them."""
        if chosen.task_ids is not None:
            count = await self._count_given(caller, action, chosen.task_ids)
            found = [await self._engine.find(task_id) for task_id in chosen.task_ids[:_NEWEST]]
            return Preview(count, [one for one in found if one is not None and caller.sees(one.owner)], None)
        where = _seen(caller, action, chosen.where)
        if where is None:
            return Preview(0, [], None)
        found_now = await self._count(where, None, at_most=None)
        if found_now.place is None:
            return Preview(0, [], None)
        newest = await self._engine.find_many(where, limit=_NEWEST, cursor=found_now.place)
        up_to = (await self._cursors.of("bulk")).close(found_now.place)
        return Preview(found_now.number, newest.items, up_to)

    async def start(
        self,
        caller: Caller,
        action: Action,
        chosen: Selection,
        at_most: int | None = None,
        *,
        up_to: str | None = None,
        cursor: str | None = None,
        within: float | None = None,
    ) -> BulkAction:
        """Store an action and work at it for `within` seconds, by default WITHIN; return how far it is then.

        It goes on by itself. Tasks that are submitted later are not touched. up_to: of a preview or a count: neither
        are tasks submitted after that. cursor: of an answer of an earlier version, whose action goes on there.
        Raises Conflict, and changes nothing, if there are more than `at_most`; Invalid for a foreign up_to or cursor.
        """
        until = self._clock.monotonic() + (WITHIN if within is None else within)
        if chosen.task_ids is not None:
            bulk = await self._of_given(caller, action, chosen.task_ids, at_most)
        else:
            bulk = await self._of_filter(caller, action, chosen.where, at_most, up_to, cursor)
        return await self._store_and_work(bulk, until)

    async def get(self, caller: Caller, bulk_id: UUID) -> BulkAction:
        """Return a bulk action. Raises NotFound, also for another owner's."""
        bulk = await self._store.find(bulk_id)
        if bulk is None or not _shows(caller, bulk):
            raise NotFound(f"there is no bulk action {bulk_id}")
        return bulk

    async def find_many(self, caller: Caller, *, limit: int, cursor: str | None = None) -> BulkPage:
        """Return bulk actions, newest first. Raises Invalid for a cursor that no page returned."""
        return await self._cursors.page(
            "bulks", cursor, lambda at: self._store.find_many(owner=caller.only, limit=limit, cursor=at)
        )

    async def stop(self, caller: Caller, bulk_id: UUID) -> BulkAction:
        """Stop an action; what is done stays done. Idempotent. Raises NotFound."""
        await self.get(caller, bulk_id)
        stopped = await self._store.stop(bulk_id)
        if stopped is None:
            raise NotFound(f"there is no bulk action {bulk_id}")
        return stopped

    async def undo(self, caller: Caller, bulk_id: UUID, *, within: float | None = None) -> BulkAction:
        """Stop a retry, and cancel those of its tasks that have not started since; return that new action.

        Raises NotFound, Conflict (it is no retry).
        """
        until = self._clock.monotonic() + (WITHIN if within is None else within)
        if (await self.get(caller, bulk_id)).action != "retry":
            raise Conflict("only a retry can be undone")
        undone = await self.stop(caller, bulk_id)
        where = TaskFilter(status=(Status.PENDING,), bulk=bulk_id, owner=undone.tasks_of)
        bulk = await self._of_filter(caller, "cancel", where, None, None, None)
        return await self._store_and_work(structs.replace(bulk, undo_of=bulk_id), until)

    # done by chores

    async def run_once(self) -> int:
        """Go on for a moment with each action that nobody works at; return how many have got on.

        One that fails is held, so that it is not the first again. Raises Unavailable if the store cannot be written.
        """
        got_on = 0
        for bulk in await self._store.find_free(limit=_AT_ONCE):
            try:
                after = await self._work(bulk, self._clock.monotonic() + _TURN)
                got_on += after.version != bulk.version
            except Unavailable as error:  # a slow filter must not stop the other actions
                await self._store.hold(bulk, HOLD)
                _log.warning("bulk.interrupted", bulk_id=str(bulk.bulk_id), reason=error.detail)
            except Exception:  # nor may a bug or hand-edited data
                await self._store.hold(bulk, HOLD)
                _log.exception("bulk.failed", bulk_id=str(bulk.bulk_id))
        return got_on

    async def prune(self) -> int:
        """Erase some of the actions that ended KEEP_FOR ago; return how many rows."""
        return await self._store.prune(keep=KEEP_FOR, limit=_ERASED_AT_ONCE)

    # making an action

    async def _of_filter(
        self,
        caller: Caller,
        action: Action,
        where: TaskFilter,
        at_most: int | None,
        up_to: str | None,
        cursor: str | None,
    ) -> BulkAction:
        """Return the action on the tasks of a filter, not stored yet. Raises Conflict, Invalid."""
        begun = up_to or cursor
        place = None if begun is None else (await self._cursors.of("bulk", _pointer(up_to))).open(begun)
        found = _seen(caller, action, where)
        if found is None:
            return self._new(caller, action, where, None, matched=0)
        if cursor is not None:
            return self._new(caller, action, found, place, matched=None)
        counted = await self._count(found, place, at_most)
        return self._new(caller, action, found, counted.place, matched=counted.number, at_most=at_most)

    async def _of_given(
        self, caller: Caller, action: Action, task_ids: Sequence[UUID], at_most: int | None
    ) -> BulkAction:
        """Return the action on given tasks, not stored yet. Raises Conflict."""
        unique = tuple(dict.fromkeys(task_ids))
        count = await self._count_given(caller, action, unique)
        if at_most is not None and count > at_most:
            raise _too_many(count, at_most)
        made = self._new(caller, action, TaskFilter(owner=caller.only), None, matched=count, at_most=at_most)
        return structs.replace(made, given=len(unique), rest=unique)

    def _new(
        self,
        caller: Caller,
        action: Action,
        where: TaskFilter,
        place: str | None,
        *,
        matched: int | None,
        at_most: int | None = None,
    ) -> BulkAction:
        now = self._clock.now()
        return BulkAction(
            bulk_id=new_task_id(now),
            owner=caller.owner,
            key_id=caller.key_id,
            tasks_of=where.owner if caller.only is None else caller.only,
            action=action,
            selects=write_filter(where),
            place=place,
            at_most=at_most,
            matched=matched,
            started_at=now,
        )

    async def _count_given(self, caller: Caller, action: Action, task_ids: Sequence[UUID]) -> int:
        """Count those of given tasks that the action can act on and the caller sees."""
        found = await self._store.find_tasks(task_ids)
        return sum(one.status in ACTS_ON[action] and caller.sees(one.owner) for one in found)

    async def _count(self, where: TaskFilter, begun: str | None, at_most: int | None) -> _Found:
        """Count the tasks behind a cursor, look by look, up to a limit. Raises Conflict (more than `at_most`).

        The count is None if there are MOST_COUNTED or it takes too long; only `at_most` waits for the whole count.
        """
        until = self._clock.monotonic() + COUNT_WITHIN
        counted = await self._control.count(where, cursor=begun)
        count, newest = counted.count, counted.cursor
        while counted.next_cursor is not None and count < (MOST_COUNTED if at_most is None else at_most + 1):
            if at_most is None and self._clock.monotonic() >= until:
                return _Found(None, newest or counted.next_cursor)
            counted = await self._control.count(where, cursor=counted.next_cursor)
            count, newest = count + counted.count, newest or counted.cursor
        if at_most is not None and count > at_most:
            raise _too_many(count, at_most, "" if counted.next_cursor is None else "at least ")
        return _Found(count if counted.next_cursor is None else None, newest)

    # working at an action

    async def _store_and_work(self, bulk: BulkAction, until: float) -> BulkAction:
        if bulk.is_over:
            bulk = structs.replace(bulk, state="done", ended_at=bulk.started_at)
        await self._store.create(bulk)
        try:
            return await self._work(bulk, until)
        except Unavailable as error:  # it is stored, and goes on when the store can be written again
            _log.warning("bulk.interrupted", bulk_id=str(bulk.bulk_id), reason=error.detail)
            return bulk

    async def _work(self, bulk: BulkAction, until: float) -> BulkAction:
        """Do steps of an action until it is over or time is up, one step at least; return it as it is then."""
        where = read_filter(bulk.selects)
        if where is None:
            await self._store.hold(bulk, HOLD)
            _log.warning("bulk.of_a_later_version", bulk_id=str(bulk.bulk_id))
            return bulk
        while bulk.state == "running":
            upcoming = await self._next_step(bulk, where, until)
            try:
                after = await self._store.step(bulk, upcoming.step)
            finally:
                self._open_queues.leave(upcoming.entered)
            if after is None:  # it was stopped, or another process has gone on with it
                return await self._store.find(bulk.bulk_id) or bulk
            bulk = after
            if bulk.state == "running" and self._clock.monotonic() >= until:
                await self._store.hold(bulk, timedelta())
                break
        return bulk

    async def _next_step(self, bulk: BulkAction, where: TaskFilter, until: float) -> _Next:
        limit = _IN_ONE_COMMIT if bulk.at_most is None else min(_IN_ONE_COMMIT, bulk.at_most - bulk.done)
        refused: Counter[str] = Counter()
        tasks: Sequence[ChosenTask]
        if bulk.rest:
            batch, rest, place = bulk.rest[:limit], bulk.rest[limit:], bulk.place
            found = {one.task_id: one for one in await self._store.find_tasks(batch) if bulk.acts_for(one.owner)}
            refused["gone"] += len(batch) - len(found)
            tasks = [found[task_id].chosen for task_id in batch if task_id in found]
        else:
            rest, place, tasks = (), bulk.place, ()
            while place is not None and not tasks and (place == bulk.place or self._clock.monotonic() < until):
                chosen = await self._control.choose(where, limit=limit, cursor=place)
                tasks, place = chosen.tasks, chosen.next_cursor
        entered = await self._enter(tasks, refused) if bulk.action == "retry" else None
        task_ids = tuple(one.task_id for one in (tasks if entered is None else entered))
        step = Step(task_ids=task_ids, place=place, rest=rest, refused=dict(+refused))
        return _Next(step, [(one.owner, one.queue) for one in entered or ()])

    async def _enter(self, tasks: Sequence[ChosenTask], refused: Counter[str]) -> list[ChosenTask]:
        """Return the tasks whose owners may have open tasks in their queues; count the others as refused."""
        entered: list[ChosenTask] = []
        try:
            for one in tasks:
                try:
                    await self._open_queues.enter(one.owner, one.queue)
                    entered.append(one)
                except Conflict:
                    refused["queue_limit"] += 1
        except BaseException:
            self._open_queues.leave((one.owner, one.queue) for one in entered)
            raise
        return entered


def _seen(caller: Caller, action: Action, where: TaskFilter) -> TaskFilter | None:
    """Return the filter for tasks that the action can act on and the caller sees; None if there can be none."""
    statuses = tuple(status for status in ACTS_ON[action] if not where.status or status in where.status)
    return caller.narrow(structs.replace(where, status=statuses)) if statuses else None


def _shows(caller: Caller, bulk: BulkAction) -> bool:
    """Tell whether a caller sees a bulk action: the owner's own, on its own tasks; an admin sees all."""
    return caller.only is None or (bulk.owner == caller.only and bulk.tasks_of == caller.only)


def _too_many(count: int, at_most: int, least: str = "") -> Conflict:
    return Conflict(f"there are {least}{count:,} such tasks, more than {at_most:,}: nothing was changed")


def _pointer(up_to: str | None) -> str:
    return "/cursor" if up_to is None else "/up_to"
