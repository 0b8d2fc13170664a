"""The operations on events: what happens to a task, as it happens, as Server-Sent Events or as JSON Lines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from tasker.api.accepts import choose
from tasker.api.buffers import PIECE
from tasker.api.calls import Call, Parameter, one_of, whole
from tasker.api.operation import Answer, get, ok
from tasker.api.replies import Header, Reply, Stream, empty_reply, encode, encode_task, json_reply, sees_tracebacks
from tasker.errors import Invalid
from tasker.model import LOG_LEVELS, Event, Status, Task
from tasker.model.keys import Caller
from tasker.service import Service
from tasker.wire import events as wire

SSE, JSON_LINES = "text/event-stream", "application/jsonl"
STREAMS = (SSE, JSON_LINES)
_MAX_SEQUENCE = 2**31 - 1
_ON_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
ENDS = frozenset(status.value for status in Status if status.is_terminal)

_AFTER = Parameter(
    "after",
    "Begin after the event with this sequence; `Last-Event-ID` takes precedence.",
    {"type": "integer", "minimum": 0, "default": 0},
    whole(0, _MAX_SEQUENCE),
)


DEFAULT_TAIL = 100
MAX_TAIL = 1000
LOG_PARAMETERS = (
    Parameter(
        "tail",
        f"The most records; default {DEFAULT_TAIL}, and never more than {MAX_TAIL}. Large ones: fewer.",
        {"type": "integer", "minimum": 1, "default": DEFAULT_TAIL},
        whole(1, MAX_TAIL),
    ),
    Parameter(
        "level",
        "Only records of this level, or a higher one.",
        {"type": "string", "enum": list(LOG_LEVELS), "default": LOG_LEVELS[0]},
        one_of(*LOG_LEVELS),
    ),
    Parameter(
        "before",
        "Only records with a lower sequence: `before` of the last answer, for older ones.",
        {"type": "integer", "minimum": 1},
        whole(1, _MAX_SEQUENCE),
    ),
)


class _Envelope(Struct, frozen=True):
    """The fields that every event has."""

    task_id: UUID
    sequence: int
    type: str
    time: datetime
    attempt: int


class EventOperations:
    """Stream what happens to a task."""

    tag = "events"

    def __init__(self, service: Service) -> None:
        self._tasks = service.tasks
        self._following = service.following

    @get(
        "/task/{task_id}/events",
        "Follow what happens to a task",
        {
            200: Answer("Its events as they happen, the last one with the Task.", item=wire.Event),
            204: Answer("It has ended, and the client has its last event."),
        },
        problems=("expired",),
        parameters=(_AFTER,),
        request_headers=("Last-Event-ID",),
        media=SSE,
        streams=(JSON_LINES,),
    )
    async def follow_task(self, call: Call) -> Reply | Stream:
        """Stream a task's log. If nothing more will come, 204 keeps an EventSource from asking again."""
        query = call.query()
        caller, task_id = call.caller, call.task_id()
        task = await self._tasks.get(caller, task_id)
        after = _last_event_id(call)
        after = query.get("after", 0) if after is None else after
        if after and task.status.is_terminal and not await self._following.events(caller, task_id, after=after):
            return empty_reply(204)
        media = choose(call.head.headers.get(b"accept"), STREAMS) or SSE
        return self.stream(caller, task_id, media, after=after)

    @get(
        "/task/{task_id}/log",
        "Read the end of a task's log",
        ok("The last records, oldest first.", wire.LogPage),
        problems=("expired",),
        parameters=LOG_PARAMETERS,
    )
    async def read_log(self, call: Call) -> Reply:
        query = {"tail": DEFAULT_TAIL} | call.query()
        task_id, level = call.task_id(), query.get("level", LOG_LEVELS[0])
        page = await self._tasks.log(call.caller, task_id, level=level, limit=query["tail"], before=query.get("before"))
        return json_reply(wire.LogPage(items=[_log_entry(event) for event in page.events], before=page.before))

    def stream(
        self, caller: Caller, task_id: UUID, media: str, *, after: int = 0, headers: tuple[Header, ...] = ()
    ) -> Stream:
        """Return a stream of a task's events after the sequence `after`, until the task has ended."""
        chunks = (self._as_sse if media == SSE else self._as_lines)(caller, task_id, after)
        return Stream(media, chunks, headers)

    async def _as_sse(self, caller: Caller, task_id: UUID, after: int) -> AsyncGenerator[bytes, None]:
        """Format events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        yield b": the events of a task\n\n"
        async for events in self._following.follow(caller, task_id, after=after):
            frames = [(b"id: %d\nevent: %b\ndata: " % (event.sequence, event.type.encode()), event) for event in events]
            async for chunk in self._joined(caller, frames, b"\n\n"):
                yield chunk
            if not events:
                yield b": still here\n\n"

    async def _as_lines(self, caller: Caller, task_id: UUID, after: int) -> AsyncGenerator[bytes, None]:
        yield b"\n"  # readers skip blank lines; this one sends the reply's head through proxies at once
        async for events in self._following.follow(caller, task_id, after=after):
            async for chunk in self._joined(caller, [(b"", event) for event in events], b"\n"):
                yield chunk
            if not events:
                yield b"\n"

    async def _joined(
        self, caller: Caller, frames: Sequence[tuple[bytes, Event]], end: bytes
    ) -> AsyncGenerator[bytes, None]:
        """Yield encoded events with their frames, several together while they are small."""
        parts: list[bytes] = []
        size = 0
        for begin, event in frames:
            parts += (begin, await self._encode(caller, event), end)
            size += len(parts[-2])
            if size > PIECE:
                chunk, size = [b"".join(parts)], 0
                parts.clear()
                yield chunk.pop()
        if parts:
            yield b"".join(parts)

    async def _encode(self, caller: Caller, event: Event) -> bytes:
        """Return an event as one line of JSON; the last event of a run has its task."""
        task = None
        if event.type in ENDS:
            found = await self._tasks.find(caller, event.task_id)
            is_same = found is not None and found.status == event.type and found.attempt == event.attempt
            task = found if is_same else None  # it may have been run again or erased since
        return encode_event(event, task, tracebacks=sees_tracebacks(caller))


def encode_event(event: Event, task: Task | None, *, tracebacks: bool, cursor: str | None = None) -> bytes:
    """Return an event as one line of JSON: the common fields, then those of its type.

    task: the task as it ended, for its last event. cursor: the event's place in the stream of all tasks.
    """
    head = encode(_Envelope(event.task_id, event.sequence, event.type, event.time, event.attempt))
    more = bytes(event.data)[1:-1].strip()
    if task is not None:
        # Params are stored as they were sent, perhaps over several lines.
        more = b'"task":' + encode_task(task, tracebacks=tracebacks).translate(_ON_ONE_LINE)
    parts = [
        head[:-1],
        *([b'"cursor":"%b"' % cursor.encode()] if cursor is not None else ()),
        *([more] if more else ()),
    ]
    return b",".join(parts) + b"}"


def _log_entry(event: Event) -> wire.LogEntry:
    said = msgspec.json.decode(event.data, type=dict[str, Any])
    fields = said.get("fields")
    return wire.LogEntry(
        sequence=event.sequence,
        attempt=event.attempt,
        time=event.time,
        level=str(said.get("level", "")),  # an archive may bring anything
        message=str(said.get("message", "")),
        fields=fields if isinstance(fields, dict) else {},
    )


def _last_event_id(call: Call) -> int | None:
    """Return the sequence in Last-Event-ID, where a returning client left off. Raises Invalid."""
    given = call.head.headers.get(b"last-event-id")
    if given is None or not given:
        return None
    try:
        return int(whole(0, _MAX_SEQUENCE)(given.decode("latin-1")))
    except ValueError as error:
        raise Invalid(f"Last-Event-ID: {error}") from None
