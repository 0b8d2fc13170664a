"""The StepStore of the embedded engine."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from uuid import UUID

import apsw

from tasker.engines.shared.batches import draft_size
from tasker.engines.shared.journal import logged
from tasker.engines.shared.log import Entry, Head
from tasker.engines.shared.refusals import id_taken
from tasker.engines.shared.steps import COLLECT_BYTES, as_read, check_room, given_data, to_store
from tasker.engines.shared.stores.steps import StepReads
from tasker.engines.shared.values import decode_problem
from tasker.engines.sqlite import control
from tasker.engines.sqlite.attempts import Held, find_running
from tasker.engines.sqlite.families import NUMBER_BITS, notice
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.result_files import Results, is_reference, lost
from tasker.engines.sqlite.rows import Row, keep_entries, task_id_of
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.stored_steps import find_step, put_steps
from tasker.engines.sqlite.submit import store
from tasker.engines.sqlite.tables import SqliteDatabase, SqliteRows
from tasker.engines.sqlite.ties import wait_for
from tasker.engines.sqlite.transaction import Transaction, Write
from tasker.errors import Conflict
from tasker.model import Change, Draft, Lease, Status, Task
from tasker.model.steps import Child, NewChildren, Step

_AGAIN_AT_ONCE = 200
"""Limit of the children that one transaction runs again."""


class SqliteSteps(StepReads[SqliteRows]):
    """read, write: do work on a reading connection, or in a transaction."""

    def __init__(self, database: SqliteDatabase, read: Reader, write: Write, results: Results) -> None:
        super().__init__(database)
        self._read = read
        self._write = write
        self._results = results

    async def start_children(self, lease: Lease, children: NewChildren, *, most: int) -> Step | None:
        size = sum(map(draft_size, children.drafts))
        return await self._write(lambda tx: _start_children(tx, lease, children, most), size=size)

    async def run_children_again(self, lease: Lease, key: str) -> Step | None:
        step: Step | None = None
        after: int | None = -1
        while after is not None:
            step, after = await self._write(functools.partial(_run_some_again, lease=lease, key=key, after=after))
        return step

    async def find_children(self, task_id: UUID, key: str, *, first: int = 0, limit: int = 1000) -> list[Child]:
        return await self._read(_find_children, task_id, key, first, limit, self._results)

    async def close_question(self, lease: Lease, key: str, value: bytes | None) -> Step | None:
        return await self._write(lambda tx: _close_question(tx, lease, key, value))

    async def answer(self, task_id: UUID, key: str, value: bytes, by: str) -> Task:
        return await self._write(lambda tx: _answer(tx, task_id, key, value, by), size=len(value))


def _start_children(tx: Transaction, lease: Lease, children: NewChildren, most: int) -> Step | None:
    held = find_running(tx, lease)
    if held is None:
        return None
    known = find_step(tx, held.seq, children.step.key)
    if known is None:
        check_room(tx.execute(QUERIES["total_children"], (held.seq,)).get, children.step.total, most)
    elif known[1].kind != "children":
        return as_read(known[1])
    new = to_store(children, 0 if known is None else tx.execute(QUERIES["number_stored"], (known[0],)).get)
    _check_free(tx, new.values())
    if known is None:
        put_steps(tx, held.seq, held.head.attempt, held.owner, [children.step], children.max_in_flight)
        tx.execute(QUERIES["concerns_others"], (held.seq,))
        known = find_step(tx, held.seq, children.step.key)
    assert known is not None
    _store_children(tx, held, known[0], children, new)
    return _read_step(tx, held.seq, children.step.key)


def _check_free(tx: Transaction, drafts: Iterable[Draft]) -> None:
    """Raise Conflict if an id belongs to another task."""
    task_ids = "[" + ",".join(f'"{draft.task_id.hex}"' for draft in drafts) + "]"
    taken = tx.execute(QUERIES["any_of"], {"task_ids": task_ids}).get
    if taken is not None:
        raise id_taken(task_id_of(taken))


def _store_children(tx: Transaction, held: Held, step: int, children: NewChildren, new: Mapping[int, Draft]) -> None:
    in_flight, most = tx.execute(QUERIES["in_flight"], (step,)).fetchone()  # type: ignore[misc]
    number = step & ((1 << NUMBER_BITS) - 1)
    in_flight_now = 0
    for place, draft in new.items():
        is_held = most is not None and in_flight + in_flight_now >= most
        seq = _store_child(tx, draft, is_held=is_held)
        row = (held.seq, seq, number, place, children.level, int(children.is_detached), int(is_held))
        tx.execute(QUERIES["insert_child"], row)
        in_flight_now += not is_held
    if new:
        tx.execute(QUERIES["step_stored"], (len(new), in_flight_now, step))


def _store_child(tx: Transaction, draft: Draft, *, is_held: bool) -> int:
    seq = store(tx, draft)
    tx.execute(QUERIES["concerns_others"], (seq,))
    if is_held:
        wait_for(tx, seq, ())
    tx.changes.append(Change(draft.task_id, Status.PENDING))
    return seq


def _run_some_again(tx: Transaction, lease: Lease, key: str, after: int) -> tuple[Step | None, int | None]:
    """Run some failed and cancelled children again, of places after `after`; return where to go on, if not done."""
    held = find_running(tx, lease)
    known = None if held is None else find_step(tx, held.seq, key)
    if held is None or known is None:
        return None, None
    id_, step = known
    if not step.may_run_again:
        return as_read(step), None
    values = held.seq, step.number, after, _AGAIN_AT_ONCE
    rows: list[Row] = tx.execute(QUERIES["children_to_run_again"], values).fetchall()
    for seq, task_id, _ in rows:
        in_flight, most = tx.execute(QUERIES["in_flight"], (id_,)).fetchone()  # type: ignore[misc]
        control.run_again(tx, task_id_of(task_id))
        if most is not None and in_flight >= most:
            tx.execute(QUERIES["hold_child"], (seq,))
            tx.execute(QUERIES["step_stored"], (0, -1, id_))
            wait_for(tx, seq, ())
    if len(rows) < _AGAIN_AT_ONCE:
        tx.execute(QUERIES["ran_again"], (id_,))
    return _read_step(tx, held.seq, key), rows[-1][2] if len(rows) == _AGAIN_AT_ONCE else None


def _find_children(
    connection: apsw.Connection, task_id: UUID, key: str, first: int, limit: int, results: Results
) -> list[Child]:
    """Return children in order of their places, and stop once they are large."""
    children: list[Child] = []
    left = COLLECT_BYTES
    values = {"task_id": task_id.bytes, "key": key, "first": first, "limit": limit}
    for place, column, status, result, error in connection.execute(QUERIES["children_at"], values):
        child = Child(
            place=place,
            task_id=task_id_of(column),
            status=Status(status),
            result=_whole(result, results),
            error=None if error is None else decode_problem(error),
        )
        left -= len(child.result or b"") + len(error or b"")
        if children and left < 0:
            break
        children.append(child)
    return children


def _whole(result: bytes | None, results: Results) -> bytes | None:
    """Return a result, also if it has a file. Raises Unavailable if that is lost."""
    if result is None or not is_reference(result):
        return result
    text = results.find(result)
    if text is None:
        raise lost(result)
    return text


def _close_question(tx: Transaction, lease: Lease, key: str, value: bytes | None) -> Step | None:
    held = find_running(tx, lease)
    known = None if held is None else find_step(tx, held.seq, key)
    if held is None or known is None:
        return None
    tx.execute(QUERIES["note_answer"], (value, tx.now, None, known[0]))
    return _read_step(tx, held.seq, key)


def _answer(tx: Transaction, task_id: UUID, key: str, value: bytes, by: str) -> Task:
    """Store an answer; the log entry of a pending task comes before its next attempt."""
    seq, status = control.find_row(tx, task_id)
    known = find_step(tx, seq, key)
    if known is None or known[1].kind != "input" or status not in ("pending", "running"):
        raise Conflict(f"the task does not ask {key!r}")
    id_, step = known
    if step.finished_at is not None:
        raise Conflict(f"{key!r} is answered already, or its time is over")
    if step.until is not None and step.until <= tx.moment:
        raise Conflict(f"the time to answer {key!r} is over")
    head = Head(*tx.execute(QUERIES["head_by_seq"], (seq,)).fetchone())  # type: ignore[misc]
    entry = Entry(head.last + 1, head.attempt, "input_given", tx.now, given_data(step, by))
    keep_entries(tx.connection, seq, [entry])
    tx.journal.append(logged(task_id, [entry]))
    tx.execute(QUERIES["set_sequence"], (entry.sequence, seq))
    tx.execute(QUERIES["note_answer"], (value, tx.now, by, id_))
    is_awaited = tx.execute(QUERIES["is_awaited"], (id_,)).get
    notice(tx, seq, task_id.bytes, status, is_awaited=bool(is_awaited))
    return control.find_task(tx, task_id)


def _read_step(tx: Transaction, seq: int, key: str) -> Step | None:
    known = find_step(tx, seq, key)
    return None if known is None else as_read(known[1])
