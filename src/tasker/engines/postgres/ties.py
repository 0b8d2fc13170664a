"""What ties a submission to other tasks: equal requests, unique keys, dependencies; and deadlines.

Locks are taken in this order: keys, the tasks that are depended on, their dependants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from tasker.engines.postgres.limits import Limits
from tasker.engines.postgres.line import Line
from tasker.engines.postgres.promotion import promote
from tasker.engines.postgres.rows import head_of
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.journal import ended
from tasker.engines.shared.refusals import joined, key_in_use, no_dependency, not_unique
from tasker.engines.shared.values import decode_problem, encode
from tasker.model import Change, Draft, Receipt, Status, TaskProblem
from tasker.rules.lifecycle import deadline_passed, dependency_failed

_TIES = 0x74696573
"""The class of the advisory locks of keys: "ties"."""


class Ties(NamedTuple):
    """What a draft found: a receipt if it is not stored; the task that it replaces; what it waits for, or fails by."""

    receipt: Receipt | None = None
    replaces: UUID | None = None
    waits_for: tuple[UUID, ...] = ()
    error: TaskProblem | None = None


class End(NamedTuple):
    """A task that has ended, and others depend on it."""

    task_id: UUID
    status: Status
    error: TaskProblem | None


def is_tied(draft: Draft) -> bool:
    """Tell whether other tasks may answer for a draft, or keep it waiting, or nothing but they may."""
    tied = draft.cache_key is not None or draft.unique_key is not None or bool(draft.depends_on)
    return tied or draft.refusal is not None


class Options:
    """The ties and deadlines of tasks, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], line: Line, limits: Limits) -> None:
        self._queries = queries
        self._line = line
        self._limits = limits

    async def lock(self, tx: Transaction, drafts: Sequence[Draft]) -> None:
        """Let no other submission with a key of these go on until the transaction has ended."""
        names = [f"cache {draft.cache_key.hex()}" for draft in drafts if draft.cache_key is not None]
        names += [_unique_name(draft.owner, draft.unique_key) for draft in drafts if draft.unique_key is not None]
        if names:
            await tx.execute(self._queries["lock_ties"], _TIES, names)

    async def lock_key_of(self, tx: Transaction, task_id: UUID) -> None:
        """The same for the unique key of a task that is to be run again, if it has one."""
        row = await tx.fetchrow(self._queries["unique_key_of"], task_id)
        if row is not None:
            await tx.execute(self._queries["lock_ties"], _TIES, [_unique_name(*row.values())])

    async def find(self, tx: Transaction, draft: Draft) -> Ties:
        """Look at the tasks that a draft is tied to. What it finds to be itself was stored by an earlier try."""
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
            place for place, other in enumerate(draft.depends_on)
            if other not in rows or rows[other]["owner"] != draft.owner
        ]  # fmt: skip
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
        """Return what a task that is run again must wait for, and one that has not completed and will not.

        may_miss: whether what is not there any more had completed, as far as this task is concerned.
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

    async def resume(self, tx: Transaction, task_id: UUID, depends_on: Sequence[UUID]) -> None:
        """Bring a task that waits for others, and was stored without their news, up to date with these."""
        found = await self._lock_dependencies(tx, depends_on)
        seq = await tx.fetchval(self._queries["waiting_task"], task_id)
        if seq is None:
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
            await promote(tx, self._queries, self._line)

    async def wait_for(self, tx: Transaction, seq: int, others: Sequence[UUID]) -> None:
        """Keep a pending task from its line until these open ones, whose rows are held, have completed."""
        rows = await self._lock_dependencies(tx, others)
        await tx.execute(self._queries["have_dependants"], [row["seq"] for row in rows.values()])
        await tx.execute(self._queries["insert_dependencies"], seq, list(others))
        await tx.execute(self._queries["wait_for"], seq)

    async def settle_dependants(self, tx: Transaction, ends: Sequence[End]) -> None:
        """Let the tasks that depend on those that have ended go into line, or fail; and so on, for those that end.

        One transaction settles SETTLED_AT_ONCE; whose dependants are left is in `tx.unsettled`, and they go on
        waiting.
        """
        while ends:
            by_id = {end.task_id: end for end in ends}
            room = tx.left_to_settle
            rows = await tx.fetch(self._queries["lock_dependants"], list(by_id), room + 1)
            if len(rows) > room:
                tx.unsettled |= by_id.keys()
                rows = rows[:room]
            tx.left_to_settle -= len(rows)
            found = [(row["seq"], by_id[row["depends_on"]]) for row in rows]
            met = [(seq, end.task_id) for seq, end in found if end.status is Status.COMPLETED]
            unmet = {seq: end for seq, end in found if end.status is not Status.COMPLETED}
            await self._release(tx, met)
            ends = await self.fail_pending(tx, {seq: dependency_failed(*end) for seq, end in unmet.items()})

    async def settle_rest(self, tx: Transaction, task_ids: Sequence[UUID]) -> None:
        """Go on with the dependants of tasks that have ended; of one that was run again they wait for that."""
        rows = await tx.fetch(self._queries["lock_ended"], task_ids)
        ends = [End(row["task_id"], Status(row["status"]), _problem(row["error"])) for row in rows]
        await self.settle_dependants(tx, ends)

    async def find_unsettled(self, tx: Transaction, limit: int) -> list[UUID]:
        """Return tasks that have ended, and others still wait for them: their process has ended before it was done."""
        return [row["depends_on"] for row in await tx.fetch(self._queries["unsettled"], limit)]

    async def _release(self, tx: Transaction, met: Sequence[tuple[int, UUID]]) -> None:
        if not met:
            return
        await tx.execute(self._queries["delete_dependencies"], *(list(column) for column in zip(*met, strict=True)))
        released = await tx.fetch(self._queries["release"], [seq for seq, _ in met])
        if released:
            await promote(tx, self._queries, self._line)
        tx.changes += [Change(row["task_id"], Status.PENDING) for row in released]

    async def fail_pending(self, tx: Transaction, errors: dict[int, TaskProblem]) -> list[End]:
        """End pending tasks, by their seq, that will have no attempt; return those that others depend on."""
        if not errors:
            return []
        await tx.execute(self._queries["forget_dependencies"], list(errors))
        texts = [encode(error) for error in errors.values()]
        rows = await tx.fetch(self._queries["fail_pending"], list(errors), texts)
        await self.leave_line(tx, [row["task_id"] for row in rows])
        for row in rows:
            head = head_of(row)
            tx.journal.append(ended(row["task_id"], Status.FAILED, head.attempt, head.last + 1))
            tx.changes.append(Change(row["task_id"], Status.FAILED))
        return [End(row["task_id"], Status.FAILED, _problem(row["error"])) for row in rows if row["has_dependants"]]

    async def leave_line(self, tx: Transaction, task_ids: Sequence[UUID]) -> None:
        """Take pending tasks that have ended out of the line."""
        jobs = await tx.fetch(self._queries["jobs_of"], list(map(str, task_ids))) if task_ids else ()
        await self._line.leave(tx, [(job["id"], "canceled") for job in jobs])

    async def fail_overdue(self, tx: Transaction, limit: int, task_ids: Sequence[UUID] | None = None) -> int:
        """End pending tasks whose deadline has passed (of these, if given), at most `limit`; return how many."""
        rows = await tx.fetch(self._queries["overdue"], limit, task_ids)
        errors = {row["seq"]: deadline_passed(row["deadline"], _problem(row["error"])) for row in rows}
        await self.settle_dependants(tx, await self.fail_pending(tx, errors))
        # Others may have been parked behind them.
        keyed = [row for row in rows if row["concurrency_key"] is not None]
        if keyed:
            await self._limits.left(tx, keyed)
        return len(rows)


def _unique_name(owner: str, unique_key: str) -> str:
    """Name the lock of a key; types share it, as processes of earlier versions expect."""
    return f"unique {owner} {unique_key}"


def _problem(text: bytes | None) -> TaskProblem | None:
    return None if text is None else decode_problem(text)
