"""Parents and children: what the end of one means for the other.

A child counts as in flight from when it may be claimed until it ends; the others of a step with a limit are held. What
the end of a parent means for its children is settled in small steps, as for dependants (`Partitions.unsettled`).
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from tasker.engines.sqlite import groups
from tasker.engines.sqlite.pending import Ended, ask_to_stop, cancel_pending, release, wake
from tasker.engines.sqlite.rows import Row, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.transaction import Transaction
from tasker.model import Change, Status

NUMBER_BITS = 20
"""Bits of the number of a step in its id; the others are the seq of its task."""
_UNSUCCESSFUL = (Status.FAILED, Status.CANCELLED)


class _Place(NamedTuple):
    """Where a child belongs, and the state of its parent."""

    parent: int
    number: int
    is_held: bool
    is_detached: bool
    parent_id: bytes
    parent_status: Status
    parent_expires_at: int | None

    @property
    def step(self) -> int:
        """The id of its step."""
        return self.parent << NUMBER_BITS | self.number

    @property
    def is_parent_open(self) -> bool:
        return not self.parent_status.is_terminal


def note_end(tx: Transaction, one: Ended) -> None:
    """Note the end of a task: it asks nobody any more; its group counts it; and if it is a child, its parent."""
    groups.moved(tx, one.seq, one.status)
    tx.execute(QUERIES["asks_no_more"], (one.seq,))
    place = _find_place(tx, one.seq)
    if place is not None:
        _keep_as_long(tx, one.seq, place)
        _count(tx, one, place)


def settle_children(tx: Transaction, parent: Ended) -> list[Ended]:
    """Settle the end of a parent for some of its children; return those that it cancelled.

    The open ones of a parent that did not succeed are cancelled, the ended ones are kept no longer than it.
    """
    left = tx.partitions.left_to_settle
    rows: list[Row] = tx.execute(QUERIES["unsettled_children"], (parent.seq, left + 1)).fetchall()
    if len(rows) > left:
        tx.partitions.settle_later(parent.task_id)
    cancelled: list[Ended] = []
    for seq, is_detached, column, status in rows[:left]:
        tx.partitions.left_to_settle -= 1
        tx.execute(QUERIES["child_settled"], (seq,))
        task_id = task_id_of(column)
        if Status(status).is_terminal:
            _follow(tx, seq, task_id)
        elif not is_detached and (parent.is_deleted or parent.status in _UNSUCCESSFUL):
            cancelled += _cancel(tx, seq, task_id, status)
        elif parent.is_deleted:
            tx.execute(QUERIES["cut_loose"], (seq,))
    return cancelled


def _follow(tx: Transaction, seq: int, task_id: UUID) -> None:
    """Let an ended child, and later its own children, be kept no longer than its parent."""
    place = _find_place(tx, seq)
    if place is not None:
        _keep_as_long(tx, seq, place)
    tx.execute(QUERIES["children_unsettled"], (seq,))
    if tx.connection.changes():
        tx.partitions.settle_later(task_id)


def _cancel(tx: Transaction, seq: int, task_id: UUID, status: str) -> list[Ended]:
    if status == "running":
        ask_to_stop(tx, seq, task_id)
        return []
    return [Ended(seq, task_id, Status.CANCELLED)] if cancel_pending(tx, seq, task_id) else []


def reopen(tx: Transaction, seq: int, status: str) -> None:
    """Note that an ended task, which had this status, is pending again."""
    groups.moved(tx, seq, Status.PENDING)
    place = _find_place(tx, seq)
    if place is not None:
        tx.execute(QUERIES["child_runs_again"], {"status": status, "id": place.step})
    tx.execute(QUERIES["parent_goes_on"], (seq,))
    tx.execute(QUERIES["children_unsettled"], (seq,))
    tx.execute(QUERIES["children_may_run_again"], (seq,))
    tx.execute(QUERIES["asks_again"], (seq,))


def is_of_open_parent(tx: Transaction, seq: int) -> bool:
    """Tell whether a task is the child of an open task."""
    place = _find_place(tx, seq)
    return place is not None and place.is_parent_open


def notice(tx: Transaction, parent: int, task_id: bytes, status: str, *, is_awaited: bool) -> None:
    """Tell a task that something is there that it may wait for: wake it if it is parked for it."""
    if status == "running":
        tx.changes.append(Change(task_id_of(task_id), Status.RUNNING, spoke=True))
    elif status == "pending" and is_awaited:
        wake(tx, parent)


def attend(tx: Transaction, parent: int) -> None:
    """Do for an open parent what ends of its children ask for: start held ones, and wake it."""
    row: Row | None = tx.execute(QUERIES["open_task"], (parent,)).fetchone()
    if row is None:
        return
    steps: list[Row] = tx.execute(QUERIES["children_steps"], (parent,)).fetchall()
    for number, is_awaited, have_ended, free in steps:
        if free is not None and free > 0:
            _release_held(tx, parent, number, free)
        if have_ended:
            notice(tx, parent, row[0], row[1], is_awaited=bool(is_awaited))


def _find_place(tx: Transaction, seq: int) -> _Place | None:
    row: Row | None = tx.execute(QUERIES["child_by_seq"], (seq,)).fetchone()
    if row is None:
        return None
    parent, number, is_held, is_detached, parent_id, status, expires_at = row
    return _Place(parent, number, bool(is_held), bool(is_detached), parent_id, Status(status), expires_at)


def _keep_as_long(tx: Transaction, seq: int, place: _Place) -> None:
    """Keep an ended child as long as its parent, or shorter once that has ended."""
    until = place.parent_expires_at
    if place.is_parent_open:
        tx.execute(QUERIES["child_stays"], (seq,))
    elif until is not None and until > 0 and until <= tx.now:
        tx.execute(QUERIES["cut_loose"], (seq,))  # it goes on alone, and is kept as any other task
    else:
        tx.execute(QUERIES["child_expires"], {"until": None if until is None else until - 1, "seq": seq})


def _count(tx: Transaction, one: Ended, place: _Place) -> None:
    was_in_flight = int(not place.is_held)
    values = {"status": one.status.value, "was_in_flight": was_in_flight, "now": tx.now, "id": place.step}
    row: Row | None = tx.execute(QUERIES["count_child"], values).fetchone()
    if place.is_held:
        tx.execute(QUERIES["not_held"], (one.seq,))
    if row is None:  # its step was forgotten
        return
    is_awaited, have_ended, free = row
    if free is not None and free > 0 and (place.is_detached or place.parent_status not in _UNSUCCESSFUL):
        _release_held(tx, place.parent, place.number, free)
    if have_ended and place.is_parent_open:
        notice(tx, place.parent, place.parent_id, place.parent_status, is_awaited=bool(is_awaited))


def _release_held(tx: Transaction, parent: int, number: int, free: int) -> None:
    held: list[Row] = tx.execute(QUERIES["next_held"], (parent, number, free)).fetchall()
    for (seq,) in held:
        tx.execute(QUERIES["not_held"], (seq,))
        tx.execute(QUERIES["one_in_flight"], (parent << NUMBER_BITS | number,))
        release(tx, seq)
