"""The BulkStore."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic
from uuid import UUID

from msgspec import structs

from tasker.engines.shared.refusals import skip_reason
from tasker.engines.shared.rows import Database, R, Rows
from tasker.engines.shared.stores.pages import cut, start_of
from tasker.engines.shared.tables import BULKS
from tasker.errors import Conflict, NotFound
from tasker.model import Status
from tasker.model.bulk import HOLD, Acts, BulkAction, BulkPage, BulkTask, Step, settle
from tasker.model.control import Action


class Bulks(ABC, Generic[R]):
    """Bulk actions. Each engine adds how to act on tasks in the same transaction."""

    def __init__(self, database: Database[R]) -> None:
        self._database = database

    @abstractmethod
    async def _lock(self, rows: R, task_ids: Sequence[UUID]) -> tuple[Sequence[UUID], Sequence[UUID]]:
        """Lock tasks; return those that are locked now, and those that others have locked. Others do not exist.

        At least one task is locked, if any exists.
        """

    @abstractmethod
    async def _act(self, rows: R, action: Action, task_id: UUID) -> None:
        """Do what the engine's method for one task does. Raises Conflict, NotFound before any change."""

    async def create(self, bulk: BulkAction) -> None:
        async def work(rows: R) -> None:
            if await rows.insert(BULKS, bulk):
                await _hold(rows, bulk, HOLD)

        await self._database.write(work)

    async def find(self, bulk_id: UUID) -> BulkAction | None:
        return await self._database.read(lambda rows: rows.find(BULKS, bulk_id))

    async def find_many(self, *, owner: str | None = None, limit: int, cursor: str | None = None) -> BulkPage:
        query = "bulk_page" if owner is None else "bulk_page_of"
        values = {"before": start_of(cursor), "limit": limit + 1} | ({} if owner is None else {"owner": owner})
        items, next_cursor = cut(await self._database.read(lambda rows: rows.numbered(query, BULKS, **values)), limit)
        return BulkPage(items=items, next_cursor=next_cursor)

    async def find_free(self, *, limit: int) -> list[BulkAction]:
        return await self._database.look(lambda rows: rows.structs("free_bulks", BULKS, limit=limit))

    async def find_tasks(self, task_ids: Sequence[UUID]) -> list[BulkTask]:
        found = await self._database.look(
            lambda rows: rows.fetch("bulk_tasks_by_id", UUID, str, str, str, task_ids=list(task_ids))
        )
        return [BulkTask(task_id, owner, queue, Status(status)) for task_id, owner, queue, status in found]

    async def step(self, bulk: BulkAction, step: Step) -> BulkAction | None:
        return await self._write(bulk.action, lambda rows: self._step(rows, bulk, step))

    async def hold(self, bulk: BulkAction, for_: timedelta) -> None:
        await self._database.write(lambda rows: _hold(rows, bulk, for_))

    async def stop(self, bulk_id: UUID) -> BulkAction | None:
        async def work(rows: R) -> BulkAction | None:
            there = await rows.find(BULKS, bulk_id, lock=True)
            if there is None or there.state != "running":
                return there
            now = await _now(rows)
            stopped = structs.replace(there, state="stopped", version=there.version + 1, ended_at=now)
            await rows.update(BULKS, stopped)
            return stopped

        return await self._database.write(work)

    async def prune(self, *, keep: timedelta, limit: int) -> int:
        async def work(rows: R) -> int:
            before = await self._database.erase_until(rows) - keep
            bulk_id = await rows.value("oldest_bulk", UUID, before=before)
            if bulk_id is None:
                return 0
            erased = await rows.run("prune_bulk_tasks", bulk_id=bulk_id, limit=limit)
            return erased + (await rows.delete(BULKS, bulk_id) if erased < limit else 0)

        return await self._database.write(work)

    async def _write(
        self, action: Action, work: Callable[[R], Coroutine[Any, Any, BulkAction | None]]
    ) -> BulkAction | None:
        """Do a step of an action in a transaction."""
        return await self._database.write(work)

    async def _step(self, rows: R, bulk: BulkAction, step: Step) -> BulkAction | None:
        """Do a step with the action's row locked: another process that wants to do it finds the next version."""
        there = await rows.find(BULKS, bulk.bulk_id, lock=True)
        if there is None or there.version != bulk.version:
            stored = rows.is_retry and there is not None and there.version == bulk.version + 1
            return there if stored else None
        acts = await self._act_on(rows, there, step.task_ids)
        if acts.done and there.action != "delete":
            await rows.run("note_bulk_tasks", bulk_id=there.bulk_id, task_ids=list(acts.done))
        after = settle(there, step, acts, await _now(rows))
        await rows.update(BULKS, after)
        await _hold(rows, after, HOLD)
        return after

    async def _act_on(self, rows: R, bulk: BulkAction, task_ids: Sequence[UUID]) -> Acts:
        """Act on those of the tasks that nobody else has locked."""
        if not task_ids:
            return Acts()
        locked, held = await self._lock(rows, task_ids)
        skips = Counter(gone=len(task_ids) - len(locked) - len(held))
        allowed = locked
        if bulk.undo_of is not None:
            values = {"bulk_id": bulk.undo_of, "task_ids": list(locked)}
            unstarted = frozenset(await rows.values("unstarted_bulk_tasks", UUID, **values))
            allowed = [task_id for task_id in locked if task_id in unstarted]
            skips["started"] += len(locked) - len(allowed)
        done: list[UUID] = []
        for task_id in allowed:
            try:
                await self._act(rows, bulk.action, task_id)
                done.append(task_id)
            except (Conflict, NotFound) as error:  # it has another status by now, or is gone
                skips[skip_reason(error)] += 1
        return Acts(done=tuple(done), skips={name: count for name, count in skips.items() if count}, held=tuple(held))


async def _hold(rows: Rows, bulk: BulkAction, for_: timedelta) -> None:
    await rows.run("hold_bulk", bulk_id=bulk.bulk_id, version=bulk.version, hold=for_)


async def _now(rows: Rows) -> datetime:
    [(now,)] = await rows.fetch("bulk_now", datetime)
    return now  # type: ignore[no-any-return]
