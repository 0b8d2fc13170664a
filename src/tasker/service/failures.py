"""The use cases of failure groups: list them, and find the one of a task."""

from __future__ import annotations

from dataclasses import dataclass

from tasker.clock import Clock
from tasker.engines.protocol import FailureStore
from tasker.model import Status, Task
from tasker.model.failures import KEEP_FAILURES_FOR, WINDOWS, FailureFilter, FailureGroup, FailurePage, FailureWindow
from tasker.model.keys import Caller
from tasker.rules.failures import fingerprint
from tasker.service.cursors import Cursors

DEFAULT_WINDOW: FailureWindow = "24h"


@dataclass
class FailureService:
    """The failures of the tasks that a caller sees."""

    _store: FailureStore
    _clock: Clock
    _cursors: Cursors

    async def find_many(
        self,
        caller: Caller,
        *,
        window: FailureWindow = DEFAULT_WINDOW,
        types: tuple[str, ...] = (),
        queues: tuple[str, ...] = (),
        failure_id: str | None = None,
        owner: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> FailurePage:
        """Return groups with a failure in the window, those that failed last first.

        Raises Invalid for a cursor that no page returned.
        """
        since = self._clock.now() - WINDOWS[window]
        where = FailureFilter(since=since, types=types, queues=queues, failure_id=failure_id, owner=owner)
        seen = caller.narrow(where)
        if seen is None:
            return FailurePage(items=[], counted_from=since)
        return await self._cursors.page(
            "failure", cursor, lambda at: self._store.find_many(seen, limit=limit, cursor=at)
        )

    async def find_of(self, task: Task) -> FailureGroup | None:
        """Return the group of a failed task that the caller sees; None for another one, or if it is in no group."""
        if task.status is not Status.FAILED or task.error is None:
            return None
        where = FailureFilter(
            since=self._clock.now() - KEEP_FAILURES_FOR,
            failure_id=fingerprint(task.owner or "", task.type, task.error).failure_id,
            types=(task.type,),
            owner=task.owner or "",
        )
        page = await self._store.find_many(where, limit=1)
        return page.items[0] if page.items else None
