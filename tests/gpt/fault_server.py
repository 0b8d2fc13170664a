"""A model server on loopback that answers as a test wants: by OpenAI's protocol, wrongly, late, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]
USAGE = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
CHAT_USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


@dataclass
class Exchange:
    """One request, and the means to answer it. `streamed` stays open for more until `end` or `cut`."""

    path: str
    headers: dict[str, str]
    body: Any
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    async def reply(self, status: int, body: Any, **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, str) else "application/json"
        await self._head(status, {"Content-Type": kind, "Content-Length": str(len(content)), **headers})
        await self._write(content)

    async def stream(self, *events: Event) -> None:
        await self.begin()
        await self.send(*events)
        await self.end()

    async def begin(self) -> None:
        await self._head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})

    async def send(self, *events: Event) -> None:
        for event in events:
            await self.send_text(f"data: {json.dumps(event)}\n\n")

    async def send_text(self, text: str) -> None:
        await self.send_bytes(text.encode())

    async def send_bytes(self, content: bytes) -> None:
        await self._write(b"%x\r\n%b\r\n" % (len(content), content))

    async def end(self) -> None:
        await self._write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Break the connection in the middle of the answer."""
        self._writer.transport.abort()

    async def wait_for_hang_up(self) -> None:
        """Return once the client has closed the connection."""
        while await self._reader.read(1024):
            pass

    async def _head(self, status: int, headers: dict[str, str]) -> None:
        lines = [
            f"HTTP/1.1 {status} As told",
            *(f"{name}: {text}" for name, text in headers.items()),
        ]
        await self._write("\r\n".join([*lines, "", ""]).encode())

    async def _write(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()


Answer = Callable[[Exchange], Awaitable[None]]


@dataclass
class FaultServer:
    """Answers each request with the next of `answers`, and with the last one from then on."""

    answers: list[Answer]
    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        return [exchange.path for exchange in self.exchanges]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.open[task] = writer
        try:
            while (exchange := await _receive(reader, writer)) is not None:
                self.exchanges.append(exchange)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await answer(exchange)
        except ConnectionError:
            pass  # the client hung up
        finally:
            writer.close()
            del self.open[task]

    async def close(self) -> None:
        """Close all connections."""
        left = dict(self.open)
        for writer in left.values():
            writer.transport.abort()
        await asyncio.gather(*left)


async def _receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return Exchange(first.split()[1], headers, json.loads(content or b"null"), reader, writer)


@asynccontextmanager
async def fault_server(*answers: Answer) -> AsyncIterator[FaultServer]:
    server = FaultServer(list(answers))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listener.close()
        await server.close()


def delta(text: str) -> Event:
    return {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": text}


def completed(**more: Any) -> Event:
    return {
        "type": "response.completed",
        "response": {"id": "r", "status": "completed", "output": [], "usage": USAGE, **more},
    }


def incomplete(reason: str) -> Event:
    response = {
        "id": "r",
        "status": "incomplete",
        "output": [],
        "usage": USAGE,
        "incomplete_details": {"reason": reason},
    }
    return {"type": "response.incomplete", "response": response}


def failed(code: str, message: str = "no") -> Event:
    response = {
        "id": "r",
        "status": "failed",
        "output": [],
        "usage": USAGE,
        "error": {"code": code, "message": message},
    }
    return {"type": "response.failed", "response": response}


def chat_chunk(text: str | None, finish_reason: str | None = None) -> Event:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}


def chat_usage() -> Event:
    return {**chat_chunk(None), "choices": [], "usage": CHAT_USAGE}


def says(*texts: str) -> Answer:
    """Answer with a text by the Responses API."""

    async def answer(exchange: Exchange) -> None:
        await exchange.stream(*map(delta, texts), completed())

    return answer


def chats(*texts: str, finish_reason: str = "stop") -> Answer:
    """Answer with a text by Chat Completions, as OpenAI does: the usage comes last."""

    async def answer(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(*map(chat_chunk, texts), chat_chunk(None, finish_reason), chat_usage())
        await exchange.send_text("data: [DONE]\n\n")
        await exchange.end()

    return answer


def streams(*events: Event) -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.stream(*events)

    return answer


def refuses(status: int, error: Any = None, **headers: str) -> Answer:
    """Answer with an HTTP error; `error` is the body's error object, or the body itself if it is text."""
    body = error if isinstance(error, str) else {"error": error or {"message": "no"}}

    async def answer(exchange: Exchange) -> None:
        await exchange.reply(status, body, **headers)

    return answer
