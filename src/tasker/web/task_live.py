"""The stream of a task's page: output and log are appended as they come, other parts are sent when they change.

A message has the sequence of the last event that it tells of as its id, so that a browser that comes back goes on where
it was: nothing is missing, and nothing comes twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple, cast
from uuid import UUID

from tasker.errors import Conflict
from tasker.model import Event, LogLevel, Task
from tasker.model.keys import Caller
from tasker.model.steps import Step
from tasker.service import Service
from tasker.web.asks import Sent
from tasker.web.children import find_first
from tasker.web.frame import Frame
from tasker.web.live import BEAT, message, partial
from tasker.web.said import LEVELS, MOST_LINES, NOTHING, Reader, Said
from tasker.web.task_log import read_end
from tasker.web.task_view import Sources, TaskView, view_of

PARTS = ("head", "asks", "trouble", "attempts", "steps", "children", "data", "side")
"""The macros of task_parts.html and step_parts.html; the id of a part is `t-` and its name."""
_WITH_TOKEN = frozenset({"asks", "steps"})
"""Parts with forms of their own."""
_OF_STEPS = frozenset({"asks", "steps", "children"})
PAUSE = 0.25
"""Least seconds between two messages."""
LOOK_AGAIN = 15.0
"""Seconds between looks at a task that has ended: it may be run again."""
LOOK_AT_CHILDREN = 1.0
"""Seconds between looks at a task whose children go on: their ends are no events of it."""
_REST = 20
"""How many times as long as it takes to make the parts nothing is made after it."""
_MOST_GATHERED = 1000
_MOST_BYTES = 512 * 1024
"""Events, and bytes of them, from which on a message waits no longer: a task may say 16 KiB in each."""


_TIME = re.compile(r"(<time [^>]*>)[^<]*")


def stable(html: str) -> str:
    """Return HTML without relative times: these go on in the browser, and change by themselves."""
    return _TIME.sub(r"\1", html)


def digest(parts: dict[str, str]) -> str:
    """Return a short name of what parts show."""
    text = "\0".join(map(stable, parts.values()))
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=9).hexdigest()


class Loaded(NamedTuple):
    """What the page of a task begins with.

    older_output, older_lines: the sequences before which there is more; None if there is nothing.
    """

    sources: Sources
    view: TaskView
    reader: Reader
    said: Said
    older_output: int | None
    older_lines: int | None


async def find_sources(service: Service, caller: Caller, task_id: UUID, reader: Reader) -> Sources:
    """Return what the page of a task is made of. Raises NotFound."""
    attempts = await service.tasks.attempts(caller, task_id)
    task = await service.waiting.explain(caller, await service.tasks.get(caller, task_id))
    steps = await _find_steps(service, caller, task) if attempts else []
    children = await find_first(service, caller, task)
    return Sources(task, attempts, reader.ends, steps, reader.running, children)


async def _find_steps(service: Service, caller: Caller, task: Task) -> list[Step]:
    """Return the last steps of a task, and the question that it asks though it has done many since."""
    steps = await service.steps.find(caller, task.task_id)
    if task.input is not None and not any(step.kind == "input" and step.finished_at is None for step in steps):
        with contextlib.suppress(Conflict):  # it was answered meanwhile
            steps.insert(0, await service.steps.question(caller, task.task_id))
    return steps


async def load(
    frame: Frame,
    service: Service,
    caller: Caller,
    task_id: UUID,
    *,
    level: str = LEVELS[0],
    before: int | None = None,
    sent: Sent | None = None,
) -> Loaded:
    """Return the page of a task: the end of what it has said, or what came before an event. Raises NotFound."""
    end = await read_end(service.following, caller, task_id, before)
    attempts = await service.tasks.attempts(caller, task_id)
    reader = Reader({one.attempt: one.started_at for one in attempts}, level)
    said = reader.read(end.events)
    until = before if before is not None else said.after + 1
    least: LogLevel = "debug" if level == LEVELS[0] else cast(LogLevel, level)
    log = await service.tasks.log(caller, task_id, level=least, limit=MOST_LINES, before=until)
    of_steps = [line for line in said.lines if line.is_step]
    lines = sorted([*reader.lines_of(log.events), *of_steps], key=lambda line: line.sequence)
    said = said._replace(lines=lines[-MOST_LINES:])
    sources = await find_sources(service, caller, task_id, reader)
    view = view_of(caller, sources._replace(sent=sent), frame.clock.now())
    return Loaded(sources, view, reader, said, end.before, log.before)


def make_parts(frame: Frame, view: TaskView, base: str, token: str) -> dict[str, str]:
    """Return the parts of the page that change as a whole, by name. token: of the forms in them."""
    parts: dict[str, str] = {}
    for name in PARTS:
        own = {"token": token} if name in _WITH_TOKEN else {}
        template = "step_parts.html" if name in _OF_STEPS else "task_parts.html"
        parts[name] = frame.part(template, name, v=view, now=view.now, base=base, **own)
    return parts


class TaskStream:
    """One stream of one task's page. seen: the digest of the parts that the page has. level: see said.LEVELS.

    token: of the forms in its parts.
    """

    def __init__(
        self,
        frame: Frame,
        service: Service,
        caller: Caller,
        task_id: UUID,
        *,
        base: str,
        level: str,
        seen: str,
        token: str = "",
    ) -> None:
        self._frame = frame
        self._service = service
        self._caller = caller
        self._task_id = task_id
        self._base = base
        self._level = level
        self._seen = seen
        self._token = token
        self._sent: dict[str, str] = {}
        self._has_open_children = False
        self._took = 0.0

    async def messages(self, after: int) -> AsyncGenerator[bytes, None]:
        """Yield the stream, from the events after a sequence on, until the service stops or the task is gone."""
        loaded = await load(self._frame, self._service, self._caller, self._task_id, level=self._level)
        parts, reader = self._made(loaded.view), loaded.reader
        yield b": the page of a task\n\n"
        if digest(parts) == self._seen:
            self._sent = {name: stable(html) for name, html in parts.items()}
        else:
            yield self._message(NOTHING, after, parts)
        while not self._service.stopping:
            following = self._service.following.follow(self._caller, self._task_id, after=after)
            async for events in gathered(following, self._pause, self._beat):
                said = reader.read(events)
                after = said.after or after
                is_due = said.is_news or not events  # what a task waits for changes without an event
                yield self._message(said, after, await self._parts(reader) if is_due else {})
            await asyncio.sleep(0 if self._service.stopping else LOOK_AGAIN)
            yield b": it has ended\n\n"

    async def _parts(self, reader: Reader) -> dict[str, str]:
        began = time.perf_counter()
        sources = await find_sources(self._service, self._caller, self._task_id, reader)
        made = self._made(view_of(self._caller, sources, self._frame.clock.now()))
        self._took = time.perf_counter() - began
        return made

    def _made(self, view: TaskView) -> dict[str, str]:
        self._has_open_children = view.has_open_children
        return make_parts(self._frame, view, self._base, self._token)

    def _pause(self) -> float:
        """Return the least seconds until the next message: longer where parts take long, as with thousands of steps."""
        return max(PAUSE, _REST * self._took)

    def _beat(self) -> float | None:
        """Return the seconds after which parts are made again though nothing was said."""
        return max(LOOK_AT_CHILDREN, _REST * self._took) if self._has_open_children else None

    def _message(self, said: Said, after: int, parts: dict[str, str]) -> bytes:
        """Return a message with what was said and with the parts that differ from those sent before."""
        changed = {name: html for name, html in parts.items() if stable(html) != self._sent.get(name)}
        self._sent |= {name: stable(html) for name, html in changed.items()}
        told = [partial(f"t-{name}", html) for name, html in changed.items()]
        part = self._frame.part
        if said.pieces:
            told.append(partial("out", part("task_parts.html", "output", pieces=said.pieces), "beforeend"))
        if said.lines:
            told.append(partial("log", part("task_parts.html", "log", lines=said.lines), "beforeend"))
        return message(told, str(after)) if told else BEAT


def _is_much(events: Sequence[Event]) -> bool:
    return len(events) >= _MOST_GATHERED or sum(len(memoryview(event.data)) for event in events) >= _MOST_BYTES


async def gathered(
    source: AsyncGenerator[list[Event], None],
    pause: Callable[[], float],
    beat: Callable[[], float | None] = lambda: None,
) -> AsyncGenerator[list[Event], None]:
    """Yield the lists of a source, joined so that at least `pause()` seconds are between two; empty ones alone.

    beat: the seconds after which an empty list is yielded if nothing comes, None for never.
    """
    loop = asyncio.get_running_loop()
    batch: list[Event] = []
    due = loop.time()
    coming = asyncio.ensure_future(anext(source, None))
    try:
        while True:
            done, _ = await asyncio.wait([coming], timeout=max(0.0, due - loop.time()) if batch else beat())
            if not (done or batch):
                yield []
            if coming.done():
                events = coming.result()
                if events is None:
                    break
                coming = asyncio.ensure_future(anext(source, None))
                batch += events
                if not batch:
                    yield []
            if batch and (loop.time() >= due or _is_much(batch)):
                due, told, batch = loop.time() + pause(), batch, []
                yield told
        if batch:
            yield batch
    finally:
        coming.cancel()
        await asyncio.wait([coming])
        if not coming.cancelled():
            coming.exception()  # nobody awaits it any more
        await source.aclose()
