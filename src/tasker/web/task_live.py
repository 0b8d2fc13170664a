"""The stream of a task's page: output and log are appended as they come, other parts are sent when they change.

A message has the sequence of the last event that it tells of as its id, so that a browser that comes back goes on where
it was: nothing is missing, and nothing comes twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from hashlib import blake2b
from typing import NamedTuple, cast
from uuid import UUID

from tasker.model import Event, LogLevel, Task
from tasker.model.keys import Caller
from tasker.service import Service
from tasker.web.frame import Frame
from tasker.web.live import BEAT, message, partial
from tasker.web.said import LEVELS, MOST_LINES, NOTHING, Reader, Said
from tasker.web.task_log import read_end
from tasker.web.task_view import TaskView, view_of

PARTS = ("head", "trouble", "attempts", "data", "side")
"""The macros of task_parts.html; the id of a part is `t-` and its name."""
PAUSE = 0.25
"""Least seconds between two messages."""
LOOK_AGAIN = 15.0
"""Seconds between looks at a task that has ended: it may be run again."""
_MOST_GATHERED = 1000
_MOST_BYTES = 512 * 1024
"""Events, and bytes of them, from which on a message waits no longer: a task may say 16 KiB in each."""


def digest(parts: dict[str, str]) -> str:
    """Return a short name of what parts show."""
    return blake2b("\0".join(parts.values()).encode("utf-8", "backslashreplace"), digest_size=9).hexdigest()


class Loaded(NamedTuple):
    """What the page of a task begins with.

    older_output, older_lines: the sequences before which there is more; None if there is nothing.
    """

    task: Task
    view: TaskView
    reader: Reader
    said: Said
    older_output: int | None
    older_lines: int | None


async def load(
    frame: Frame, service: Service, caller: Caller, task_id: UUID, *, level: str = LEVELS[0], before: int | None = None
) -> Loaded:
    """Return the page of a task: the end of what it has said, or what came before an event. Raises NotFound."""
    end = await read_end(service.following, caller, task_id, before)
    attempts = await service.tasks.attempts(caller, task_id)
    reader = Reader({one.attempt: one.started_at for one in attempts}, level)
    said = reader.read(end.events)
    until = before if before is not None else said.after + 1
    least: LogLevel = "debug" if level == LEVELS[0] else cast(LogLevel, level)
    log = await service.tasks.log(caller, task_id, level=least, limit=MOST_LINES, before=until)
    said = said._replace(lines=reader.lines_of(log.events))
    task = await service.waiting.explain(caller, await service.tasks.get(caller, task_id))
    view = view_of(caller, task, attempts, reader.ends, frame.clock.now())
    return Loaded(task, view, reader, said, end.before, log.before)


def make_parts(frame: Frame, view: TaskView, base: str) -> dict[str, str]:
    """Return the parts of the page that change as a whole, by name."""
    now = frame.clock.now()
    return {name: frame.part("task_parts.html", name, v=view, now=now, base=base) for name in PARTS}


class TaskStream:
    """One stream of one task's page. seen: the digest of the parts that the page has. level: see said.LEVELS."""

    def __init__(
        self, frame: Frame, service: Service, caller: Caller, task_id: UUID, *, base: str, level: str, seen: str
    ) -> None:
        self._frame = frame
        self._service = service
        self._caller = caller
        self._task_id = task_id
        self._base = base
        self._level = level
        self._seen = seen
        self._sent: dict[str, str] = {}

    async def messages(self, after: int) -> AsyncGenerator[bytes, None]:
        """Yield the stream, from the events after a sequence on, until the service stops or the task is gone."""
        loaded = await load(self._frame, self._service, self._caller, self._task_id, level=self._level)
        parts, reader = make_parts(self._frame, loaded.view, self._base), loaded.reader
        yield b": the page of a task\n\n"
        if digest(parts) == self._seen:
            self._sent = parts
        else:
            yield self._message(NOTHING, after, parts)
        while not self._service.stopping:
            following = self._service.following.follow(self._caller, self._task_id, after=after)
            async for events in gathered(following, PAUSE):
                said = reader.read(events)
                after = said.after or after
                is_due = said.is_news or not events  # what a task waits for changes without an event
                yield self._message(said, after, await self._parts(reader) if is_due else {})
            await asyncio.sleep(0 if self._service.stopping else LOOK_AGAIN)
            yield b": it has ended\n\n"

    async def _parts(self, reader: Reader) -> dict[str, str]:
        caller, task_id = self._caller, self._task_id
        attempts = await self._service.tasks.attempts(caller, task_id)
        task = await self._service.waiting.explain(caller, await self._service.tasks.get(caller, task_id))
        view = view_of(caller, task, attempts, reader.ends, self._frame.clock.now())
        return make_parts(self._frame, view, self._base)

    def _message(self, said: Said, after: int, parts: dict[str, str]) -> bytes:
        """Return a message with what was said and with the parts that differ from those sent before."""
        changed = {name: html for name, html in parts.items() if html != self._sent.get(name)}
        self._sent |= changed
        told = [partial(f"t-{name}", html) for name, html in changed.items()]
        part = self._frame.part
        if said.pieces:
            told.append(partial("out", part("task_parts.html", "output", pieces=said.pieces), "beforeend"))
        if said.lines:
            told.append(partial("log", part("task_parts.html", "log", lines=said.lines), "beforeend"))
        return message(told, str(after)) if told else BEAT


def _is_much(events: Sequence[Event]) -> bool:
    return len(events) >= _MOST_GATHERED or sum(len(memoryview(event.data)) for event in events) >= _MOST_BYTES


async def gathered(source: AsyncGenerator[list[Event], None], pause: float) -> AsyncGenerator[list[Event], None]:
    """Yield the lists of a source, joined so that at least `pause` seconds are between two; empty ones alone."""
    loop = asyncio.get_running_loop()
    batch: list[Event] = []
    due = loop.time()
    coming = asyncio.ensure_future(anext(source, None))
    try:
        while True:
            await asyncio.wait([coming], timeout=max(0.0, due - loop.time()) if batch else None)
            if coming.done():
                events = coming.result()
                if events is None:
                    break
                coming = asyncio.ensure_future(anext(source, None))
                batch += events
                if not batch:
                    yield []
            if batch and (loop.time() >= due or _is_much(batch)):
                due, told, batch = loop.time() + pause, batch, []
                yield told
        if batch:
            yield batch
    finally:
        coming.cancel()
        await asyncio.wait([coming])
        if not coming.cancelled():
            coming.exception()  # nobody awaits it any more
        await source.aclose()
