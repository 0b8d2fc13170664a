"""GET /events: what happens to all tasks, as it happens, as Server-Sent Events or as JSON Lines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple
from uuid import UUID

from tasker.api.accepts import choose
from tasker.api.calls import Call, Parameter, choices_parameter, text_of, text_parameter, uuid_of
from tasker.api.events import JSON_LINES, SSE, STREAMS, encode_event
from tasker.api.operation import get, ok
from tasker.api.replies import Stream, encode, sees_tracebacks
from tasker.model.events import EVENT_TYPES
from tasker.model.journal import JournalEntry
from tasker.model.keys import Caller
from tasker.service.cursors import Seal
from tasker.service.feed import HEARTBEAT, OLDEST, Batch, Feed
from tasker.wire.events import Event, Reset

_MAX_CURSOR = 100
_SOME = {"type": "string", "minLength": 1}

FEED_PARAMETERS = (
    Parameter(
        "after",
        f"Begin after the event with this id (`cursor`); `{OLDEST}`: with the oldest that is kept. By default, with"
        " what happens from now on. `Last-Event-ID` takes precedence.",
        _SOME,
        text_of(_MAX_CURSOR),
    ),
    choices_parameter("event", "Only events of these types; repeated or separated by commas.", EVENT_TYPES),
    Parameter(
        "task_id",
        "Only of these tasks; repeated or separated by commas.",
        {"type": "array", "items": {"type": "string", "format": "uuid"}},
        uuid_of,
        many=True,
    ),
    text_parameter("type", "Only of tasks of this type."),
    text_parameter("queue", "Only of tasks of this queue."),
    text_parameter("tag", "Only of tasks with this tag."),
)


class _Selection(NamedTuple):
    """Which events a client is sent: those that match every given field, among those that it may see."""

    caller: Caller
    events: frozenset[str]
    task_ids: frozenset[UUID]
    type: str | None
    queue: str | None
    tag: str | None

    @property
    def is_all(self) -> bool:
        return self.caller.only is None and not any(self[1:])

    def has(self, entry: JournalEntry) -> bool:
        return (
            self.caller.sees(entry.owner)
            and (not self.events or entry.event.type in self.events)
            and (not self.task_ids or entry.event.task_id in self.task_ids)
            and self.type in (None, entry.type)
            and self.queue in (None, entry.queue)
            and (self.tag is None or self.tag in entry.tags)
        )


class FeedOperations:
    """Stream what happens to all tasks."""

    tag = "events"

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    @get(
        "/events",
        "Follow what happens to all tasks",
        ok("Events as they happen, without end.", item=(Event, Reset)),
        parameters=FEED_PARAMETERS,
        request_headers=("Last-Event-ID",),
        media=SSE,
        streams=(JSON_LINES,),
    )
    async def follow_all(self, call: Call) -> Stream:
        """Stream what happens, from where the client left off."""
        query = call.query()
        after = call.head.headers.get(b"last-event-id", b"").decode("latin-1") or query.get("after")
        if after is not None:
            after = await self._feed.open(after)
        seal = await self._feed.seal()
        selection = _Selection(
            caller=call.caller,
            events=frozenset(query.get("event", ())),
            task_ids=frozenset(query.get("task_id", ())),
            type=query.get("type"),
            queue=query.get("queue"),
            tag=query.get("tag"),
        )
        media = choose(call.head.headers.get(b"accept"), STREAMS) or SSE
        return Stream(media, self._chunks(media, selection, after, seal))

    async def _chunks(
        self, media: str, selection: _Selection, after: str | None, seal: Seal
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        writer = _Writer(media, seal, tracebacks=sees_tracebacks(selection.caller))
        sent_at = loop.time()
        yield b": the events of all tasks\n\n" if media == SSE else b"\n"
        async with contextlib.aclosing(self._feed.follow(after)) as batches:
            async for batch in batches:
                chunk = writer.write(batch, selection)
                if not chunk and loop.time() - sent_at >= HEARTBEAT - 0.5:  # many events, none of them for this client
                    chunk = writer.heartbeat(batch.cursor)
                del batch  # do not hold it while the client reads
                if chunk:
                    out = [chunk]
                    del chunk
                    yield out.pop()
                    sent_at = loop.time()


class _Writer:
    """Encodes batches of events in one media type, with or without tracebacks."""

    def __init__(self, media: str, seal: Seal, *, tracebacks: bool) -> None:
        self._is_sse = media == SSE
        self._seal = seal
        self._tracebacks = tracebacks

    def write(self, batch: Batch, selection: _Selection) -> bytes:
        """Return the events of a batch that are selected."""
        if batch.was_reset:
            return self._reset(batch.cursor)
        if selection.is_all:
            return batch.form((self._is_sse, self._tracebacks), lambda: self._join(batch, batch.entries))
        return self._join(batch, [entry for entry in batch.entries if selection.has(entry)])

    def heartbeat(self, cursor: str) -> bytes:
        """Return a heartbeat; its id, without data, lets the client resume here.

        The id gets a new salt, so that it does not reveal whether events that the client may not see happened.
        """
        if not self._is_sse:
            return b"\n"
        return b": still here\nid: %b\n\n" % self._seal.close(cursor, anew=True).encode()

    def _join(self, batch: Batch, entries: Sequence[JournalEntry]) -> bytes:
        return b"".join([self._event(batch, entry) for entry in entries])

    def _event(self, batch: Batch, entry: JournalEntry) -> bytes:
        return batch.form((entry.cursor, self._is_sse, self._tracebacks), lambda: self._encode(entry))

    def _encode(self, entry: JournalEntry) -> bytes:
        cursor = self._seal.close(entry.cursor)
        data = encode_event(entry.event, entry.task, tracebacks=self._tracebacks, cursor=cursor)
        return self._frame(cursor, entry.event.type, data)

    def _reset(self, cursor: str) -> bytes:
        detail = "events are missing here: they are no longer kept; the stream continues with the oldest that are"
        sealed = self._seal.close(cursor)
        return self._frame(sealed, "reset", encode(Reset(cursor=sealed, detail=detail)))

    def _frame(self, cursor: str, type_: str, data: bytes) -> bytes:
        if not self._is_sse:
            return data + b"\n"
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor.encode(), type_.encode(), data)
