"""The members of groups: counted as they are stored, end, run again and are erased; group_ends.py writes the counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tasker.clock import from_micros
from tasker.engines.shared.groups import GroupKey
from tasker.engines.shared.refusals import group_not_completed, no_group
from tasker.engines.shared.ties import Ties
from tasker.engines.sqlite.rows import Row, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import AfterGroup, Draft, Receipt, Status, Task
from tasker.model.groups import State, StoredGroup, state_of
from tasker.rules.lifecycle import group_failed


def joined(tx: Transaction, seq: int, owner: str, name: str, state: State = "open") -> None:
    """Add a task that was just stored to its group."""
    tx.execute(QUERIES["insert_member"], (seq, owner, name, state))
    tx.execute(QUERIES["concerns_others"], (seq,))
    tx.groups.joined(GroupKey(owner, name), state)


def moved(tx: Transaction, seq: int, status: Status) -> None:
    """Note the new status of a task, if it is in a group. Idempotent."""
    row: Row | None = tx.execute(QUERIES["member_of"], (seq,)).fetchone()
    if row is None:
        return
    owner, name, before = row
    after = state_of(status)
    if before != after:
        tx.execute(QUERIES["move_member"], (after, seq))
        tx.groups.moved(GroupKey(owner, name), before, after)


def erased(tx: Transaction, chosen: Mapping[str, Any]) -> None:
    """Take tasks that are to be erased, chosen by their seqs, out of their groups."""
    rows: list[Row] = tx.execute(QUERIES["members_of"], chosen).fetchall()
    for owner, name, state, number in rows:
        tx.groups.erased(GroupKey(owner, name), state, number)
    if rows:
        tx.execute(QUERIES["erase_members"], chosen)
    tx.execute(QUERIES["forget_group_dependencies"], chosen)


def find_tie(tx: Transaction, draft: Draft, after: AfterGroup, replaces: UUID | None) -> Ties:
    """Find how a draft is tied to the group that it depends on. Write nothing."""
    group = find(tx, draft.owner, after.group)
    if group is None:
        return Ties(Receipt(draft.task_id, "refused", refusal=no_group()))
    if group.open:
        return Ties(replaces=replaces, waits_for_group=True)
    if after.when == "completed" and group.unsuccessful:
        return Ties(replaces=replaces, error=group_failed(after.group, group.failed, group.cancelled))
    return Ties(replaces=replaces)


def check_retry(tx: Transaction, task: Task) -> AfterGroup | None:
    """Return the group that a task to be run again must wait for; one that is gone counts as ended. Raises Conflict."""
    after = task.depends_on_group
    group = None if after is None else find(tx, task.owner or "", after.group)
    if after is None or group is None:
        return None
    if group.open:
        return after
    if after.when == "completed" and group.unsuccessful:
        raise group_not_completed(after.group)
    return None


def wait_for(tx: Transaction, seq: int, owner: str, after: AfterGroup) -> None:
    """Note that a task waits for the next end of an open group."""
    group = find(tx, owner, after.group)
    ends = 0 if group is None else group.ends
    tx.execute(QUERIES["insert_group_dependency"], (seq, owner, after.group, ends, after.when == "completed"))


def resume_waiting(tx: Transaction, seq: int, owner: str, after: AfterGroup) -> None:
    """Let an imported task wait for its group, even if that has no open task."""
    wait_for(tx, seq, owner, after)
    tx.groups.touched(GroupKey(owner, after.group))


def find(tx: Transaction, owner: str, name: str) -> StoredGroup | None:
    """Return a group as it is after what this transaction has gathered."""
    row = tx.execute(QUERIES["group_row"], (owner, name)).fetchone()
    delta = tx.groups.of(GroupKey(owner, name))
    if row is None and delta is None:
        return None
    stored = group_of(row) if row is not None else _new(tx, owner, name)
    return stored if delta is None else delta.added_to(stored)


def group_of(row: Row) -> StoredGroup:
    """Return the group of a row."""
    group_id, owner, name, *counts, ends, created_at, ended_at = row
    open_, completed, failed, cancelled = counts
    return StoredGroup(
        group_id=task_id_of(group_id),
        owner=owner,
        name=name,
        open=open_,
        completed=completed,
        failed=failed,
        cancelled=cancelled,
        ends=ends,
        created_at=from_micros(created_at),
        ended_at=None if ended_at is None else from_micros(ended_at),
    )


def _new(tx: Transaction, owner: str, name: str) -> StoredGroup:
    """Return a group before its first task, which this transaction stores."""
    return StoredGroup(
        group_id=UUID(int=0),
        owner=owner,
        name=name,
        open=0,
        completed=0,
        failed=0,
        cancelled=0,
        ends=0,
        created_at=tx.moment,
    )
