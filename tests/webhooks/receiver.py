"""A receiver of webhooks in the test's own process: it keeps the requests, and answers as the test asks."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """Return a whole answer."""
    lines = [f"HTTP/1.1 {status} Said", *headers, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class Heard:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """answers: the reply to each request, the last one for all later ones; None does not answer, and stays connected.

    judge: makes the reply from the request instead.
    """

    port: int = 0
    judge: Callable[[Heard], bytes] | None = None
    answers: list[bytes | None] = field(default_factory=lambda: [OK])
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0
    names: list[str | None] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, count: int) -> list[Heard]:
        """Return the requests, once there are `count`."""
        async with asyncio.timeout(30):
            while len(self.heard) < count:
                self.news.clear()
                await self.news.wait()
        return self.heard

    def _answer(self, heard: Heard) -> bytes | None:
        if self.judge is not None:
            return self.judge(heard)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.serving.add(asyncio.current_task())  # type: ignore[arg-type]
        said: bytes | None = None
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.heard.append(Heard(first.split(" ")[1], headers, body))
            self.news.set()
            said = self._answer(self.heard[-1])
            if said is None:
                await reader.read()
            else:
                writer.write(said)
                await writer.drain()
        writer.transport.abort() if said is None or len(said) > 100_000 else writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver on 127.0.0.1."""
    receiver = Receiver()
    if tls is not None:
        tls.sni_callback = lambda _object, name, _context: receiver.names.append(name)  # type: ignore[assignment]
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in receiver.serving:
            task.cancel()
        if receiver.serving:
            await asyncio.wait(receiver.serving)
        for _ in range(3):  # the loop's turns until their sockets are closed
            await asyncio.sleep(0)
