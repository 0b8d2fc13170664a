"""POST /batch: many submissions in one request, each answered as soon as it is stored.

Reading, storing and answering overlap but wait for each other, so that memory is bounded however large the body is:
while one chunk is stored only the next one is read, and none while the client leaves too many replies unread.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import UNSET

from tasker.api.accepts import choose
from tasker.api.bodies import log_body_fault
from tasker.api.buffers import Buffer
from tasker.api.calls import VALIDATED, Call, Parameter, idempotency_key, prefers_validation
from tasker.api.events import JSON_LINES
from tasker.api.lines import ArraySource, Line, LineSource, Pieces, Source
from tasker.api.operation import SUBMIT_PROBLEMS, TYPE_PROBLEMS, ok, post
from tasker.api.problems import Refused, to_problem
from tasker.api.replies import Head, Header, Stream, encode, encode_lines
from tasker.errors import Malformed, RequestError
from tasker.model import group_name_pattern
from tasker.service import Accepted, Batch, Service, Wanted
from tasker.service.pauses import Pauses
from tasker.wire.batches import BatchItem, BatchReply, BatchSummary
from tasker.wire.problems import Problem

JSON = "application/json"
_NAME = re.compile(group_name_pattern)
BATCH_LINES = (b"application/jsonl", b"application/x-ndjson")
"""Media types of a batch in lines."""
BACKLOG = 16 << 20
"""Bytes of replies that may wait for a client that sends everything before it reads."""
_AT_ONCE = 256 << 10
"""Bytes of replies that fill one chunk."""


def _group_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("expected 1 to 100 letters, digits, `_`, `.` or `-`, the first a letter, a digit or `_`")
    return text


_GROUP = Parameter(
    "group",
    "The group of the tasks, for submissions that name none.",
    {"type": "string", "pattern": group_name_pattern},
    _group_name,
)


class _Checked(NamedTuple):
    line: Line
    found: Wanted | RequestError


class BatchOperations:
    """Submit many tasks. max_line: bytes of one submission. max_size: bytes of a body that comes in lines."""

    tag = "tasks"

    def __init__(self, service: Service, *, max_line: int, max_size: int) -> None:
        self._service = service
        self._max_line = max_line
        self._max_size = max_size

    @post(
        "/batch",
        "Submit many tasks in one request",
        ok(
            "An item for each submission as soon as it is on disk; the last line of JSON Lines is a summary.",
            BatchReply,
            ("Preference-Applied",),
            item=(BatchItem, BatchSummary),
        ),
        scope="submit",
        problems=(*SUBMIT_PROBLEMS, *TYPE_PROBLEMS, "shutting-down"),
        parameters=(_GROUP,),
        request_headers=("Prefer", "Idempotency-Key"),
        body="batch",
        streams=(JSON_LINES,),
    )
    async def submit_batch(self, call: Call) -> Stream:
        group = call.query().get("group")
        key, media = idempotency_key(call), call.media
        offered = (JSON_LINES, JSON) if media.encode() in BATCH_LINES else (JSON, JSON_LINES)
        reply_media = choose(call.head.headers.get(b"accept"), offered) or offered[0]
        source = await self._source(call, media)
        is_check = prefers_validation(call)
        batch = self._service.batches.begin(call.caller, key, dry_run=is_check, group=group)
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
        """Hand over the items of all chunks, in order. While one is stored, the next is read and checked."""
        storing: asyncio.Task[None] | None = None
        try:
            while lines := await self._source.chunk():
                checked = await self._check(lines)
                if storing is not None:
                    await storing
                storing = asyncio.create_task(self._store(checked, out))
                await out.drained()
        finally:
            if storing is not None:
                await asyncio.wait([storing])
        if storing is not None:
            storing.result()

    @property
    def count(self) -> int:
        """The number of answered submissions."""
        return self.accepted + self.refused

    def close(self) -> None:
        self._source.close()
        self._batch.end()

    def log(self, error: RequestError) -> None:
        """Log why the body ended early: it is too late for a problem reply."""
        log_body_fault(error, self._head)

    def problem(self, error: RequestError) -> Problem:
        return to_problem(error, self._head.request_id)

    async def _check(self, lines: Sequence[Line]) -> list[_Checked]:
        """Read the submissions, with pauses for other requests."""
        checked, pauses = [], Pauses()
        for line in lines:
            try:
                checked.append(_Checked(line, await self._read(line)))
            except RequestError as error:
                checked.append(_Checked(line, error.with_traceback(None)))  # a traceback would keep the line twice
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
    """Encoded items between the storing and the sending task; `drained` makes the storing one wait for the client."""

    def __init__(self, media: str, held: Buffer) -> None:
        self._held = held
        self._is_lines = media == JSON_LINES
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._has_begun = False
        self._has_ended = False
        self._added = asyncio.Event()
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
        """Note that nothing more will come."""
        self._has_ended = True
        self._added.set()

    async def drained(self) -> None:
        """Wait until no more than BACKLOG bytes wait."""
        while self._size > BACKLOG:
            self._taken.clear()
            await self._taken.wait()

    async def take(self) -> bytes:
        """Return a chunk of what waits; b"" at the end."""
        while not self._parts and not self._has_ended:
            self._added.clear()
            await self._added.wait()
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
        self._added.set()


class _Replies:
    """The chunks of the reply to a batch; a task of its own makes them."""

    def __init__(self, work: _Work, media: str, held: Buffer) -> None:
        self._work = work
        self._held = held
        self._out = _Handover(media, held)
        self._first = b""
        self._task = asyncio.create_task(self._run())

    async def begin(self) -> None:
        """Wait for the first items. Raises a refusal of the request as a whole."""
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
            await self._task  # raises its error, if any
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Stop reading and storing."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._held.close()
        if not self._task.cancelled():
            self._task.exception()  # retrieved, or asyncio would log it; the client is gone

    async def _run(self) -> None:
        try:
            self._out.end(await self._summary())
        finally:
            self._work.close()
            self._out.finish()

    async def _summary(self) -> BatchSummary:
        """Do the work and return its summary. Raises an error that comes before the first item."""
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
