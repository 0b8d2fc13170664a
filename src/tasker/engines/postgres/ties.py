"""Ties between tasks: equal requests, unique keys, dependencies; and deadlines.

Locks are taken in this order: keys, dependencies, dependants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from tasker.engines.postgres.failures import Failure, note_failures
from tasker.engines.postgres.groups import TaskGroups
from tasker.engines.postgres.jobs import Jobs
from tasker.engines.postgres.parking import Parking
from tasker.engines.postgres.rows import head_of
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.journal import ended
from tasker.engines.shared.refusals import joined, key_in_use, no_dependency, not_unique
from tasker.engines.shared.ties import Ties
from tasker.engines.shared.values import decode_problem, encode
from tasker.model import AfterGroup, Change, Draft, Receipt, Status, TaskProblem
from tasker.rules.lifecycle import deadline_passed, dependency_failed, group_failed

_TIES = 0x74696573
"""The class of the advisory locks of keys: "ties"."""


class End(NamedTuple):
    """The end of a task that concerns others: those that depend on it, its parent, its children."""

    task_id: UUID
    status: Status
    error: TaskProblem | None
    seq: int


def is_tied(draft: Draft) -> bool:
    """Return whether a draft depends on existing tasks: one may answer for it, or keep it waiting; or it is refused."""
    tied = draft.cache_key is not None or draft.unique_key is not None or bool(draft.depends_on)
    tied = tied or draft.after_group is not None
    return tied or draft.refusal is not None


class TiedTasks:
    """The ties and deadlines of tasks, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], jobs: Jobs, parking: Parking, groups: TaskGroups) -> None:
        self._queries = queries
        self._jobs = jobs
        self._parking = parking
        self._groups = groups

    async def lock(self, tx: Transaction, drafts: Sequence[Draft]) -> None:
        """Lock the cache keys and unique keys of these drafts until the transaction ends."""
        names = [f"cache {draft.cache_key.hex()}" for draft in drafts if draft.cache_key is not None]
        names += [_unique_name(draft.owner, draft.unique_key) for draft in drafts if draft.unique_key is not None]
        if names:
            await tx.execute(self._queries["lock_ties"], _TIES, names)

    async def lock_key_of(self, tx: Transaction, task_id: UUID) -> None:
        """Lock the unique key of a task that is to be run again, if it has one."""
        row = await tx.fetchrow(self._queries["unique_key_of"], task_id)
        if row is not None:
            await tx.execute(self._queries["lock_ties"], _TIES, [_unique_name(*row.values())])

    async def find(self, tx: Transaction, draft: Draft) -> Ties:
        """Find the tasks that a draft is tied to. A task with the draft's id was stored by an earlier try."""
        cached = await self._cached(tx, draft)
        if cached is not None:
            return Ties(Receipt(cached, "stored") if cached == draft.task_id else joined(draft, cached))
        other = await self._unique(tx, draft.owner, draft.type, draft.unique_key)
        if other == draft.task_id:
            return Ties(Receipt(other, "stored"))
        if other is not None and draft.on_conflict == "return":
            return Ties(joined(draft, other))
        if other is not None and draft.on_conflict == "reject":
            return Ties(Receipt(other, "refused", refusal=not_unique(str(draft.unique_key), other)))
        if draft.after_group is not None:
            return await self._groups.find_tie(tx, draft, draft.after_group, other)
        return await self._dependencies(tx, draft, other) if draft.depends_on else Ties(replaces=other)

    async def _cached(self, tx: Transaction, draft: Draft) -> UUID | None:
        if draft.cache_key is None:
            return None
        row = await tx.fetchrow(self._queries["cached_task"], draft.cache_key, draft.cache_for)
        return row["task_id"] if row is not None and row["fits"] else None

    async def _unique(self, tx: Transaction, owner: str, type_: str, unique_key: str | None) -> UUID | None:
        if unique_key is None:
            return None
        found: UUID | None = await tx.fetchval(self._queries["unique_task"], owner, type_, unique_key)
        return found

    async def _dependencies(self, tx: Transaction, draft: Draft, replaces: UUID | None) -> Ties:
        rows = await self._lock_dependencies(tx, draft.depends_on)
        missing = [
            place
            for place, other in enumerate(draft.depends_on)
            if other not in rows or rows[other]["owner"] != draft.owner
        ]
        if missing:
            return Ties(Receipt(draft.task_id, "refused", refusal=no_dependency(draft.depends_on, missing)))
        failed = next((row for row in rows.values() if row["status"] in ("failed", "cancelled")), None)
        if failed is not None:
            error = dependency_failed(failed["task_id"], Status(failed["status"]), _problem(failed["error"]))
            return Ties(replaces=replaces, error=error)
        open_ = tuple(other for other in draft.depends_on if not Status(rows[other]["status"]).is_terminal)
        return Ties(replaces=replaces, waits_for=open_)

    async def _lock_dependencies(self, tx: Transaction, depends_on: Sequence[UUID]) -> dict[UUID, Any]:
        rows = await tx.fetch(self._queries["lock_dependencies"], depends_on)
        return {row["task_id"]: row for row in rows}

    async def check_retry(
        self,
        tx: Transaction,
        owner: str,
        type_: str,
        unique_key: str | None,
        depends_on: Sequence[UUID],
        *,
        may_miss: bool,
    ) -> tuple[list[UUID], UUID | None]:
        """Return the open dependencies of a task to be run again, and one that will never complete, if any.

        may_miss: whether erased dependencies count as completed.
        Raises Conflict if an open task has its unique key.
        """
        other = await self._unique(tx, owner, type_, unique_key)
        if other is not None:
            raise key_in_use(other)
        found = await self._lock_dependencies(tx, depends_on) if depends_on else {}
        missing = [] if may_miss else [task_id for task_id in depends_on if task_id not in found]
        ended = [row["task_id"] for row in found.values() if row["status"] in ("failed", "cancelled")]
        open_ = [row["task_id"] for row in found.values() if not Status(row["status"]).is_terminal]
        return open_, next(iter([*ended, *missing]), None)

    async def resume(
        self, tx: Transaction, task_id: UUID, depends_on: Sequence[UUID], after: AfterGroup | None
    ) -> None:
        """Settle an imported waiting task, whose dependencies may have ended before the import."""
        found = await self._lock_dependencies(tx, depends_on)
        row = await tx.fetchrow(self._queries["waiting_task"], task_id)
        if row is None:
            return
        seq = row["seq"]
        if after is not None:
            await self._groups.resume(tx, seq, row["owner"], after)
            return
        await tx.execute(self._queries["forget_dependencies"], [seq])
        ended = next((row for row in found.values() if row["status"] in ("failed", "cancelled")), None)
        open_ = [row["task_id"] for row in found.values() if not Status(row["status"]).is_terminal]
        if ended is not None:
            error = dependency_failed(ended["task_id"], Status(ended["status"]), _problem(ended["error"]))
            await self.settle_dependants(tx, await self.fail_pending(tx, {seq: error}))
        elif open_:
            await self.wait_for(tx, seq, open_)
        else:
            await tx.fetch(self._queries["release"], [seq])
            await self._jobs.promote(tx)

    async def wait_for(self, tx: Transaction, seq: int, others: Sequence[UUID]) -> None:
        """Make a pending task wait until these open tasks have completed; the transaction has locked their rows.

        others: none if a group is waited for.
        """
        if others:
            rows = await self._lock_dependencies(tx, others)
            await tx.execute(self._queries["have_dependants"], [row["seq"] for row in rows.values()])
            await tx.execute(self._queries["insert_dependencies"], seq, list(others))
        await tx.execute(self._queries["wait_for"], seq)

    async def settle_dependants(self, tx: Transaction, ends: Sequence[End]) -> None:
        """Count the ends of tasks in their groups. Queue dependants of completed tasks; fail those of other tasks, and
        in turn their dependants.

        One transaction settles SETTLED_AT_ONCE. Tasks whose dependants are left go to `tx.unsettled`. What the ends
        change about families follows before the commit.
        """
        while ends:
            tx.family.ended.update((end.seq, end.status) for end in ends)
            await self._groups.move(tx, {end.task_id: end.status for end in ends})
            ends = await self._settle(tx, ends)

    async def _settle(self, tx: Transaction, ends: Sequence[End]) -> list[End]:
        """Settle the dependants of tasks that have ended; return the ends of those that concern others in turn."""
        by_id = {end.task_id: end for end in ends}
        most = tx.left_to_settle
        rows = await tx.fetch(self._queries["lock_dependants"], list(by_id), most + 1)
        if len(rows) > most:
            tx.unsettled |= by_id.keys()
            rows = rows[:most]
        tx.left_to_settle -= len(rows)
        found = [(row["seq"], by_id[row["depends_on"]]) for row in rows]
        met = [(seq, end.task_id) for seq, end in found if end.status is Status.COMPLETED]
        unmet = {seq: end for seq, end in found if end.status is not Status.COMPLETED}
        await self._release(tx, met)
        return await self.fail_pending(
            tx, {seq: dependency_failed(end.task_id, end.status, end.error) for seq, end in unmet.items()}
        )

    async def settle_rest(self, tx: Transaction, task_ids: Sequence[UUID]) -> None:
        """Settle what waits for the ends of these tasks and groups, except of a task that was run again meanwhile."""
        rows = await tx.fetch(self._queries["lock_ended"], task_ids)
        ends = [End(row["task_id"], Status(row["status"]), _problem(row["error"]), row["seq"]) for row in rows]
        tx.family.unsettled.update(end.seq for end in ends)
        await self._groups.move(tx, {end.task_id: end.status for end in ends})  # an older process may have ended it
        await self.settle_dependants(tx, await self._settle(tx, ends))
        await self._settle_groups(tx, task_ids)

    async def find_unsettled(self, tx: Transaction, limit: int) -> list[UUID]:
        """Return ended tasks and groups with waiting dependants, which the process that ended them did not settle."""
        tasks = [row["depends_on"] for row in await tx.fetch(self._queries["unsettled"], limit)]
        return tasks + await self._groups.find_unsettled(tx, limit)

    async def _settle_groups(self, tx: Transaction, group_ids: Sequence[UUID]) -> None:
        """Queue the tasks that waited for the ends of groups, or fail them; other ids are no groups."""
        rows = await self._groups.lock_dependants(tx, group_ids, max(0, tx.left_to_settle))
        tx.left_to_settle -= len(rows)
        waiting = [row for row in rows if row["is_waiting"]]
        met = [row["task_seq"] for row in waiting if not row["fails"]]
        unmet = [row for row in waiting if row["fails"]]
        await self._queue_released(tx, met)
        errors = {row["task_seq"]: group_failed(row["name"], row["failed"], row["cancelled"]) for row in unmet}
        await self.settle_dependants(tx, await self.fail_pending(tx, errors))
        if rows:
            await self._groups.forget_empty(tx, group_ids)

    async def _release(self, tx: Transaction, met: Sequence[tuple[int, UUID]]) -> None:
        if not met:
            return
        await tx.execute(self._queries["delete_dependencies"], *(list(column) for column in zip(*met, strict=True)))
        await self._queue_released(tx, [seq for seq, _ in met])

    async def _queue_released(self, tx: Transaction, seqs: Sequence[int]) -> None:
        """Queue those of these tasks that wait for no other task any more."""
        released = await tx.fetch(self._queries["release"], seqs) if seqs else ()
        if released:
            await self._jobs.promote(tx)
        tx.changes += [Change(row["task_id"], Status.PENDING) for row in released]

    async def fail_pending(self, tx: Transaction, errors: dict[int, TaskProblem]) -> list[End]:
        """Fail pending tasks, given by seq, without an attempt; return the ends for which dependants wait."""
        if not errors:
            return []
        await tx.execute(self._queries["forget_dependencies"], list(errors))
        texts = [encode(error) for error in errors.values()]
        rows = await tx.fetch(self._queries["fail_pending"], list(errors), texts)
        await self._jobs.remove_pending(tx, [row["task_id"] for row in rows])
        failed = {row["task_id"]: Failure(row["owner"], row["type"], decode_problem(row["error"])) for row in rows}
        await note_failures(tx, self._queries, failed)
        for row in rows:
            head = head_of(row)
            tx.journal.append(ended(row["task_id"], Status.FAILED, head.attempt, head.last + 1))
            tx.changes.append(Change(row["task_id"], Status.FAILED))
        return [
            End(row["task_id"], Status.FAILED, _problem(row["error"]), row["seq"])
            for row in rows
            if row["has_dependants"]
        ]

    async def fail_overdue(self, tx: Transaction, limit: int, task_ids: Sequence[UUID] | None = None) -> int:
        """Fail pending tasks whose deadline has passed (of these, if given), at most `limit`; return how many."""
        rows = await tx.fetch(self._queries["overdue"], limit, task_ids)
        errors = {row["seq"]: deadline_passed(row["deadline"], _problem(row["error"])) for row in rows}
        await self.settle_dependants(tx, await self.fail_pending(tx, errors))
        await self._parking.left(tx, rows)
        return len(rows)


def _unique_name(owner: str, unique_key: str) -> str:
    """Return the name of a key's lock; types share it, as processes of earlier versions expect."""
    return f"unique {owner} {unique_key}"


def _problem(text: bytes | None) -> TaskProblem | None:
    return None if text is None else decode_problem(text)
