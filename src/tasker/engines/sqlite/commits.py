"""Group commit: work that arrives while a commit is under way shares the next one.

Statements run on the event loop, in batches; only COMMIT, which waits for the disk, runs in the writer thread. If a
thread ran the statements, it and the loop would pass the interpreter's lock back and forth at every statement. This
way a batch costs one hand-over: 5 % more tasks a second measured on one core, and a third more on two.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import apsw
import structlog
from msgspec import Struct

from tasker.engines.shared.batches import take_batch
from tasker.engines.sqlite.faults import ENVIRONMENT, refusal_of
from tasker.engines.sqlite.presence import Presence
from tasker.engines.sqlite.transaction import Transaction
from tasker.errors import RequestError, Unavailable
from tasker.model import Change

Work = Callable[[Transaction], Any]
T = TypeVar("T")

_BUSY_STEP, _BUSY_LIMIT = 0.05, 5.0
"""Seconds between tries, and in all, while another program holds the file's write lock."""

_log = structlog.get_logger(__name__)


class _Item(Struct):
    """Work, and the future that gets its result. size: as in `run`."""

    work: Work
    future: asyncio.Future[Any]
    size: int


class GroupCommit:
    """Runs work on the writing connection, many items per transaction, and answers once they are durable.

    Work may raise RequestError before it writes anything: only its caller gets that. After any other error the batch is
    rolled back, and each item is tried alone so that one cannot spoil the others. If the disk is at fault, every caller
    gets Unavailable instead, and nothing has changed.

    begin: makes the value of each transaction. after_work: called after the work of each. before_work, before_commit:
    called in the transaction of a batch, before and after that.
    A commit counts only if the files are still at their path: `presence` checks this before the commit, and again
    before any caller is answered. While files are lost, nothing is written.

    after_commit: called on the loop with the changes that became durable; after_rollback: on the loop.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        presence: Presence,
        begin: Callable[[apsw.Connection], Transaction],
        before_work: Callable[[apsw.Connection], None],
        after_work: Callable[[Transaction], None],
        before_commit: Callable[[Transaction], None],
        after_commit: Callable[[list[Change]], None],
        after_rollback: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._presence = presence
        self._begin_transaction = begin
        self._before_work = before_work
        self._after_work = after_work
        self._before_commit = before_commit
        self._after_commit = after_commit
        self._after_rollback = after_rollback
        self._loop = asyncio.get_running_loop()
        self._to_commit: SimpleQueue[Callable[[BaseException | None], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._commit_all, name="tasker-commit", daemon=True)
        self._thread.start()
        self._queue: deque[_Item] = deque()
        self._busy = False
        self._busy_for = 0.0
        self._empties_log = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.commits = 0

    def run(self, work: Callable[[Transaction], T], *, size: int = 0, at_close: bool = False) -> asyncio.Future[T]:
        """Queue `work`; the future gets its result once that is durable. size: the bytes that it writes, if many.

        Raises Unavailable once closed, except for work that is part of closing (`at_close`, only from `after_commit`).
        """
        if self._closed and not at_close:
            raise Unavailable("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append(_Item(work, future, size))
        if not self._busy:
            self._busy = True
            self._idle.clear()
            self._loop.call_soon(self._begin)
        return future

    @property
    def is_busy(self) -> bool:
        """Whether work is queued or a commit is under way."""
        return self._busy

    def look(self) -> None:
        """Check that the files are in place, unless a commit is under way, which checks them itself."""
        if not self._busy:
            self._presence.look()

    def check(self) -> None:
        """Raise Unavailable if the files are lost."""
        self.look()
        if self._presence.lost is not None:
            raise self._lost()

    async def empty_log(self) -> bool:
        """Have the next commit move the whole WAL into the database and empty it; return whether that succeeded.

        Overwritten data stays in the WAL until then. This takes as long as SQLite's automatic checkpoints.
        """
        self._empties_log = True
        await self.run(lambda _: None)
        return not self._empties_log

    async def close(self) -> None:
        """Commit what is queued, then close the connection. Idempotent."""
        self._closed = True
        await self._idle.wait()
        if self._thread.is_alive():
            self._to_commit.put(None)
            self._thread.join()
            self._connection.close()

    def _begin(self) -> None:
        if self._presence.look(thorough=False) is not None:
            self._failed(self._take(len(self._queue)), self._lost())
            return
        if not self._has_write_lock():
            return
        batch = take_batch(self._queue)
        try:
            self._before_work(self._connection)
            tx = self._begin_transaction(self._connection)
            results = [_apply(item.work, tx) for item in batch]
            self._after_work(tx)
            self._before_commit(tx)
            self._after_work(tx)  # serving may have failed tasks whose deadline has passed
            tx.finish()
        except Exception as error:  # of any kind: a bug in one item must not stop the writer
            self._failed(batch, error)
            return
        self._to_commit.put(lambda error: self._ended(batch, results, tx.changes, error))

    def _lost(self) -> Unavailable:
        return Unavailable(self._presence.lost or "", retry_after=timedelta(seconds=5))

    def _take(self, count: int) -> list[_Item]:
        return [self._queue.popleft() for _ in range(count)]

    def _has_write_lock(self) -> bool:
        """Begin the transaction; if another program holds the file, retry later without blocking the loop."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except apsw.BusyError as error:
            self._busy_for += _BUSY_STEP
            if self._busy_for < _BUSY_LIMIT:
                self._loop.call_later(_BUSY_STEP, self._begin)
            else:
                self._busy_for = 0.0
                self._failed(self._take(len(self._queue)), error)
            return False
        except apsw.Error as error:
            self._failed(self._take(len(self._queue)), error)
            return False
        self._busy_for = 0.0
        return True

    def _commit_all(self) -> None:
        """The writer thread: commit, then call back on the loop. An executor's futures cost ten times as much."""
        while (ended := self._to_commit.get()) is not None:
            error: BaseException | None = None
            try:
                self._connection.execute("COMMIT")
            except Exception as fault:  # of any kind: the batch's callers must get it
                error = fault
            if error is None and self._empties_log:
                self._empties_log = not self._has_emptied_log()
            self._loop.call_soon_threadsafe(ended, error)

    def _has_emptied_log(self) -> bool:
        try:
            rows = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except apsw.Error as error:  # a reader or the disk is in the way; nothing is lost
            _log.info("store.log_not_emptied", reason=str(error))
            return False
        return rows[0][0] == 0

    def _ended(
        self, batch: list[_Item], results: list[Any], changes: list[Change], error: BaseException | None
    ) -> None:
        if error is not None:
            self._failed(batch, error)
            return
        self.commits += 1
        self._answer_all(batch, results)
        self._after_commit(changes)
        self._next()

    def _answer_all(self, batch: list[_Item], results: list[Any]) -> None:
        """Answer the callers of a commit; with Unavailable if it went to files that are lost."""
        if self._presence.look(thorough=False) is not None:
            results = [self._lost() for _ in batch]
        for item, result in zip(batch, results, strict=True):
            _answer(item.future, result)

    def _failed(self, batch: list[_Item], error: BaseException) -> None:
        self._roll_back()
        self._after_rollback()
        if isinstance(error, (*ENVIRONMENT, Unavailable)) or len(batch) == 1:
            if not isinstance(error, Unavailable):  # the loss of the files has been logged
                _log.error("store.commit_failed", error=str(error), waiting=len(batch))
            for item in batch:
                _answer(item.future, refusal_of(error))
        else:
            self._one_by_one(batch)
        self._next()

    def _one_by_one(self, batch: list[_Item]) -> None:
        results: list[Any] = []
        changes: list[Change] = []
        for item in batch:
            try:
                with self._connection:
                    tx = self._begin_transaction(self._connection)
                    result = _apply(item.work, tx)
                    self._after_work(tx)
                    tx.finish()
                changes += tx.changes
            except Exception as error:  # of any kind: its caller gets it
                result = refusal_of(error)
            results.append(result)
        self._answer_all(batch, results)
        self._after_commit(changes)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except apsw.Error as error:
                _log.error("store.rollback_failed", error=str(error))

    def _next(self) -> None:
        if self._queue:
            self._loop.call_soon(self._begin)
        else:
            self._busy = False
            self._idle.set()


def _apply(work: Work, tx: Transaction) -> Any:
    try:
        return work(tx)
    except RequestError as refusal:
        return refusal


def _answer(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():  # its caller was cancelled; the work is stored all the same
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
