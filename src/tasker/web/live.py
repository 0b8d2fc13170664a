"""Live pages: one stream of Server-Sent Events for each, with the parts whose HTML has changed.

One follower of the journal serves all pages of the process: a few times a second it tells each page what concerns it.
Parts that many pages show alike are made once for all of them (`Board`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import structlog

from tasker.api.events import SSE
from tasker.api.replies import Stream
from tasker.errors import RequestError
from tasker.model.journal import JournalEntry
from tasker.service.feed import HEARTBEAT, Batch, Feed
from tasker.web.page import Visit

EVERY = 0.25
"""Seconds between two messages to a page about its rows."""
EVERY_FIGURE = 1.0
"""Seconds between two about figures and charts."""
_STALE_AFTER = 15.0
"""Seconds after which figures are made again although nothing has happened: their window moves on."""

_log = structlog.get_logger("tasker.web")


def partial(target: str, html: str, swap: str = "outerMorph") -> str:
    """Return a part for the element with this id: in its place, or as `swap` says (`beforeend`: added to it)."""
    return f'<hx-partial hx-target="#{target}" hx-swap="{swap}">{html}</hx-partial>'


def message(parts: Iterable[str], event_id: str = "") -> bytes:
    """Return parts as one message of a stream."""
    lines = _LINE_END.split("\n".join(parts))
    head = f"id: {event_id}\n" if event_id else ""
    return (head + "".join(f"data: {line}\n" for line in lines) + "\n").encode("utf-8", "backslashreplace")


RESET = b"event: reset\ndata: \n\n"
"""Tells a page that it has missed something: it fetches its content anew."""
BEAT = b": still here\n\n"
_LINE_END = re.compile(r"\r\n|\r|\n")
"""What ends a line of a stream: a lone carriage return too."""
_HELLO = b": the parts of a page\nid: on\n\n"


class News(NamedTuple):
    """What has happened since the last time that the watchers were told. lost: entries are missing."""

    entries: Sequence[JournalEntry]
    task_ids: frozenset[UUID]
    owners: frozenset[str]
    lost: bool


class Watch:
    """What a page waits for: changes of its tasks, or of any that its caller sees.

    owner: the only one whose tasks the caller sees, None for all. tasks: None for any task.
    """

    def __init__(self, owner: str | None, tasks: Iterable[UUID] | None = None) -> None:
        self._owner = owner
        self._tasks = None if tasks is None else frozenset(tasks)
        self._changed: set[UUID] = set()
        self._event = asyncio.Event()

    def note(self, news: News) -> None:
        """Take what concerns the page; wake it."""
        if not news.lost and self._owner is not None and self._owner not in news.owners:
            return
        if self._tasks is not None:
            changed = self._tasks if news.lost else self._tasks & news.task_ids
            if not changed:
                return
            self._changed |= changed
        self._event.set()

    def wake(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for a change; return whether there was one in this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # Python 3.11's wait_for can swallow a cancellation
                await self._event.wait()
        return self._event.is_set()

    def take(self) -> set[UUID]:
        """Return the tasks that have changed, and forget them."""
        self._event.clear()
        changed, self._changed = self._changed, set()
        return changed


class Tally:
    """Counts what pages with the same filter have not seen yet. counts: tells whether an entry is one of these."""

    def __init__(self, counts: Callable[[JournalEntry], bool]) -> None:
        self._counts = counts
        self.number = 0
        self.watchers: set[Watch] = set()

    def note(self, news: News) -> None:
        more = sum(map(self._counts, news.entries))
        if more:
            self.number += more
            for watch in self.watchers:
                watch.wake()


class Pulse:
    """Follows the journal while a page is open, and tells the pages."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._watches: set[Watch] = set()
        self._tallies: dict[object, Tally] = {}
        self._entries: list[JournalEntry] = []
        self._lost = False
        self._following: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.number = 0
        """How often the pages were told: what was made for a page is new until it grows."""
        self.has_ended = False

    @contextlib.contextmanager
    def watching(self, watch: Watch) -> Iterator[Watch]:
        """Tell `watch` what happens meanwhile."""
        self._watches.add(watch)
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            if not self._watches and self._following is not None:
                self._following.cancel()
                self._following = None
                self._entries, self._lost = [], False

    @contextlib.contextmanager
    def tallying(self, key: object, counts: Callable[[JournalEntry], bool], watch: Watch) -> Iterator[Tally]:
        """Provide the tally of all pages with this key."""
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(counts)
        tally.watchers.add(watch)
        try:
            yield tally
        finally:
            tally.watchers.discard(watch)
            if not tally.watchers:
                self._tallies.pop(key, None)

    async def _follow(self) -> None:
        while not self.has_ended:
            try:
                async with contextlib.aclosing(self._feed.follow()) as batches:
                    async for batch in batches:
                        self._gather(batch)
                self.has_ended = True  # the service is stopping
                break
            except RequestError as error:  # the store is away
                _log.warning("pages.not_told", reason=error.detail)
            except Exception:  # a bug must not leave the pages with what they showed last
                _log.exception("pages.not_told")
            self._lost = True
            await asyncio.sleep(EVERY_FIGURE)
        for watch in self._watches:
            watch.wake()

    def _gather(self, batch: Batch) -> None:
        self._entries += batch.entries
        self._lost = self._lost or batch.was_reset
        if self._timer is None and (self._entries or self._lost):
            self._timer = asyncio.get_running_loop().call_later(EVERY, self._tell)

    def _tell(self) -> None:
        self._timer = None
        entries, self._entries = self._entries, []
        lost, self._lost = self._lost, False
        self.number += 1
        news = News(
            entries,
            frozenset(entry.event.task_id for entry in entries),
            frozenset(entry.owner for entry in entries),
            lost,
        )
        for watch in self._watches:
            watch.note(news)
        for tally in self._tallies.values():
            tally.note(news)


Render = Callable[[], Awaitable[Mapping[str, str]]]
"""Makes the parts of a page: the HTML of each by the id of its element."""


class Board:
    """Parts that all pages with the same key show: made at most once a second, sent where their HTML has changed."""

    def __init__(self, pulse: Pulse, owner: str | None, render: Render) -> None:
        self._pulse = pulse
        self._watch = Watch(owner)
        self._render = render
        self._parts: dict[str, tuple[int, str]] = {}
        self._arrival = asyncio.get_running_loop().create_future()
        self._keeping: asyncio.Task[None] | None = None
        self._readers = 0
        self.version = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the parts made meanwhile."""
        self._readers += 1
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            self._readers -= 1
            if not self.is_read:
                self._keeping.cancel()

    @property
    def is_read(self) -> bool:
        """Whether a page shows it."""
        return self._readers > 0

    async def _keep(self) -> None:
        """Make the parts, at first and whenever something has happened."""
        with self._pulse.watching(self._watch) as watch:
            while not self._pulse.has_ended:
                watch.take()
                await self._make()
                await asyncio.sleep(EVERY_FIGURE)
                await watch.wait(_STALE_AFTER)
        self._wake()

    async def _make(self) -> None:
        try:
            made = await self._render()
        except RequestError as error:  # the store is away: the pages keep what they show
            _log.warning("page.not_made", reason=error.detail)
            return
        except Exception:  # a bug in one part must not stop the page: it is made again with the next change
            _log.exception("page.not_made")
            return
        changed = {target: html for target, html in made.items() if self._parts.get(target, (0, ""))[1] != html}
        if changed:
            self.version += 1
            self._parts |= {target: (self.version, html) for target, html in changed.items()}
            self._wake()

    def _wake(self) -> None:
        arrival, self._arrival = self._arrival, asyncio.get_running_loop().create_future()
        if not arrival.done():
            arrival.set_result(None)

    def since(self, version: int) -> list[str]:
        """Return the parts that have changed since a version, each as it is now."""
        return [partial(target, html) for target, (at, html) in self._parts.items() if at > version]

    async def wait(self, version: int) -> None:
        """Wait for a later version, at most for a heartbeat."""
        if self.version <= version:
            await asyncio.wait([self._arrival], timeout=HEARTBEAT)


class Live:
    """The streams of pages."""

    def __init__(self, feed: Feed) -> None:
        self.pulse = Pulse(feed)
        self._boards: dict[object, Board] = {}

    def board(self, visit: Visit, key: object, render: Render) -> Stream:
        """Return the stream of a page whose parts `render` makes, once for all with the same key.

        The key must hold all that the parts depend on: the page, its query, and what its caller sees and may do.
        """
        return self.stream(visit, self._of_board(key, visit.caller.only, render))

    def stream(self, visit: Visit, chunks: AsyncGenerator[bytes, None]) -> Stream:
        """Return the stream of a page. One that comes back has missed something: it is told so at first."""
        return Stream(SSE, _begun(chunks, came_back=bool(visit.call.head.headers.get(b"last-event-id"))))

    async def _of_board(self, key: object, owner: str | None, render: Render) -> AsyncGenerator[bytes, None]:
        version = 0
        with self._reading(key, owner, render) as board:
            while not self.pulse.has_ended:
                parts, version = board.since(version), board.version
                yield message(parts) if parts else BEAT
                await board.wait(version)

    @contextlib.contextmanager
    def _reading(self, key: object, owner: str | None, render: Render) -> Iterator[Board]:
        """Provide the board of all pages with this key."""
        board = self._boards.get(key)
        if board is None:
            board = self._boards[key] = Board(self.pulse, owner, render)
        try:
            with board.reading():
                yield board
        finally:
            if not board.is_read:
                self._boards.pop(key, None)


async def _begun(chunks: AsyncGenerator[bytes, None], *, came_back: bool) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(chunks):
        yield _HELLO + RESET if came_back else _HELLO
        async for chunk in chunks:
            yield chunk
