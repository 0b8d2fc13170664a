"""The use case of one action on many tasks: count them, then act in small steps."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Control
from tasker.errors import Conflict
from tasker.model import TaskFilter
from tasker.model.control import ACTS_ON, Action, ChosenTask
from tasker.model.keys import Caller
from tasker.service.admission import OpenQueues
from tasker.service.cursors import Cursors

WITHIN = 10.0
"""Seconds after which a call returns, with a cursor to continue from."""
_CHOSEN_AT_ONCE = 2000
_IN_ONE_COMMIT = 100
"""Limit of tasks in one commit: other writers wait for at most one such commit."""


class Counting(NamedTuple):
    """How many tasks one look has found. `next_cursor`: where to go on counting; None at the end."""

    matched: int
    next_cursor: str | None = None


class Acted(NamedTuple):
    """The result. `skipped`: tasks whose status had changed meanwhile. `next_cursor`: None when all are done."""

    done: int = 0
    skipped: int = 0
    next_cursor: str | None = None


@dataclass
class Bulk:
    """Acts on all tasks of a filter that the caller sees."""

    _control: Control
    _clock: Clock
    _cursors: Cursors
    _open_queues: OpenQueues

    async def count(self, caller: Caller, action: Action, where: TaskFilter, cursor: str | None = None) -> Counting:
        """Count the tasks that the action would change now, as far as one look gets, from where an earlier count ended.

        Raises Invalid for a cursor that no count returned.
        """
        found, seal = _seen(caller, action, where), await self._cursors.of("count")
        begun = None if cursor is None else seal.open(cursor)
        if found is None:
            return Counting(0)
        counted = await self._control.count(found, cursor=begun)
        return Counting(counted.count, None if counted.next_cursor is None else seal.close(counted.next_cursor))

    async def begin(
        self, caller: Caller, action: Action, where: TaskFilter, at_most: int | None
    ) -> tuple[int | None, Acted]:
        """Count the tasks, then act on them; return the count and what was done. Later tasks are not touched.

        The count is None if it takes too long, which only `at_most` waits for. Raises Conflict, and changes nothing, if
        there are more than `at_most`.
        """
        found = _seen(caller, action, where)
        if found is None:
            return 0, Acted()
        count, cursor = await self._count_all(found, at_most)
        return count, Acted() if cursor is None else await self._act(action, found, cursor, most=at_most)

    async def go_on(self, caller: Caller, action: Action, where: TaskFilter, cursor: str) -> Acted:
        """Act on the remaining tasks after an earlier call. Raises Invalid for a cursor that no call returned."""
        found = _seen(caller, action, where)
        begun = (await self._cursors.of("bulk")).open(cursor)
        return Acted() if found is None else await self._act(action, found, begun, most=None)

    async def _count_all(self, where: TaskFilter, at_most: int | None) -> tuple[int | None, str | None]:
        """Count the tasks, look by look; return the count, as `begin` does, and the place before the newest of them."""
        until = self._clock.monotonic() + WITHIN
        counted = await self._control.count(where)
        count, newest = counted.count, counted.cursor
        while counted.next_cursor is not None and (at_most is None or count <= at_most):
            if at_most is None and self._clock.monotonic() >= until:
                return None, newest or counted.next_cursor
            counted = await self._control.count(where, cursor=counted.next_cursor)
            count, newest = count + counted.count, newest or counted.cursor
        if at_most is not None and count > at_most:
            least = "" if counted.next_cursor is None else "at least "
            raise Conflict(f"there are {least}{count:,} such tasks, more than {at_most:,}: nothing was changed")
        return count, newest

    async def _act(self, action: Action, where: TaskFilter, cursor: str | None, *, most: int | None) -> Acted:
        """Act on the tasks after a cursor, newest first, until time is up or `most` are done; None for all."""
        until = self._clock.monotonic() + WITHIN
        done = skipped = 0
        while True:
            limit = _CHOSEN_AT_ONCE if most is None else min(most - done, _CHOSEN_AT_ONCE)
            chosen = await self._control.choose(where, limit=limit, cursor=cursor)
            for start in range(0, len(chosen.tasks), _IN_ONE_COMMIT):
                few = chosen.tasks[start : start + _IN_ONE_COMMIT]
                acted_on = await self._act_on(action, few)
                done += acted_on
                skipped += len(few) - acted_on
            cursor = None if done == most else chosen.next_cursor
            if cursor is None or self._clock.monotonic() >= until:
                return Acted(done, skipped, None if cursor is None else (await self._cursors.of("bulk")).close(cursor))

    async def _act_on(self, action: Action, few: Sequence[ChosenTask]) -> int:
        """Act on some tasks in one commit; return how many. Retries obey the owner's limit of open queues."""
        if action != "retry":
            return await self._control.act(action, [one.task_id for one in few])
        entered: list[ChosenTask] = []
        try:
            for one in few:
                with contextlib.suppress(Conflict):
                    await self._open_queues.enter(one.owner, one.queue)
                    entered.append(one)
            return await self._control.act(action, [one.task_id for one in entered])
        finally:
            self._open_queues.leave((one.owner, one.queue) for one in entered)


def _seen(caller: Caller, action: Action, where: TaskFilter) -> TaskFilter | None:
    """Return the filter for tasks that the action can act on and the caller sees; None if there can be none."""
    statuses = tuple(status for status in ACTS_ON[action] if not where.status or status in where.status)
    if not statuses or (caller.only is not None and where.owner not in (None, caller.only)):
        return None
    owner = where.owner if caller.only is None else caller.only
    return structs.replace(where, status=statuses, owner=owner)
