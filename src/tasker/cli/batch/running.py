"""Runs rows: a bounded number at a time, and writes what becomes of them in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from tasker.cli.batch.progress import Tell
from tasker.cli.batch.results import Pass, Result, Seen
from tasker.cli.batch.rows import UNREADABLE, Row
from tasker.cli.params import UsageError
from tasker.client import AsyncTasker, Conflict, InvalidRequest, NotFound, ServiceError, Task
from tasker.validation.encoding import encode_strict

_AHEAD = 10_000
"""Rows that may be finished before one that is not."""
_MOST_HELD = 64 << 20
"""Bytes of their lines."""


class Work(NamedTuple):
    """A row to run, or the line that it has already. place: its index in the pass."""

    place: int
    row: Row
    line: bytes | None = None


def find_work(rows: Iterator[Row], one: Pass) -> Iterator[Work]:
    """Yield what is left to do in a pass. Raises UsageError if the file of results does not fit the rows."""
    earlier = one.earlier()
    for place, row in enumerate(rows):
        if place < one.skip:
            continue
        line = None if earlier is None else _good_line(next(earlier, b""), row)
        yield Work(place, row, line)


def _good_line(line: bytes, row: Row) -> bytes | None:
    try:
        seen = msgspec.json.decode(line, type=Seen)
    except msgspec.DecodeError:
        seen = None
    if seen is None or seen.line != row.line:
        raise UsageError(f"--out: expected the result of line {row.line} there; has somebody changed the file?")
    return line if seen.status == "completed" else None


class Running:
    """Rows on their way. in_flight: how many may have open tasks at a time. tell: takes the tally after each change."""

    def __init__(self, client: AsyncTasker, work: Iterator[Work], one: Pass, in_flight: int, tell: Tell) -> None:
        self._client = client
        self._work = work
        self._pass = one
        self._in_flight = in_flight
        self._next = one.skip
        self._held: dict[int, tuple[Seen, bytes]] = {}
        self._size = 0
        self._moved = asyncio.Condition()
        self._tell = tell

    async def run(self) -> None:
        """Run all rows. Raises ClientError if the service cannot go on, UsageError, OutputError."""
        self._tell(self._pass.tally)
        workers = [asyncio.create_task(self._go_on()) for _ in range(self._in_flight)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)

    async def _go_on(self) -> None:
        for work in self._work:  # which all workers share
            await self._wait_for_room(work.place)
            if work.line is not None:
                await self._put(work.place, msgspec.json.decode(work.line, type=Seen), work.line)
                continue
            result = await self._settle(work.row)
            seen = Seen(line=result.line, status=result.status, usage=result.usage or {})
            await self._put(work.place, seen, msgspec.json.encode(result) + b"\n")

    async def _wait_for_room(self, place: int) -> None:
        async with self._moved:
            await self._moved.wait_for(
                lambda: place == self._next or (place - self._next < _AHEAD and self._size < _MOST_HELD)
            )

    async def _settle(self, row: Row) -> Result:
        """Run a row, and return its line. Raises ClientError for what is not the row's fault."""
        if row.submission is None:
            return _refused(row.line, {"title": UNREADABLE, "detail": row.fault})
        task_id = self._pass.id_of(row.line, encode_strict(row.submission))
        try:
            return _ended(row.line, await self._client.put(task_id, row.submission, wait=True))
        except (InvalidRequest, NotFound, Conflict) as error:
            return _refused(row.line, describe(error))

    async def _put(self, place: int, seen: Seen, line: bytes) -> None:
        """Take a row's line, and write all that no earlier row is missing from."""
        self._held[place] = seen, line
        self._size += len(line)
        lines = []
        while (found := self._held.pop(self._next, None)) is not None:
            self._pass.tally.add(found[0])
            lines.append(found[1])
            self._next += 1
        if lines:
            text = b"".join(lines)
            self._pass.write(text)
            self._size -= len(text)
            self._tell(self._pass.tally)
            async with self._moved:
                self._moved.notify_all()


def describe(error: ServiceError) -> dict[str, Any]:
    """Return a refusal as JSON: its title, its detail and every fault."""
    faults = [{"pointer": fault.pointer, "detail": fault.detail} for fault in error.faults]
    told = {"type": error.name, "title": error.title, "detail": error.detail}
    return {name: value for name, value in told.items() if value} | ({"errors": faults} if faults else {})


def _ended(line: int, task: Task) -> Result:
    usage = task.usage or UNSET
    if task.status == "completed":
        return Result(line=line, task_id=task.task_id, status=task.status, result=task.result, usage=usage)
    error: Any = task.error or {"title": "The task was cancelled"}
    return Result(line=line, task_id=task.task_id, status=task.status, error=error, usage=usage)


def _refused(line: int, error: dict[str, Any]) -> Result:
    return Result(line=line, task_id=None, status="refused", error=error)
