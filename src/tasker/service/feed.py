"""The use case of following the events of all tasks: read once per process, sent to each follower at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import structlog

from tasker.engines.protocol import JournalStore
from tasker.errors import Unavailable
from tasker.model.journal import JournalEntry
from tasker.service.cursors import Cursors, Seal
from tasker.service.hub import Hub

HEARTBEAT = 15.0
"""Seconds after which a stream without events sends a sign of life: proxies cut off silent connections."""
OLDEST = "oldest"
"""The cursor before the oldest event that is kept."""

_PAGE = 500
_WINDOW_BATCHES, _WINDOW_SIZE = 200, 8 << 20
"""How many of the latest batches are kept in memory for followers, and how many bytes of them."""
_ENTRY_SIZE = 2000
"""Approximate bytes of an entry besides its event's data and its task."""
_PACE, _PACE_OF_ONE = 0.02, 0.00005
"""Seconds between reads, and seconds added for each follower: many followers need larger batches to keep up."""
_POLL = 0.2
"""Seconds between reads of a shared store: other processes notify only of what somebody waits for."""
_AFTER_A_FAULT = 1.0
_OWN_READS = 4
"""Limit of concurrent reads by followers that are behind the window."""

_log = structlog.get_logger(__name__)


class Batch:
    """Entries that were read together, and the cursors before and after them. Without entries it is a heartbeat.

    was_reset: the entries asked for are no longer kept; the next batch begins with the oldest that is.
    """

    __slots__ = ("_forms", "after", "cursor", "entries", "size", "was_reset")

    def __init__(self, after: str, entries: Sequence[JournalEntry], cursor: str, *, was_reset: bool = False) -> None:
        self.after = after
        self.entries = entries
        self.cursor = cursor
        self.was_reset = was_reset
        self.size = sum(_ENTRY_SIZE + entry.size for entry in entries)
        """About how many bytes it takes, with all its encoded forms."""
        self._forms: dict[Any, bytes] = {}

    def form(self, key: Any, make: Callable[[], bytes]) -> bytes:
        """Return the result of `make`, an encoding of the batch or a part of it, which is cached by `key`."""
        made = self._forms.get(key)
        if made is None:
            made = self._forms[key] = make()
            self.size += len(made)
        return made

    def behind(self, cursor: str) -> Batch | None:
        """Return the rest of the batch after the entry with this cursor; None if the cursor is not in the batch."""
        for place, entry in enumerate(self.entries, start=1):
            if entry.cursor == cursor:
                return Batch(cursor, self.entries[place:], self.cursor)
        return None


class Feed:
    """Follows the journal. One shared reader serves all followers that are up to date; others read for themselves."""

    def __init__(self, journal: JournalStore, hub: Hub, cursors: Cursors, *, is_shared: bool) -> None:
        self._cursors = cursors
        self._journal = journal
        self._hub = hub
        self._poll = _POLL if is_shared else HEARTBEAT
        self._own_reads = asyncio.Semaphore(_OWN_READS)
        self._under_way: dict[str, asyncio.Task[Batch]] = {}
        self._window = _Window()
        self._followers = 0
        self._reading: asyncio.Task[None] | None = None

    async def seal(self) -> Seal:
        """Return what seals and opens clients' cursors. Raises Unavailable."""
        return await self._cursors.of("event", "/after")

    async def open(self, sealed: str) -> str:
        """Return the journal's cursor for a client's. Raises Invalid for one that this service never gave out."""
        return sealed if sealed == OLDEST else (await self.seal()).open(sealed)

    async def follow(self, after: str | None = None) -> AsyncGenerator[Batch, None]:
        """Yield what happens after a cursor (None: from now on) until the service stops.

        Nothing is buffered for a slow follower: it falls behind and reads from disk. While nothing happens, an empty
        batch comes every HEARTBEAT seconds. Raises Invalid, Unavailable.
        """
        with self._followed():
            cursor = after if after is not None else await self._start()
            while not self._hub.closed:
                arrival = self._window.arrival
                batch = await self._next(cursor)
                if batch is None:
                    await asyncio.wait([arrival], timeout=HEARTBEAT)
                    if not arrival.done():
                        yield Batch(cursor, (), cursor)
                    continue
                cursor, found = batch.cursor, [batch]
                del batch  # while a slow follower sends it, nothing is held here
                if found[0].entries or found[0].was_reset:
                    yield found.pop()

    async def _start(self) -> str:
        """Return the cursor of the shared reader, so that this follower joins it."""
        while (newest := self._window.newest) is None and not self._hub.closed:
            await asyncio.wait([self._window.arrival], timeout=_AFTER_A_FAULT)
        return newest or OLDEST

    async def _next(self, cursor: str) -> Batch | None:
        """Return the batch after a cursor; None if there is none, or the shared reader will read it."""
        if cursor == self._window.newest:
            return None
        batch = self._window.find(cursor) or await self._read_alone(cursor)
        return None if batch.cursor == cursor and not batch.was_reset else batch

    async def _read_alone(self, cursor: str) -> Batch:
        """Read for a follower that is behind; followers at the same cursor share the read."""
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
        """Keep the shared reader running while there are followers."""
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
            except Exception:  # a bug: all followers depend on this one reader, so it must not end
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
        self._arrival: asyncio.Future[None] | None = None
        self._batches: deque[Batch] = deque()
        self._by_cursor: dict[str, Batch] = {}

    @property
    def arrival(self) -> asyncio.Future[None]:
        """A future that is done when the next batch is added, the first cursor is known, or the reader has ended."""
        if self._arrival is None:
            self._arrival = asyncio.get_running_loop().create_future()
        return self._arrival

    def begin(self, cursor: str) -> None:
        self.newest = cursor
        self._wake()

    def end(self) -> None:
        """Wake all followers, as the reader has ended."""
        self._wake()

    def add(self, batch: Batch) -> None:
        self._batches.append(batch)
        for cursor in _cursors(batch):
            self._by_cursor[cursor] = batch
        size = sum(
            one.size for one in self._batches
        )  # summed again each time: batches in the window grow with their forms
        while len(self._batches) > 1 and (len(self._batches) > _WINDOW_BATCHES or size > _WINDOW_SIZE):
            size -= self._drop()
        self.newest = batch.cursor
        self._wake()

    def find(self, cursor: str) -> Batch | None:
        """Return the batch after a cursor; None if it is not in the window."""
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

    def _wake(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)


def _cursors(batch: Batch) -> list[str]:
    """Return the cursors after which a batch has entries."""
    return [batch.after, *(entry.cursor for entry in batch.entries[:-1])]
