"""A proxy between a process and its database that breaks their link on purpose, at the worst points of the protocol.

It reads just enough of PostgreSQL's protocol to see what is about to commit: an explicit COMMIT, or a write outside of
a transaction, which commits by itself. What a client sends is held back until it is a whole unit (up to Sync, Flush or
Query), so a unit arrives whole or not at all.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from tests.server import hold_port

Mode = Literal["pass", "half_open", "refuse"]

_ENCRYPTION_REQUESTS = {80877103, 80877104}  # SSLRequest, GSSENCRequest
_COMMIT = re.compile(r"\s*(COMMIT|END)\b", re.IGNORECASE)
_BEGIN = re.compile(r"\s*(BEGIN|START)\b", re.IGNORECASE)
_WRITE = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|CALL)\b", re.IGNORECASE)


class Cut:
    """Which commits are cut off, and when: before they reach the database, or after, so that only the reply is lost."""

    def __init__(
        self, when: Literal["before", "after"], statement: str, times: int, chance: float, holds: bool
    ) -> None:
        self.when = when
        self.holds = holds
        self.left = times
        self._statement = re.compile(statement, re.IGNORECASE)
        self._chance = chance

    def applies(self, transaction: list[str]) -> bool:
        """Tell whether this commit is cut off, and count it if so."""
        is_meant = any(self._statement.search(text) for text in transaction)
        if self.left < 1 or not is_meant or random.random() >= self._chance:
            return False
        self.left -= 1
        return True


class Proxy:
    """A listener on `host`, in a thread of its own, that passes on to the database of `url`.

    `mode`, `delay` (seconds before each unit is passed on) and `reset_chance` (of a reset instead of a
    unit) may be set at any time. `seen` counts the commits, `cut_off` those that were, `held` those that stand still.
    """

    def __init__(self, url: str, host: str = "127.0.0.1") -> None:
        self._target = urlsplit(url)
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: set[_Link] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._cut: Cut | None = None
        self.mode: Mode = "pass"
        self.delay = 0.0
        self.reset_chance = 0.0
        self.seen = 0
        self.cut_off = 0
        self.held = 0
        self.resets = 0
        self.port = 0

    def __enter__(self) -> Proxy:
        self._held = hold_port(self._host)  # also while connections are refused
        self.port = self._held.getsockname()[1]
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._settle())
        self._loop.close()
        self._held.close()

    @property
    def url(self) -> str:
        """The database's URL by way of this proxy."""
        return urlunsplit(self._target._replace(netloc=f"postgres@{self._host}:{self.port}"))

    @property
    def links(self) -> int:
        """The number of open connections."""
        return len(self._links)

    def cut(
        self, when: Literal["before", "after"], statement: str = "", *, times: int = 1, chance: float = 1.0,
        hold: bool = False,
    ) -> None:  # fmt: skip
        """Cut off the next commits of transactions in which a statement matches.

        hold: instead of a reset, stop there silently, and keep the connection until it is dropped.
        """
        self._cut = Cut(when, statement, times, chance, hold)

    def half_open(self) -> None:
        """Pass nothing on, and keep every connection, like a link that has died silently."""
        self.mode = "half_open"

    def refuse(self) -> None:
        """Reset every connection, and take no new one."""
        self.mode = "refuse"
        self._do(self._stop_listening())
        self.drop_all()

    def heal(self) -> None:
        """Pass on again; held connections continue where they stopped."""
        was, self.mode = self.mode, "pass"
        self.delay, self.reset_chance, self._cut = 0.0, 0.0, None
        if was == "refuse":
            self._do(self._listen())

    def drop_all(self) -> None:
        """Reset all connections."""
        self._do(self._drop_all())

    def commits(self, transaction: list[str]) -> Cut | None:
        """Count a commit; return what cuts it off, if anything does."""
        self.seen += 1
        if self._cut is not None and self._cut.applies(transaction):
            self.cut_off += 1
            return self._cut
        return None

    def resets_now(self) -> bool:
        if random.random() >= self.reset_chance:
            return False
        self.resets += 1
        return True

    async def passing(self) -> None:
        """Wait until data may be passed on."""
        while self.mode == "half_open":
            await asyncio.sleep(0.01)

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, self._host, self.port, backlog=1000)

    async def _stop_listening(self) -> None:
        """Accept nothing more; what was accepted gets its transport first, for a closed server leaves it open."""
        if self._server is not None:
            for listener in self._server.sockets:
                self._loop.remove_reader(listener.fileno())
            await asyncio.sleep(0.01)
            self._server.close()
            self._server = None

    async def _drop_all(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _close(self) -> None:
        self.mode = "pass"
        await self._stop_listening()
        await asyncio.sleep(0.01)  # what was accepted a moment ago has its handler now
        await self._drop_all()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await asyncio.sleep(0.01)  # a transport is closed in the turn after its abort

    async def _settle(self) -> None:
        """End what is still on its way, and let every transport be closed: it is closed some turns after its abort."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0.02)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        if self._server is None:  # accepted in its last moment
            return _abort(writer)
        self._handlers.add(handler)
        try:
            await self.passing()
            upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
            link = _Link(self, (reader, writer), upstream)
            self._links.add(link)
            try:
                await link.run()
            finally:
                _abort(upstream[1])
                self._links.discard(link)
        except (OSError, asyncio.CancelledError):
            pass  # it cannot be reached, or it is all over: the client sees a reset
        finally:
            _abort(writer)
            self._handlers.discard(handler)


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection, followed message by message."""

    def __init__(self, proxy: Proxy, client: _Streams, server: _Streams) -> None:
        self._proxy = proxy
        self._client, self._server = client, server
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._unit: list[bytes] = []
        self._texts: list[str] = []  # what the current unit executes
        self._transaction: list[str] = []  # what the current transaction has executed
        self._is_idle = True
        self._drop_reply: Cut | None = None

    async def run(self) -> None:
        """Pass on both ways until one side ends or the proxy cuts."""
        pumps = [asyncio.create_task(self._upwards()), asyncio.create_task(self._downwards())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.reset()

    def reset(self) -> None:
        _abort(self._client[1])
        _abort(self._server[1])

    async def _upwards(self) -> None:
        reader, writer = self._client[0], self._server[1]
        with suppress(asyncio.IncompleteReadError, OSError):
            await self._greet(reader, writer)
            while True:
                kind = await reader.readexactly(1)
                size = await reader.readexactly(4)
                body = await reader.readexactly(struct.unpack("!I", size)[0] - 4)
                self._unit.append(kind + size + body)
                self._note(kind, body)
                if kind not in b"PBEDC":  # Sync, Query, Flush...: the unit is whole
                    await self._pass_unit(writer, ends_transaction=kind in b"SQ")

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on the start, which has no kind; a request for encryption before it is declined."""
        while True:
            size = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!I", size)[0] - 4)
            await self._proxy.passing()
            if struct.unpack("!I", body[:4])[0] not in _ENCRYPTION_REQUESTS:
                writer.write(size + body)
                return
            self._client[1].write(b"N")

    def _note(self, kind: bytes, body: bytes) -> None:
        """Remember which SQL is executed."""
        match kind:
            case b"P":
                name, text, _ = body.split(b"\0", 2)
                self._statements[name] = text.decode()
            case b"B":
                portal, name, _ = body.split(b"\0", 2)
                self._portals[portal] = self._statements.get(name, "")
            case b"E":
                self._texts.append(self._portals.get(body.split(b"\0", 1)[0], ""))
            case b"Q":
                self._texts += body.rstrip(b"\0").decode().split(";")

    async def _pass_unit(self, writer: asyncio.StreamWriter, *, ends_transaction: bool) -> None:
        unit, self._unit = self._unit, []
        await asyncio.sleep(self._proxy.delay)
        await self._proxy.passing()
        if self._proxy.resets_now():
            raise ConnectionResetError
        self._transaction += self._texts
        if ends_transaction and self._will_commit():
            cut = self._proxy.commits(self._transaction)
            if cut is not None and cut.when == "before":
                await self._cut_off(cut)
            self._drop_reply = cut
        if ends_transaction:
            self._texts = []
        writer.write(b"".join(unit))
        await writer.drain()

    def _will_commit(self) -> bool:
        if any(_COMMIT.match(text) for text in self._texts):
            return True
        is_alone = self._is_idle and not any(_BEGIN.match(text) for text in self._texts)
        return is_alone and any(_WRITE.search(text) for text in self._texts)

    async def _downwards(self) -> None:
        reader, writer = self._server[0], self._client[1]
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
                await self._proxy.passing()
                if head[:1] == b"Z":
                    await self._unit_is_done(is_idle=body == b"I")
                if self._drop_reply is None:
                    writer.write(head + body)
                    await writer.drain()

    async def _unit_is_done(self, *, is_idle: bool) -> None:
        if self._drop_reply is not None:
            await self._cut_off(self._drop_reply)
        self._is_idle = is_idle
        if is_idle:
            self._transaction = []

    async def _cut_off(self, cut: Cut) -> None:
        if cut.holds:
            self._proxy.held += 1
            await asyncio.Event().wait()  # until the other direction ends
        raise ConnectionResetError


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset, as the death of the other machine would."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
