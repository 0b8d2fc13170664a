"""What ends, answers and waits change about families: children are counted, parents wake, held children start.

A transaction gathers it (`Transaction.family`), and `Families.finish` does it once, right before the commit. Locks are
taken in this order, so that no two transactions deadlock:

1. rows of tasks that the transaction is about, as its own work needs them;
2. rows of children of ended parents, and of ended parents of children: only those that nobody else has locked;
3. rows of steps, all of them in order of (task_seq, number);
4. rows of parents to wake and of held children to start: only those that nobody else has locked.

So nobody who has locked a step waits for a task. What others have locked is left to a transaction of its own, which
takes one parent's row first (`Settler`); if the process ends before, the sweeps find it. A row of `child` belongs to
whoever has locked the child's task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tasker.engines.postgres.jobs import Jobs
from tasker.engines.postgres.notifications import channel_of
from tasker.engines.postgres.parking import Parking
from tasker.engines.postgres.rows import head_of
from tasker.engines.postgres.ties import End, TiedTasks
from tasker.engines.postgres.transaction import FamilyWork, Transaction
from tasker.engines.shared.journal import ended
from tasker.model import Change, Status

_COUNTED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
_IN_FLIGHT = len(_COUNTED)
_StepId = tuple[int, int]
"""The seq of a task, and the number of its step."""


class _Counts:
    """By how much the counts of steps change."""

    def __init__(self) -> None:
        self._by_step: dict[_StepId, list[int]] = defaultdict(lambda: [0] * (len(_COUNTED) + 1))
        self.leaving: set[_StepId] = set()
        """Steps of which children have ended, or are held from now on: others may start."""

    def note_end(self, step: _StepId, status: Status, *, was_held: bool) -> None:
        self._by_step[step][_COUNTED.index(status)] += 1
        self._by_step[step][_IN_FLIGHT] -= not was_held
        self.leaving.add(step)

    def note_again(self, step: _StepId, was: Status, *, is_held: bool) -> None:
        self._by_step[step][_COUNTED.index(was)] -= 1
        self._by_step[step][_IN_FLIGHT] += not is_held
        if is_held:
            self.leaving.add(step)

    @property
    def steps(self) -> Collection[_StepId]:
        return self._by_step.keys()

    @property
    def rows(self) -> list[tuple[int, ...]]:
        return [(*step, *counts) for step, counts in self._by_step.items()]


class Families:
    """The families, on the tables of one schema."""

    def __init__(self, queries: dict[str, str], schema: str, jobs: Jobs, parking: Parking, ties: TiedTasks) -> None:
        self._queries = queries
        self._schema = schema
        self._jobs = jobs
        self._parking = parking
        self._ties = ties

    async def finish(self, tx: Transaction) -> None:
        """Do what a transaction has gathered about families; it may gather more afterwards."""
        work = tx.family_work
        if work is None:
            return
        await self._forget_children(tx, work.forgotten)
        if work.reopened:
            await self._keep_children(tx, list(work.reopened))
        counts = await self._settle_ends(tx, work)
        await self._lock_steps(tx, work, counts)
        room = await self._count(tx, work, counts)
        if work.forgotten:
            await tx.execute(self._queries["forget_steps"], *_columns(work.forgotten))
        if work.retried:
            await tx.execute(self._queries["may_run_again"], list(work.retried))
        await self._await_steps(tx, work)
        await self._attend(tx, work, room)
        is_woken = await self._wake(tx, work.present)
        is_released = await self._release(tx, room)
        if is_woken or is_released:
            await self._jobs.promote(tx)
        tx.family_work = None

    async def attend(self, tx: Transaction, parent: int) -> None:
        """Do for a parent what an earlier transaction could not do, for others had locked rows."""
        status = await tx.fetchval(self._queries["lock_parent"], parent)
        if status in ("pending", "running"):
            tx.family.attended.add(parent)
        elif status is not None:
            tx.family.unsettled.add(parent)

    # ends

    async def _settle_ends(self, tx: Transaction, work: FamilyWork) -> _Counts:
        """Settle ends of parents for their children, and in turn for theirs; return how ends change the counts."""
        counts, seen, parents = _Counts(), set[int](), work.unsettled | work.deleted
        if work.deleted:
            await tx.execute(self._queries["unsettle_children"], list(work.deleted))
        while True:
            fresh = [seq for seq in (*work.ended, *work.reopened) if seq not in seen]
            if not fresh and not parents:
                return counts
            if fresh:
                seen.update(fresh)
                rows = await tx.fetch(self._queries["family_of_ended"], fresh)
                await self._note(tx, work, rows, counts)
                parents |= {row["seq"] for row in rows if row["has_children"] and row["seq"] in work.ended}
            parents = await self._settle_children(tx, parents) if parents else set()

    async def _note(self, tx: Transaction, work: FamilyWork, rows: Sequence[Any], counts: _Counts) -> None:
        """Note what tasks that have ended or run again mean for their parents."""
        for row in rows:
            seq, step = row["seq"], (row["parent"], row["number"])
            if row["parent"] is not None and seq in work.reopened:
                counts.note_again(step, work.reopened[seq], is_held=seq in work.held)
            elif row["parent"] is not None:
                counts.note_end(step, work.ended[seq], was_held=row["is_held"])
        ended_ = [row for row in rows if row["seq"] not in work.reopened]
        late = [row for row in ended_ if row["has_ended_parent"]]
        for query, some in (
            ("ask_no_more", [row for row in ended_ if row["asks"]]),
            ("not_held", [row for row in ended_ if row["is_held"]]),
            ("cut_loose", [row for row in late if row["has_expired_parent"]]),
        ):
            if some:
                await tx.execute(self._queries[query], [row["seq"] for row in some])
        await self._expire(tx, {row["seq"]: row["parent"] for row in late if not row["has_expired_parent"]})

    async def _expire(self, tx: Transaction, children: Mapping[int, int]) -> None:
        """Let ended children expire with their ended parents, which are given; later, if others have locked these."""
        if not children:
            return
        done = {row["seq"] for row in await tx.fetch(self._queries["expire_children"], list(children))}
        left = children.keys() - done
        if left:
            await tx.execute(self._queries["unsettle"], list(left))
            tx.unattended.update(children[seq] for seq in left)

    async def _settle_children(self, tx: Transaction, parents: set[int]) -> set[int]:
        """Settle ends of parents for some of their children; return those of these that are parents in turn.

        The children that are left are settled by another transaction.
        """
        ended_ = {row["seq"]: row for row in await tx.fetch(self._queries["parents_that_ended"], list(parents))}
        if not ended_:
            return set()
        rows = await tx.fetch(self._queries["unsettled_children"], list(ended_), tx.left_to_settle)
        tx.left_to_settle -= len(rows)
        next_parents: set[int] = set()
        if rows:
            next_parents = await self._settle(tx, rows, ended_)
        left = await tx.fetch(self._queries["left_unsettled"], list(ended_))
        tx.unsettled.update(row["task_id"] for row in left)
        return next_parents

    async def _settle(self, tx: Transaction, rows: Sequence[Any], parents: Mapping[int, Any]) -> set[int]:
        """Settle the ends of their parents for these children; return those of these that are parents in turn."""
        to_cancel = [row for row in rows if parents[row["parent"]]["cancels"] and not row["is_detached"]]
        await self._cancel(tx, to_cancel)
        of_deleted = [row for row in rows if parents[row["parent"]]["is_deleted"]]
        alone = [row["seq"] for row in of_deleted if row["is_detached"] and not Status(row["status"]).is_terminal]
        if alone:
            await tx.execute(self._queries["cut_loose"], alone)
        settled = await tx.fetch(self._queries["settle_children"], [row["seq"] for row in rows])
        next_parents = {row["seq"] for row in settled if row["has_children"]}
        if next_parents:
            await tx.execute(self._queries["unsettle_children"], list(next_parents))
        return next_parents

    async def _cancel(self, tx: Transaction, rows: Sequence[Any]) -> None:
        """Cancel those of these children that are pending, and ask the workers of the running ones to."""
        running = [row for row in rows if row["status"] == "running"]
        if running:
            await tx.execute(self._queries["stop_children"], [row["seq"] for row in running])
            tx.changes += [Change(row["task_id"], Status.RUNNING, cancel_requested=True) for row in running]
        pending = [row for row in rows if row["status"] == "pending"]
        if not pending:
            return
        seqs = [row["seq"] for row in pending]
        cancelled = await tx.fetch(self._queries["cancel_children"], seqs)
        await tx.execute(self._queries["forget_dependencies"], seqs)
        await self._jobs.remove_pending(tx, [row["task_id"] for row in pending])
        await self._parking.left(tx, pending)
        for row in cancelled:
            head = head_of(row)
            tx.journal.append(ended(row["task_id"], Status.CANCELLED, head.attempt, head.last + 1))
            tx.changes.append(Change(row["task_id"], Status.CANCELLED))
        await self._ties.settle_dependants(
            tx, [End(row["task_id"], Status.CANCELLED, None, row["seq"]) for row in cancelled]
        )

    async def _forget_children(self, tx: Transaction, steps: Sequence[_StepId]) -> None:
        """Cancel the open children of steps to forget, and cut all of them loose: they become tasks of their own."""
        rows = await tx.fetch(self._queries["children_to_forget"], *_columns(steps)) if steps else ()
        if rows:
            await self._cancel(tx, rows)
            await tx.execute(self._queries["cut_loose"], [row["seq"] for row in rows])

    async def _keep_children(self, tx: Transaction, parents: list[int]) -> None:
        """Keep the children of parents that run again: their ends are to be settled once more."""
        await tx.execute(self._queries["keep_children"], parents)
        await tx.execute(self._queries["unsettle_children"], parents)

    # steps

    async def _lock_steps(self, tx: Transaction, work: FamilyWork, counts: _Counts) -> None:
        """Lock the rows of all steps that are to change. A single one is locked by its change."""
        is_single = len(counts.steps) < 2 and not (work.parked or work.retried or work.forgotten or work.attended)
        if is_single:
            return
        parents = [*work.retried, *work.attended]
        await tx.execute(
            self._queries["lock_steps"],
            *_columns([*counts.steps, *work.forgotten], 2),
            *_columns(_wanted(work), 2),
            [*work.parked, *work.attended],
            parents,
        )

    async def _count(self, tx: Transaction, work: FamilyWork, counts: _Counts) -> dict[_StepId, int]:
        """Change the counts of steps; return how many held children of each may start, where there is a limit."""
        rows = await tx.fetch(self._queries["count_children"], *_columns(counts.rows)) if counts.steps else ()
        room: dict[_StepId, int] = {}
        for row in rows:
            step = row["task_seq"], row["number"]
            if step not in counts.leaving:
                continue
            if row["is_there"]:
                work.note_present(row["task_seq"], is_awaited=row["is_awaited"])
            if row["free"] is not None and row["free"] > 0:
                room[step] = row["free"]
        return room

    async def _await_steps(self, tx: Transaction, work: FamilyWork) -> None:
        """Mark what parked tasks wait for; a task goes on at once if anything of it is there, or is not stored."""
        if not work.parked:
            return
        wanted = _wanted(work)
        rows = await tx.fetch(self._queries["await_steps"], *_columns(wanted, 2), list(work.parked))
        not_there = {(row["task_seq"], row["key"]) for row in rows if row["is_awaited"] and not row["is_there"]}
        for seq, key in wanted:
            if (seq, key) not in not_there:
                work.note_present(seq, is_awaited=True)

    async def _attend(self, tx: Transaction, work: FamilyWork, room: dict[_StepId, int]) -> None:
        """See what there is to do for parents that an earlier transaction has left."""
        if work.recounted:
            await tx.execute(self._queries["recount"], list(work.recounted))
            await tx.execute(self._queries["await_no_more"], list(work.recounted))  # or sweeps would go on to find it
        for row in await tx.fetch(self._queries["attend"], list(work.attended)) if work.attended else ():
            if row["is_there"]:
                work.note_present(row["task_seq"], is_awaited=True)
            if row["free"] is not None and row["free"] > 0:
                room[row["task_seq"], row["number"]] = row["free"]

    # wake-ups

    async def _wake(self, tx: Transaction, present: dict[int, bool]) -> bool:
        """Make parked tasks due, and notify the workers of running ones; return whether any is due."""
        if not present:
            return False
        is_woken = False
        for row in await tx.fetch(self._queries["wake"], list(present), list(present.values())):
            if row["is_woken"]:
                is_woken = True
                tx.changes.append(Change(row["task_id"], Status.PENDING))
            elif row["is_parked"]:
                tx.unattended.add(row["seq"])
            elif row["status"] == "running":
                change = Change(row["task_id"], Status.RUNNING, spoke=True)
                tx.woken.setdefault(channel_of(row["worker"], self._schema), []).append(change)
        return is_woken

    async def _release(self, tx: Transaction, room: dict[_StepId, int]) -> bool:
        """Start held children where there is room; return whether any is started."""
        if not room:
            return False
        rows = await tx.fetch(self._queries["release_children"], *_columns([(*step, room[step]) for step in room]))
        tx.changes += [Change(row["task_id"], Status.PENDING) for row in rows]
        if len(rows) < sum(room.values()):
            left = await tx.fetch(self._queries["still_held"], *_columns(list(room)))
            tx.unattended.update(row["task_seq"] for row in left)
        return bool(rows)


def _wanted(work: FamilyWork) -> list[tuple[int, str]]:
    """Return the steps that parked tasks wait for, by task and key."""
    return [(seq, key) for seq, wait in work.parked.items() for key in (*wait.inputs, *wait.children)]


def _columns(rows: Sequence[tuple[Any, ...]], width: int = 0) -> list[list[Any]]:
    """Return the columns of rows. width: their number, if there may be no rows."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
