"""POST /batch: many submissions in one request, each answered for itself as soon as it is stored.

Reading, storing and answering go on side by side and wait for each other, so that memory is bounded however large the
body is: the body is not read while a chunk of it is stored, nor while the client leaves its replies unread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from tasker.api.accepts import choose
from tasker.api.bodies import log_body_fault
from tasker.api.buffers import Buffer
from tasker.api.calls import VALIDATED, Call, idempotency_key, prefers_validation
from tasker.api.events import JSON_LINES
from tasker.api.lines import ArraySource, Line, LineSource, Pieces, Source
from tasker.api.operation import SUBMIT_PROBLEMS, Answer, Operation
from tasker.api.problems import Problem, Refused, to_problem
from tasker.api.replies import Head, Header, Stream, encode, encode_lines
from tasker.errors import Malformed, RequestError
from tasker.service import Accepted, Batch, Service, Wanted
from tasker.service.pauses import Pauses

JSON = "application/json"
BATCH_LINES = (b"application/jsonl", b"application/x-ndjson")
"""Media types under which a batch may come in lines."""
BACKLOG = 16 << 20
"""Bytes of replies that may wait for a client that does not read them before it has sent everything."""
_AT_ONCE = 256 << 10
"""Bytes of replies that are sent together."""


class BatchItem(Struct, frozen=True, kw_only=True):
    """What became of one submission: 202 and its task, 204 where it was to be checked only, or why it was refused.

    `index` counts submissions from 0, `line` is its line from 1. The pointers of a problem lead into the submission.
    """

    index: int
    line: int | UnsetType = UNSET
    status: int
    task_id: UUID | UnsetType = UNSET
    replayed: bool | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class BatchSummary(Struct, frozen=True, kw_only=True):
    """The end of a batch. `problem` says why it ended early: what has no item then is to be sent again."""

    accepted: int
    refused: int
    problem: Problem | UnsetType = UNSET


class BatchReply(BatchSummary, frozen=True, kw_only=True):
    """An item for each submission, in order, and how many were accepted (or found good) and refused."""

    items: list[BatchItem]


class _Checked(NamedTuple):
    line: Line
    found: Wanted | RequestError


class BatchOperations:
    """max_line: bytes of one submission. max_size: bytes of a body that comes in lines."""

    def __init__(self, service: Service, *, max_line: int, max_size: int) -> None:
        self._service = service
        self._max_line = max_line
        self._max_size = max_size

    async def submit(self, call: Call) -> Stream:
        call.query()
        key, media = idempotency_key(call), call.media
        offered = (JSON_LINES, JSON) if media.encode() in BATCH_LINES else (JSON, JSON_LINES)
        reply_media = choose(call.head.headers.get(b"accept"), offered) or offered[0]
        source = await self._source(call, media)
        is_check = prefers_validation(call)
        batch = self._service.batches.begin(call.caller, key, dry_run=is_check)
        headers: tuple[Header, ...] = (VALIDATED,) if is_check else ()
        held = call.unread.open()
        replies = _Replies(_Work(source, batch, call.head), reply_media, held)
        await replies.begin()
        return Stream(reply_media, replies, headers, watched=False)

    async def _source(self, call: Call, media: str) -> Source:
        if media.encode() in BATCH_LINES:
            pieces = Pieces(call.receive, stopping=lambda: self._service.stopping)
            return LineSource(pieces, max_line=self._max_line, max_size=self._max_size)
        return await ArraySource.of(await call.body())


class _Work:
    """Reads, checks and stores, chunk by chunk."""

    def __init__(self, source: Source, batch: Batch, head: Head) -> None:
        self._source = source
        self._batch = batch
        self._head = head
        self.accepted = 0
        self.refused = 0

    async def run(self, out: _Handover) -> None:
        """Put the items of all chunks out, in order. While one is being stored, the next is read and checked."""
        storing: asyncio.Task[None] | None = None
        try:
            while lines := await self._source.chunk():
                checked = await self._check(lines)
                if storing is not None:
                    await storing
                storing = asyncio.create_task(self._store(checked, out))
                await out.room()
        finally:
            if storing is not None:
                await asyncio.wait([storing])
        if storing is not None:
            storing.result()

    @property
    def count(self) -> int:
        """How many submissions have their answer."""
        return self.accepted + self.refused

    def close(self) -> None:
        self._source.close()
        self._batch.end()

    def log(self, error: RequestError) -> None:
        """Log what ended the body early: the head of the reply has gone out."""
        log_body_fault(error, self._head)

    def problem(self, error: RequestError) -> Problem:
        return to_problem(error, self._head.request_id)

    async def _check(self, lines: Sequence[Line]) -> list[_Checked]:
        """Read the submissions, and let other requests have their turn in between."""
        checked, pauses = [], Pauses()
        for line in lines:
            try:
                checked.append(_Checked(line, await self._read(line)))
            except RequestError as error:
                checked.append(_Checked(line, error.with_traceback(None)))  # which would keep the line twice
            if pauses.due():
                await pauses.pause()
        return checked

    async def _read(self, line: Line) -> Wanted:
        if line.text is None:
            raise Refused("payload-too-large", "the line is longer than TASKER_MAX_BODY lets a submission be")
        return await self._batch.read(line.place, line.text)

    async def _store(self, checked: Sequence[_Checked], out: _Handover) -> None:
        stored = await self._batch.submit([found for _, found in checked if isinstance(found, Wanted)])
        results, items, pauses = iter(stored), [], Pauses()
        for line, found in checked:
            items.append(self._item(line, found if isinstance(found, RequestError) else next(results)))
            if pauses.due():
                await pauses.pause()
        out.put(items)

    def _item(self, line: Line, result: Accepted | RequestError | None) -> BatchItem:
        number = UNSET if line.number is None else line.number
        if isinstance(result, RequestError):
            self.refused += 1
            problem = self.problem(result)
            return BatchItem(index=line.place, line=number, status=problem.status, problem=problem)
        self.accepted += 1
        if result is None:
            return BatchItem(index=line.place, line=number, status=204)
        replayed = True if result.replayed else UNSET
        return BatchItem(index=line.place, line=number, status=202, task_id=result.task_id, replayed=replayed)


class _Handover:
    """Items on their way from who stores to who sends, as text; whoever stores waits while there is much of it."""

    def __init__(self, media: str, held: Buffer) -> None:
        self._held = held
        self._is_lines = media == JSON_LINES
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._has_begun = False
        self._has_ended = False
        self._news = asyncio.Event()
        self._taken = asyncio.Event()

    def put(self, items: Sequence[BatchItem]) -> None:
        if self._is_lines:
            part = encode_lines(items)
        else:
            part = (b"," if self._has_begun else b'{"items":[') + encode(items)[1:-1]
        self._has_begun = True
        self._add(part)

    def end(self, summary: BatchSummary) -> None:
        text = encode(summary)
        self._add(text + b"\n" if self._is_lines else b"]," + text[1:])

    def finish(self) -> None:
        """Nothing more comes."""
        self._has_ended = True
        self._news.set()

    async def room(self) -> None:
        """Return once not too much waits."""
        while self._size > BACKLOG:
            self._taken.clear()
            await self._taken.wait()

    async def take(self) -> bytes:
        """Return what waits, or a part of it; b"" at the end."""
        while not self._parts and not self._has_ended:
            self._news.clear()
            await self._news.wait()
        parts, size = [], 0
        while self._parts and size < _AT_ONCE:
            parts.append(self._parts.popleft())
            size += len(parts[-1])
        self._size -= size
        self._held.remove(size)
        self._taken.set()
        return b"".join(parts)

    def _add(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        self._held.add(len(part))
        self._news.set()


class _Replies:
    """The chunks of the reply to a batch."""

    def __init__(self, work: _Work, media: str, held: Buffer) -> None:
        self._work = work
        self._held = held
        self._out = _Handover(media, held)
        self._first = b""
        self._task = asyncio.create_task(self._run())

    async def begin(self) -> None:
        """Wait for the first items. Raises what refuses the request as a whole."""
        try:
            self._first = await self._out.take()
            if not self._first:
                await self._task
        except BaseException:
            await self.aclose()
            raise

    def __aiter__(self) -> _Replies:
        return self

    async def __anext__(self) -> bytes:
        chunk, self._first = self._first or await self._out.take(), b""
        if not chunk:
            await self._task  # it may have a fault to tell
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Read and store no more."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._held.close()
        if not self._task.cancelled():
            self._task.exception()  # nobody is left to be told

    async def _run(self) -> None:
        try:
            self._out.end(await self._summary())
        finally:
            self._work.close()
            self._out.finish()

    async def _summary(self) -> BatchSummary:
        """Do the work and say how it ended. Raises what is wrong before the first item."""
        work, problem = self._work, None
        try:
            await work.run(self._out)
            if not work.count:
                raise Malformed("expected at least one submission")
        except RequestError as error:
            if not work.count:
                raise
            work.log(error)
            problem = work.problem(error)
        return BatchSummary(accepted=work.accepted, refused=work.refused, problem=problem or UNSET)


def batch_operations(batches: BatchOperations) -> list[Operation]:
    """Return how to submit many tasks at once."""
    return [
        Operation(
            "POST", "/batch", "submit_batch", "tasks", "Submit many tasks in one request", batches.submit,
            scope="submit",
            answers={
                200: Answer(
                    "An item for each submission as soon as it is on disk; the last line of JSON Lines is a summary.",
                    BatchReply, ("Preference-Applied",), (BatchItem, BatchSummary),
                ),
            },
            problems=(*SUBMIT_PROBLEMS, "unknown-type", "type-not-loaded", "shutting-down"),
            request_headers=("Prefer", "Idempotency-Key"), body="batch", streams=(JSON_LINES,),
        ),
    ]  # fmt: skip
