"""The events of all tasks for all who follow them in this process: read once, and told to each at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import structlog

from tasker.engines.protocol import Engine
from tasker.errors import Unavailable
from tasker.model.journal import JournalEntry
from tasker.service.cursors import Cursors, Seal
from tasker.service.hub import Hub

HEARTBEAT = 15.0
"""Seconds after which a stream that has nothing to tell says so: proxies cut off what is silent for long."""
OLDEST = "oldest"
"""The cursor before all that is kept."""

_PAGE = 500
_WINDOW_BATCHES, _WINDOW_SIZE = 200, 8 << 20
"""So many of the latest batches, and so many bytes of them, are in memory for those who follow."""
_ENTRY_SIZE = 2000
"""About how many bytes an entry takes beside what the event says and its task."""
_PACE, _PACE_OF_ONE = 0.02, 0.00005
"""Seconds between reads, and more for each follower: many are told more at a time, or they would not keep up."""
_POLL = 0.2
"""Seconds between looks where other processes write: they tell of ends and words alone."""
_AFTER_A_FAULT = 1.0
_OWN_READS = 4
"""So many followers that are behind the window read at a time."""

_log = structlog.get_logger(__name__)


class Batch:
    """Entries that were read together, and the cursors before and behind them. No entries: nothing has come for long.

    was_reset: what was asked for is not kept any more; it goes on with the oldest that is, in the next batch.
    """

    __slots__ = ("_forms", "after", "cursor", "entries", "size", "was_reset")

    def __init__(self, after: str, entries: Sequence[JournalEntry], cursor: str, *, was_reset: bool = False) -> None:
        self.after = after
        self.entries = entries
        self.cursor = cursor
        self.was_reset = was_reset
        self.size = sum(_ENTRY_SIZE + entry.size for entry in entries)
        """About how many bytes it has, in all the forms that were made of it."""
        self._forms: dict[Any, bytes] = {}

    def form(self, key: Any, make: Callable[[], bytes]) -> bytes:
        """Return what `make` makes of the batch, or a part of it: made once for all who ask for it by this key."""
        made = self._forms.get(key)
        if made is None:
            made = self._forms[key] = make()
            self.size += len(made)
        return made

    def behind(self, cursor: str) -> Batch | None:
        """Return the rest of the batch behind one of its entries; None if that is not in it."""
        for place, entry in enumerate(self.entries, start=1):
            if entry.cursor == cursor:
                return Batch(cursor, self.entries[place:], self.cursor)
        return None


class Feed:
    """What happens to tasks. One reading of the journal serves all who are up to date; who is behind reads himself."""

    def __init__(self, engine: Engine, hub: Hub, cursors: Cursors) -> None:
        self._cursors = cursors
        self._journal = engine.journal
        self._hub = hub
        self._poll = _POLL if engine.is_shared else HEARTBEAT
        self._own_reads = asyncio.Semaphore(_OWN_READS)
        self._under_way: dict[str, asyncio.Task[Batch]] = {}
        self._window = _Window()
        self._followers = 0
        self._reading: asyncio.Task[None] | None = None

    async def seal(self) -> Seal:
        """Return what makes cursors as clients are given them. Raises Unavailable."""
        return await self._cursors.of("event", "/after")

    async def open(self, sealed: str) -> str:
        """Return the cursor to follow from of a client's. Raises Invalid for one that this service never gave out."""
        return sealed if sealed == OLDEST else (await self.seal()).open(sealed)

    async def follow(self, after: str | None = None) -> AsyncGenerator[Batch, None]:
        """Yield what happens behind a cursor, None: from now on, without end, until the service stops.

        Nothing is kept for the follower: while it is slow, it is further and further behind, on disk. Of those who
        have nothing to tell, an empty batch comes every HEARTBEAT seconds. Raises Invalid, Unavailable.
        """
        with self._followed():
            cursor = after if after is not None else await self._start()
            while not self._hub.closed:
                news = self._window.news
                batch = await self._next(cursor)
                if batch is None:
                    await asyncio.wait([news], timeout=HEARTBEAT)
                    if not news.done():
                        yield Batch(cursor, (), cursor)
                    continue
                cursor, found = batch.cursor, [batch]
                del batch  # while a slow follower sends it, nothing is held here
                if found[0].entries or found[0].was_reset:
                    yield found.pop()

    async def _start(self) -> str:
        """Return the cursor of now: that of the common reading, so that this one joins it."""
        while (newest := self._window.newest) is None and not self._hub.closed:
            await asyncio.wait([self._window.news], timeout=_AFTER_A_FAULT)
        return newest or OLDEST

    async def _next(self, cursor: str) -> Batch | None:
        """Return what is behind a cursor; None if nothing is, or the common reading will bring it."""
        if cursor == self._window.newest:
            return None
        batch = self._window.find(cursor) or await self._read_alone(cursor)
        return None if batch.cursor == cursor and not batch.was_reset else batch

    async def _read_alone(self, cursor: str) -> Batch:
        """Read for a follower who is behind; those who are at the same place share it."""
        task = self._under_way.get(cursor)
        if task is None:
            task = self._under_way[cursor] = asyncio.create_task(self._read(cursor))
            task.add_done_callback(lambda _: self._under_way.pop(cursor))
        return await asyncio.shield(task)

    async def _read(self, cursor: str) -> Batch:
        async with self._own_reads:
            page = await self._journal.read(None if cursor == OLDEST else cursor, limit=_PAGE)
        return Batch(cursor, page.entries, page.cursor, was_reset=page.was_reset)

    @contextlib.contextmanager
    def _followed(self) -> Iterator[None]:
        """Have the journal read for as long as anybody follows."""
        self._followers += 1
        if self._reading is None:
            self._reading = asyncio.create_task(self._keep_reading(self._window))
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers and self._reading is not None:
                self._reading.cancel()
                self._reading, self._window = None, _Window()

    async def _keep_reading(self, window: _Window) -> None:
        cursor: str | None = None
        while not self._hub.closed:
            try:
                if cursor is None:
                    cursor = await self._journal.tail()
                    window.begin(cursor)
                cursor = await self._read_on(window, cursor)
            except Unavailable as error:
                _log.warning("feed.not_read", reason=error.detail)
                await asyncio.sleep(_AFTER_A_FAULT)
            except Exception:  # a fault of ours: all who follow wait for this one reader, and it must not end
                _log.exception("feed.not_read")
                await asyncio.sleep(_AFTER_A_FAULT)
        window.end()

    async def _read_on(self, window: _Window, cursor: str) -> str:
        with self._hub.anything() as changed:
            page = await self._journal.read(cursor, limit=_PAGE)
            if page.cursor == cursor:
                await asyncio.wait([changed], timeout=self._poll)
                return cursor
        window.add(Batch(cursor, page.entries, page.cursor, was_reset=page.was_reset))
        await asyncio.sleep(_PACE + _PACE_OF_ONE * self._followers)
        return page.cursor


class _Window:
    """The latest batches, in order."""

    def __init__(self) -> None:
        self.newest: str | None = None
        self._news: asyncio.Future[None] | None = None
        self._batches: deque[Batch] = deque()
        self._by_cursor: dict[str, Batch] = {}

    @property
    def news(self) -> asyncio.Future[None]:
        """A future that is done when a further batch is there, the first cursor is known, or none will come."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def begin(self, cursor: str) -> None:
        self.newest = cursor
        self._tell()

    def end(self) -> None:
        """Wake everybody: no batch will come."""
        self._tell()

    def add(self, batch: Batch) -> None:
        self._batches.append(batch)
        for cursor in _cursors(batch):
            self._by_cursor[cursor] = batch
        size = sum(one.size for one in self._batches)  # counted anew: forms are made of batches that are here
        while len(self._batches) > 1 and (len(self._batches) > _WINDOW_BATCHES or size > _WINDOW_SIZE):
            size -= self._drop()
        self.newest = batch.cursor
        self._tell()

    def find(self, cursor: str) -> Batch | None:
        """Return what is behind a cursor, if it is here."""
        batch = self._by_cursor.get(cursor)
        if batch is None or batch.after == cursor:
            return batch
        return batch.behind(cursor)

    def _drop(self) -> int:
        """Forget the oldest batch; return its size."""
        batch = self._batches.popleft()
        for cursor in _cursors(batch):
            if self._by_cursor.get(cursor) is batch:
                del self._by_cursor[cursor]
        return batch.size

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)


def _cursors(batch: Batch) -> list[str]:
    """Return the cursors behind which a batch has something."""
    return [batch.after, *(entry.cursor for entry in batch.entries[:-1])]
