"""Write the counts of groups once for each transaction, and settle what waits for a group that has ended."""

from __future__ import annotations

from uuid import UUID

import apsw

from tasker.engines.shared.groups import Delta, GroupKey, is_empty
from tasker.engines.shared.stores.groups import tell_ended
from tasker.engines.sqlite import ties
from tasker.engines.sqlite.groups import group_of
from tasker.engines.sqlite.pending import release
from tasker.engines.sqlite.rows import Row, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import at_once, rows_of
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import Change, Status, new_task_id
from tasker.model.groups import StoredGroup
from tasker.rules.lifecycle import group_failed


def write_counts(tx: Transaction) -> None:
    """Write what was gathered; the end of a group may settle tasks of other groups, which is written too."""
    while tx.groups:
        for key, delta in tx.groups.take():
            group = _add(tx, key, delta)
            if delta.has_ends and not group.open:
                _ended(tx, group)
            if is_empty(group):
                tx.execute(QUERIES["delete_group"], {"owner": key.owner, "name": key.name})


def _add(tx: Transaction, key: GroupKey, delta: Delta) -> StoredGroup:
    values = {"owner": key.owner, "name": key.name, "now": tx.now, **delta.values()}
    row = tx.execute(QUERIES["add_to_group"], values).fetchone()
    if row is None:
        values["group_id"] = new_task_id(tx.moment).bytes
        row = tx.execute(QUERIES["insert_group"], values).fetchone()
    assert row is not None
    return group_of(row)


def _ended(tx: Transaction, group: StoredGroup) -> None:
    """Tell everybody of the end of a group."""
    tx.changes.append(Change(group.group_id, Status.COMPLETED))
    at_once(tell_ended(rows_of(tx), group, tx.moment))
    if not _settle(tx, group):
        tx.partitions.settle_later(group.group_id)


def settle_rest(tx: Transaction) -> list[UUID]:
    """Continue with tasks and groups whose dependants are left; return those that are settled now."""
    done = ties.settle_rest(tx)  # a group is no task, so it counts as done there
    return [one for one in done if _settle_by_id(tx, one)]


def find_unsettled(connection: apsw.Connection) -> list[UUID]:
    """Return the ended tasks and groups that tasks still wait for."""
    groups = [task_id_of(row[0]) for row in connection.execute(QUERIES["unsettled_groups"])]
    return ties.find_unsettled(connection) + groups


def _settle_by_id(tx: Transaction, group_id: UUID) -> bool:
    row: Row | None = tx.execute(QUERIES["group_by_id"], (group_id.bytes,)).fetchone()
    return row is None or _settle(tx, group_of(row))


def _settle(tx: Transaction, group: StoredGroup) -> bool:
    """Start or fail tasks that waited for the end of a group; return whether none is left."""
    left = tx.partitions.left_to_settle
    values = group.owner, group.name, group.ends - (group.open > 0), left + 1
    rows: list[Row] = tx.execute(QUERIES["group_dependants"], values).fetchall()
    for seq, strict in rows[:left]:
        tx.partitions.left_to_settle -= 1
        tx.execute(QUERIES["delete_group_dependency"], (seq,))
        if tx.execute(QUERIES["is_waiting"], (seq,)).fetchone() is None:  # it was cancelled meanwhile
            continue
        if strict and group.unsuccessful:
            ties.fail_waiting(tx, seq, group_failed(group.name, group.failed, group.cancelled))
        else:
            release(tx, seq)
    if rows and len(rows) <= left and is_empty(group):
        tx.execute(QUERIES["delete_group"], {"owner": group.owner, "name": group.name})
    return len(rows) <= left
