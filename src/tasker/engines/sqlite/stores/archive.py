"""The ArchiveStore of the embedded engine."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import apsw
import msgspec

from tasker.clock import MICROSECOND, Clock, from_micros, to_micros
from tasker.engines.shared.refusals import check_keys, check_moved, check_stored, taken
from tasker.engines.shared.stored import attempt_of, event_of, key_of
from tasker.engines.shared.stores.families import NO_PARTS, find_parts, join_families, put_parts
from tasker.engines.shared.stores.records import find_records, find_records_of, put_records
from tasker.engines.shared.tables import ARCHIVED, InTheWay, read_records
from tasker.engines.shared.values import encode
from tasker.engines.sqlite import groups
from tasker.engines.sqlite.families import attend
from tasker.engines.sqlite.faults import ENVIRONMENT, is_taken
from tasker.engines.sqlite.reader import Reader
from tasker.engines.sqlite.result_files import Results, is_reference
from tasker.engines.sqlite.retention import is_buried
from tasker.engines.sqlite.rows import PARKED, optional_micros, task_id_of
from tasker.engines.sqlite.rows import Row as Columns
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.tables import SqliteDatabase, SqliteRows, at_once, rows_of
from tasker.engines.sqlite.ties import resume_waiting
from tasker.engines.sqlite.transaction import Transaction, Write
from tasker.errors import ArchiveError, Conflict
from tasker.model.archive import COLUMNS, TEXTS, TIMES, StoredRecord, StoredTask, bytes_of, text_of
from tasker.model.groups import state_of

_tags = msgspec.json.Decoder(list[str]).decode
_INSERT = f"INSERT INTO task ({', '.join(COLUMNS)}, lease_expires_at) VALUES ({', '.join('?' * len(COLUMNS))}, ?)"  # noqa: S608
_HAS_PARTS = "has_dependants OR EXISTS (SELECT 1 FROM step WHERE task_seq = seq)"
"""Whether a task may have steps, or a place in a family: most have neither."""
_SELECT = f"SELECT seq, {_HAS_PARTS}, {', '.join(COLUMNS)} FROM task"  # noqa: S608  constants only
_NEXT = f"{_SELECT} WHERE seq > ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY seq LIMIT ?"

_RESULT = COLUMNS.index("result")


@dataclass
class SqliteArchive:
    """Implements ArchiveStore. read, write, database: do work on the reading connection, or in a transaction."""

    _clock: Clock
    _read: Reader
    _write: Write
    _database: SqliteDatabase
    _results: Results

    async def read(self, *, at_once: int, size: int) -> AsyncGenerator[list[StoredRecord] | list[StoredTask]]:
        """No transaction is needed for one snapshot: this process alone has the file, and nothing writes meanwhile."""
        for shape in ARCHIVED.values():
            if records := await self._database.read(functools.partial(find_records_of, shape=shape)):
                yield records
        last = 0
        while True:
            last, found = await self._read.scan(
                _page, results=self._results, after=last, limit=at_once, size=size, now=self._micros()
            )
            if not found:
                return
            yield found

    async def put(self, tasks: Sequence[StoredTask], *, rehearsal: bool = False) -> int:
        if rehearsal:  # during a rehearsal large results are stored in their rows, not in files
            work = functools.partial(_put, results=self._results, tasks=tasks, files={}, resumes=False)
            return len(await self._rehearse(work))
        texts = {task.task_id: task.result.encode() for task in tasks if task.result is not None}
        large = {task_id: text for task_id, text in texts.items() if len(text) > self._results.over}
        files = {task_id: await self._results.write(task_id, text) for task_id, text in large.items()}
        work = functools.partial(_put, results=self._results, tasks=tasks, files=files, resumes=True)
        try:
            stored: set[UUID] = await self._write(work)
        except Conflict:
            await self._results.remove(files.values())
            raise
        await self._results.remove(file for task_id, file in files.items() if task_id not in stored)
        return len(stored)

    async def find_many(self, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
        return await self._read(_find_many, results=self._results, task_ids=task_ids)

    async def find_erased(self, task_ids: Sequence[UUID]) -> set[UUID]:
        return await self._read(_erased, task_ids=task_ids, now=self._micros())

    async def put_records(self, records: Sequence[StoredRecord], *, rehearsal: bool = False) -> int:
        given = read_records(records)

        def work(tx: Transaction) -> int:
            return at_once(put_records(rows_of(tx), given))

        try:
            return int(await (self._rehearse(work) if rehearsal else self._write(work)))
        except InTheWay as error:
            raise error.conflict from error

    async def find_records(self, records: Sequence[StoredRecord]) -> list[StoredRecord | None]:
        given = read_records(records)
        return await self._database.read(lambda rows: find_records(rows, given))

    async def _rehearse(self, work: Callable[[Transaction], Any]) -> Any:
        """Do work in a transaction and roll it back; return its result, or raise its error."""
        outcome = await self._write(functools.partial(_roll_back, work=work))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _micros(self) -> int:
        return to_micros(self._clock.now())


def _roll_back(tx: Transaction, *, work: Callable[[Transaction], Any]) -> Any:
    """Do work and roll it back; return its result or its error."""
    tx.execute("SAVEPOINT rehearsal")
    try:
        return work(tx)
    except ENVIRONMENT:
        raise
    except (Conflict, InTheWay) as error:
        return error
    except (apsw.Error, RuntimeError, ValueError, TypeError, OverflowError) as error:
        if is_taken(error):
            return taken()
        return ArchiveError(f"it cannot be stored as it is: {error}")
    finally:
        tx.execute("ROLLBACK TO rehearsal")
        tx.execute("RELEASE rehearsal")


def _page(
    connection: apsw.Connection, *, results: Results, after: int, limit: int, size: int, now: int
) -> tuple[int, list[StoredTask]]:
    """Return the next tasks that have not expired, and the seq of the last."""
    found: list[StoredTask] = []
    for row in connection.execute(_NEXT, (after, now, limit)):
        after = row[0]
        found.append(_whole(connection, results, row))
        size -= found[-1].size
        if size <= 0:
            break
    return after, found


def _erased(connection: apsw.Connection, *, task_ids: Sequence[UUID], now: int) -> set[UUID]:
    return {task_id for task_id in task_ids if is_buried(connection, task_id, now)}


def _put(
    tx: Transaction, *, results: Results, tasks: Sequence[StoredTask], files: Mapping[UUID, bytes], resumes: bool
) -> set[UUID]:
    """Store the new tasks; return their ids.

    files: references to the results that are not stored in their rows. resumes: whether to settle tasks that wait for
    others, and to count the open ones; not in a rehearsal.
    """
    connection = tx.connection
    known = _find_many(connection, results=results, task_ids=[task.task_id for task in tasks])
    new = [task for task, there in zip(tasks, known, strict=True) if there is None]
    erased = _erased(connection, task_ids=[task.task_id for task in new], now=tx.now)
    new = [task for task in new if task.task_id not in erased]
    check_moved(tasks, known)
    check_keys(new, {key: task_id_of(owner) for task in new for key, owner in _owners(connection, task)})
    for task in new:
        seq = _insert(connection, task, files.get(task.task_id))
        tx.stored(seq, to_micros(task.created_at))
        if resumes:
            if task.group is not None:
                groups.joined(tx, seq, task.owner, task.group, state_of(task.status))
            waits = task.reason not in (None, "queued", "concurrency_limited")
            tx.counts.adopted((task.owner, task.type, task.queue), task.status, waits=waits)
    at_once(put_parts(rows_of(tx), new))
    check_stored(new, _find_many(connection, results=results, task_ids=[task.task_id for task in new]))
    if resumes:
        _resume(tx, tasks, new)
    return {task.task_id for task in new}


def _resume(tx: Transaction, tasks: Sequence[StoredTask], new: Sequence[StoredTask]) -> None:
    """Settle the tasks that wait for others, and wake parents of which all children have ended."""
    rows = rows_of(tx)
    for parent in at_once(join_families(rows, new)):
        at_once(rows.run("recount_children", parent=parent))
        attend(tx, parent)
    for task in tasks:
        if task.is_waiting and not task.is_held:
            resume_waiting(tx, task.task_id, task.depends_on, task.depends_on_group)


def _owners(connection: apsw.Connection, task: StoredTask) -> list[Columns]:
    """Return those of the task's idempotency keys that are stored, with the ids of their tasks."""
    query = "SELECT key, task_id FROM idempotency WHERE key = ?"
    return [row for one in task.keys for row in connection.execute(query, (one.key,))]


def _find_many(connection: apsw.Connection, *, results: Results, task_ids: Sequence[UUID]) -> list[StoredTask | None]:
    return [_find(connection, results, task_id) for task_id in task_ids]


def _find(connection: apsw.Connection, results: Results, task_id: UUID) -> StoredTask | None:
    row = connection.execute(f"{_SELECT} WHERE task_id = ?", (task_id.bytes,)).fetchone()
    return None if row is None else _whole(connection, results, row)


def _insert(connection: apsw.Connection, task: StoredTask, file: bytes | None) -> int:
    """Store a task and what belongs to it; return its seq."""
    lease = 0 if task.status == "running" else None
    columns = {name: _column(name, getattr(task, name)) for name in COLUMNS}
    if file is not None:
        columns["result"] = file
    connection.execute(_INSERT, (*columns.values(), lease))
    seq = connection.last_insert_rowid()
    connection.executemany(QUERIES["insert_tag"], [(tag, seq) for tag in task.tags])
    connection.execute(QUERIES["note_schedule"], (seq,))
    connection.executemany(
        "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                seq,
                one.attempt,
                one.worker,
                to_micros(one.started_at),
                to_micros(one.finished_at),
                one.ending,
                bytes_of(one.error),
                one.peak_memory,
            )
            for one in task.attempts
        ],
    )
    connection.executemany(
        QUERIES["insert_event"],
        [(seq, one.sequence, one.attempt, one.type, to_micros(one.time), one.data.encode()) for one in task.events],
    )
    connection.executemany(
        QUERIES["insert_key"],
        [
            (one.key, task.task_id.bytes, one.fingerprint, to_micros(one.expires_at), one.reply.encode())
            for one in task.keys
        ],
    )
    return seq


def _column(name: str, value: Any) -> Any:
    if name == "task_id":
        return value.bytes
    if name == "tags":
        return encode(value).decode()
    if name in TIMES:
        return optional_micros(value)
    if name == "retention":
        return None if value is None else value // MICROSECOND
    return bytes_of(value) if name in TEXTS else value


def _value(name: str, column: Any) -> Any:
    if name == "task_id":
        return task_id_of(column)
    if name == "tags":
        return _tags(column)
    if name in TIMES:
        return None if column is None else from_micros(column & ~PARKED)
    if name == "reason" and column == "concurrency_limited":  # parked, which is internal to this store
        return "queued"
    if name == "retention":
        return None if column is None else timedelta(microseconds=column)
    if name == "has_dependants":
        return bool(column)
    return text_of(column) if name in TEXTS else column


def _whole(connection: apsw.Connection, results: Results, row: Columns) -> StoredTask:
    """Return a task with its attempts, events, keys and webhooks."""
    seq, has_parts, *columns = row
    result = columns[_RESULT]
    if is_reference(result):
        columns[_RESULT] = results.read(result)
    attempts = connection.execute(
        "SELECT attempt, worker, started_at, finished_at, ending, error, peak_memory FROM attempt WHERE task_seq = ?"
        " ORDER BY 1",
        (seq,),
    )
    events = connection.execute(QUERIES["events"], (seq, 0, -1))
    values = {name: _value(name, column) for name, column in zip(COLUMNS, columns, strict=True)}
    keys = connection.execute(
        "SELECT key, fingerprint, expires_at, reply FROM idempotency WHERE task_id = ? ORDER BY key",
        (values["task_id"].bytes,),
    )
    task_id = values["task_id"]
    parts = at_once(find_parts(SqliteRows(connection, 0), [task_id])) if has_parts else NO_PARTS
    return StoredTask(
        **values,
        steps=parts.steps.get(task_id, []),
        child=parts.children.get(task_id),
        attempts=[
            attempt_of(attempt, worker, from_micros(started_at), from_micros(finished_at), *rest)
            for attempt, worker, started_at, finished_at, *rest in attempts
        ],
        events=[event_of(*head, from_micros(time), data) for *head, time, data in events],
        keys=[key_of(*head, from_micros(expires_at), reply) for *head, expires_at, reply in keys],
    )
