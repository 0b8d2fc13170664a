"""The members of groups, and the counts of groups, which are written as the last thing of each transaction.

Locks are taken in this order: tasks, members, groups. What waits for a group that has ended is settled in a transaction
of its own, which locks tasks again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from tasker.engines.postgres.tables import PostgresRows, Texts
from tasker.engines.postgres.transaction import Transaction
from tasker.engines.shared.groups import GroupKey, is_empty
from tasker.engines.shared.refusals import group_not_completed, no_group
from tasker.engines.shared.stores.groups import tell_ended
from tasker.engines.shared.tables import GROUPS
from tasker.engines.shared.ties import Ties
from tasker.model import AfterGroup, Change, Draft, Receipt, Status
from tasker.model.groups import State, StoredGroup, state_of
from tasker.rules.lifecycle import group_failed


class Member(NamedTuple):
    """A task of a group. seq: the task's."""

    seq: int
    owner: str
    name: str
    state: State = "open"


class TaskGroups:
    """Groups on the tables of one schema."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._queries = texts.queries

    async def join(self, tx: Transaction, members: Sequence[Member]) -> None:
        """Add tasks that were just stored to their groups."""
        if members:
            rows = await tx.fetch(self._queries["insert_members"], *(list(one) for one in zip(*members, strict=True)))
            for owner, name, state in rows:
                tx.groups.joined(GroupKey(owner, name), state)

    async def move(self, tx: Transaction, statuses: Mapping[UUID, Status]) -> None:
        """Note the new statuses of tasks, of those that are in a group. Idempotent."""
        states = [state_of(status) for status in statuses.values()]
        for owner, name, before, after in await tx.fetch(self._queries["move_members"], list(statuses), states):
            tx.groups.moved(GroupKey(owner, name), before, after)

    async def erase(self, tx: Transaction, seqs: Sequence[int]) -> None:
        """Take tasks that are to be erased out of their groups."""
        for owner, name, state in await tx.fetch(self._queries["erase_members"], seqs):
            tx.groups.erased(GroupKey(owner, name), state)

    async def find_tie(self, tx: Transaction, draft: Draft, after: AfterGroup, replaces: UUID | None) -> Ties:
        """Find how a draft is tied to the group that it depends on."""
        group = await self._lock(tx, GroupKey(draft.owner, after.group))
        if group is None:
            return Ties(Receipt(draft.task_id, "refused", refusal=no_group()))
        if group.open:
            return Ties(replaces=replaces, waits_for_group=True)
        if after.when == "completed" and group.unsuccessful:
            return Ties(replaces=replaces, error=group_failed(after.group, group.failed, group.cancelled))
        return Ties(replaces=replaces)

    async def check_retry(self, tx: Transaction, owner: str, after: AfterGroup) -> bool:
        """Return whether a task to be run again must wait for its group; one that is gone counts as ended.

        Raises Conflict.
        """
        group = await self._lock(tx, GroupKey(owner, after.group))
        if group is None or group.open:
            return group is not None
        if after.when == "completed" and group.unsuccessful:
            raise group_not_completed(after.group)
        return False

    async def wait_for(self, tx: Transaction, seq: int, owner: str, after: AfterGroup) -> None:
        """Note that a task waits for the next end of an open group, whose row is locked."""
        group = await self._lock(tx, GroupKey(owner, after.group))
        values = seq, owner, after.group, 0 if group is None else group.ends, after.when == "completed"
        await tx.execute(self._queries["insert_group_dependency"], *values)

    async def resume(self, tx: Transaction, seq: int, owner: str, after: AfterGroup) -> None:
        """Let an imported task wait for its group, even if that has no open task: a sweep settles it then."""
        tx.groups.touched(GroupKey(owner, after.group))
        await self.wait_for(tx, seq, owner, after)

    async def write_counts(self, tx: Transaction) -> None:
        """Write what the transaction has gathered, and tell everybody of the ends of groups."""
        deltas = dict(tx.groups.take())
        given = [(uuid4(), *key, *delta.values().values()) for key, delta in deltas.items()]
        rows = await tx.fetch(self._queries["add_to_groups"], *(list(column) for column in zip(*given, strict=True)))
        closed: list[UUID] = []
        empty: list[UUID] = []
        for now, *columns in (row.values() for row in rows):
            group = self._texts.tables[GROUPS].value(columns)
            if deltas[GroupKey(group.owner, group.name)].has_ends and not group.open:
                tx.changes.append(Change(group.group_id, Status.COMPLETED))
                await tell_ended(PostgresRows(self._texts, tx.connection, tx), group, now)
            if not group.open:
                closed.append(group.group_id)
            if is_empty(group):
                empty.append(group.group_id)
        if closed:
            waited_for = await tx.fetch(self._queries["groups_waited_for"], closed)
            tx.unsettled.update(row["group_id"] for row in waited_for)
        if empty:
            await tx.execute(self._queries["delete_groups"], empty)

    async def lock_dependants(self, tx: Transaction, group_ids: Sequence[UUID], limit: int) -> Sequence[Any]:
        """Lock tasks that waited for the ends of groups, and note that they wait no more."""
        rows: Sequence[Any] = await tx.fetch(self._queries["lock_group_dependants"], group_ids, limit + 1)
        if len(rows) > limit:
            tx.unsettled |= set(group_ids)
            rows = rows[:limit]
        if rows:
            await tx.execute(self._queries["delete_group_dependencies"], [row["task_seq"] for row in rows])
        return rows

    async def forget_empty(self, tx: Transaction, group_ids: Sequence[UUID]) -> None:
        """Erase those of these groups that have no task, and that no task waits for."""
        await tx.execute(self._queries["delete_groups"], group_ids)

    async def find_unsettled(self, tx: Transaction, limit: int) -> list[UUID]:
        """Return groups that have ended and that tasks still wait for."""
        return [row["group_id"] for row in await tx.fetch(self._queries["unsettled_groups"], limit)]

    async def _lock(self, tx: Transaction, key: GroupKey) -> StoredGroup | None:
        """Lock a group, and return it as it is after what this transaction has gathered."""
        if tx.groups.of(key) is not None:
            await self.write_counts(tx)
        row = await tx.fetchrow(self._queries["lock_group"], *key)
        return None if row is None else self._texts.tables[GROUPS].value(row.values())
