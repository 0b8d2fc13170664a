"""Carry out the calls of the client over HTTP: in a thread that blocks, or in a coroutine."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from tasker.client.core.effects import (
    NOTHING,
    Call,
    Close,
    Effect,
    Emit,
    Flow,
    Open,
    Pause,
    Pull,
    ReadLines,
    Reply,
    Request,
)
from tasker.client.core.exchange import Exchange
from tasker.client.core.lines import Lines
from tasker.client.errors import Unreachable

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:5000"
_MOST_CONNECTIONS = 500
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def find_service(url: str | None, token: str | None) -> tuple[str, str | None]:
    """Return the address and the token: those given, else TASKER_URL and TASKER_TOKEN, else this machine and none."""
    return url or os.environ.get("TASKER_URL") or DEFAULT_URL, token or os.environ.get("TASKER_TOKEN") or None


def _settings(exchange: Exchange, token: str | None) -> dict[str, Any]:
    """Return what both clients of httpx2 take."""
    parts = urlsplit(exchange.url)
    return {
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        "trust_env": parts.hostname not in _LOOPBACK,  # no proxy reaches this machine's own services
        "verify": parts.scheme == "https",  # spares plain HTTP the loading of certificates; redirects are not followed
        "limits": httpx2.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS),
    }


def _arguments(exchange: Exchange, request: Request) -> dict[str, Any]:
    """Return what httpx2 makes a request of. It waits for a free connection as long as it takes."""
    return {
        "method": request.method,
        "url": exchange.url + request.target,
        "headers": dict(request.headers),
        "content": request.content,
        "timeout": httpx2.Timeout(request.timeout, read=request.read_timeout, pool=None),
    }


def _reply(reply: httpx2.Response, start: float, content: bytes) -> Reply:
    return Reply(
        status=reply.status_code,
        phrase=reply.reason_phrase,
        url=str(reply.request.url),
        headers=reply.headers,
        content=content,
        elapsed=time.monotonic() - start,
    )


def _no_answer(exchange: Exchange, error: Exception) -> Unreachable:
    return Unreachable(exchange.url, str(error) or type(error).__name__)


@dataclass
class Last:
    """Holds the last reply."""

    reply: Reply | None = None


@dataclass(frozen=True)
class Driver:
    """Carries out calls, in the thread that asks for it. last: takes the last reply."""

    exchange: Exchange
    http: httpx2.Client
    sleep: Callable[[float], None]
    last: Last | None = None

    @classmethod
    def connect(
        cls,
        exchange: Exchange,
        token: str | None,
        transport: httpx2.BaseTransport | None,
        sleep: Callable[[float], None],
    ) -> Driver:
        return cls(exchange, httpx2.Client(transport=transport, **_settings(exchange, token)), sleep)

    def altered(self, timeout: float | None, retries: int | None) -> Driver:
        """Return a driver with other settings over the same connections."""
        return replace(self, exchange=self.exchange.altered(timeout, retries))

    def recording(self, last: Last) -> Driver:
        """Return a driver that gives `last` what comes over the same connections."""
        return replace(self, last=last)

    def run(self, call: Call[T]) -> T:
        """Carry out a call, and return its value."""
        line = _Line(self)
        go_on: Callable[[Any], Effect] = call.send
        value: Any = None
        try:
            while True:
                effect = go_on(value)
                try:
                    go_on, value = call.send, line.perform(effect)
                except Exception as error:
                    go_on, value = call.throw, error
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            del value  # an exception would hold on to this frame, and it to the exception
            line.close()

    def iterate(self, flow: Flow[T]) -> Iterator[T]:
        """Carry out a call, and yield its values as it hands them over."""
        line = _Line(self)
        go_on: Callable[[Any], Effect | Emit[T]] = flow.send
        value: Any = None
        try:
            while True:
                effect = go_on(value)
                go_on, value = flow.send, None
                if isinstance(effect, Emit):
                    yield effect.value
                    continue
                try:
                    value = line.perform(effect)
                except Exception as error:
                    go_on, value = flow.throw, error
        except StopIteration:
            return
        finally:
            del value
            line.close()


@dataclass
class _Line:
    """What one call has open: a stream, perhaps."""

    driver: Driver
    reply: httpx2.Response | None = None
    pieces: Iterator[bytes] | None = None
    lines: Lines = field(default_factory=Lines)

    def perform(self, effect: Effect) -> Any:
        match effect:
            case Request():
                return self.send(effect)
            case ReadLines():
                return self.read()
            case Open():
                return self.open(effect.request)
            case Close():
                return self.close()
            case Pause():
                return self.driver.sleep(effect.seconds)
            case Pull():
                return next(effect.source, NOTHING)

    def send(self, request: Request) -> Reply:
        driver, start = self.driver, time.monotonic()
        try:
            reply = driver.http.request(**_arguments(driver.exchange, request))
        except httpx2.RequestError as error:
            raise _no_answer(driver.exchange, error) from None
        return self.note(_reply(reply, start, reply.content))

    def open(self, request: Request) -> Reply:
        self.close()
        driver, start = self.driver, time.monotonic()
        try:
            self.reply = driver.http.send(
                driver.http.build_request(**_arguments(driver.exchange, request)), stream=True
            )
            content = self.reply.read() if self.reply.status_code >= 300 else b""
        except httpx2.RequestError as error:
            raise _no_answer(driver.exchange, error) from None
        self.pieces, self.lines = self.reply.iter_bytes(), Lines()
        return self.note(_reply(self.reply, start, content))

    def read(self) -> list[bytes] | None:
        assert self.pieces is not None, "no stream is open"
        try:
            return self.lines.add(next(self.pieces))
        except StopIteration:
            return None
        except httpx2.RequestError as error:
            raise _no_answer(self.driver.exchange, error) from None

    def close(self) -> None:
        if self.reply is not None:
            self.reply.close()
            self.reply = None

    def note(self, reply: Reply) -> Reply:
        if self.driver.last is not None:
            self.driver.last.reply = reply
        return reply


@dataclass(frozen=True)
class AsyncDriver:
    """Carries out calls in the coroutine that asks for it. last: takes the last reply."""

    exchange: Exchange
    http: httpx2.AsyncClient
    sleep: Callable[[float], Awaitable[None]]
    last: Last | None = None

    @classmethod
    def connect(
        cls,
        exchange: Exchange,
        token: str | None,
        transport: httpx2.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[None]],
    ) -> AsyncDriver:
        return cls(exchange, httpx2.AsyncClient(transport=transport, **_settings(exchange, token)), sleep)

    def altered(self, timeout: float | None, retries: int | None) -> AsyncDriver:
        """Return a driver with other settings over the same connections."""
        return replace(self, exchange=self.exchange.altered(timeout, retries))

    def recording(self, last: Last) -> AsyncDriver:
        """Return a driver that gives `last` what comes over the same connections."""
        return replace(self, last=last)

    async def run(self, call: Call[T]) -> T:
        """Carry out a call, and return its value."""
        line = _AsyncLine(self)
        go_on: Callable[[Any], Effect] = call.send
        value: Any = None
        try:
            while True:
                effect = go_on(value)
                try:
                    go_on, value = call.send, await line.perform(effect)
                except Exception as error:
                    go_on, value = call.throw, error
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            del value
            await line.close()

    async def iterate(self, flow: Flow[T]) -> AsyncIterator[T]:
        """Carry out a call, and yield its values as it hands them over."""
        line = _AsyncLine(self)
        go_on: Callable[[Any], Effect | Emit[T]] = flow.send
        value: Any = None
        try:
            while True:
                effect = go_on(value)
                go_on, value = flow.send, None
                if isinstance(effect, Emit):
                    yield effect.value
                    continue
                try:
                    value = await line.perform(effect)
                except Exception as error:
                    go_on, value = flow.throw, error
        except StopIteration:
            return
        finally:
            del value
            await line.close()


@dataclass
class _AsyncLine:
    """What one call has open: a stream, perhaps."""

    driver: AsyncDriver
    reply: httpx2.Response | None = None
    pieces: AsyncIterator[bytes] | None = None
    lines: Lines = field(default_factory=Lines)

    async def perform(self, effect: Effect) -> Any:
        match effect:
            case Request():
                return await self.send(effect)
            case ReadLines():
                return await self.read()
            case Open():
                return await self.open(effect.request)
            case Close():
                return await self.close()
            case Pause():
                return await self.driver.sleep(effect.seconds)
            case Pull():
                return await _next(effect.source)

    async def send(self, request: Request) -> Reply:
        driver, start = self.driver, time.monotonic()
        try:
            reply = await driver.http.request(**_arguments(driver.exchange, request))
        except httpx2.RequestError as error:
            raise _no_answer(driver.exchange, error) from None
        return self.note(_reply(reply, start, reply.content))

    async def open(self, request: Request) -> Reply:
        await self.close()
        driver, start = self.driver, time.monotonic()
        try:
            wanted = driver.http.build_request(**_arguments(driver.exchange, request))
            self.reply = await driver.http.send(wanted, stream=True)
            content = await self.reply.aread() if self.reply.status_code >= 300 else b""
        except httpx2.RequestError as error:
            raise _no_answer(driver.exchange, error) from None
        self.pieces, self.lines = self.reply.aiter_bytes(), Lines()
        return self.note(_reply(self.reply, start, content))

    async def read(self) -> list[bytes] | None:
        assert self.pieces is not None, "no stream is open"
        try:
            return self.lines.add(await anext(self.pieces))
        except StopAsyncIteration:
            return None
        except httpx2.RequestError as error:
            raise _no_answer(self.driver.exchange, error) from None

    async def close(self) -> None:
        if self.reply is not None:
            reply, self.reply = self.reply, None
            await reply.aclose()

    def note(self, reply: Reply) -> Reply:
        if self.driver.last is not None:
            self.driver.last.reply = reply
        return reply


def iterate(rows: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
    """Return what yields the rows, one by one."""
    return aiter(rows) if isinstance(rows, AsyncIterable) else iter(rows)


async def _next(source: Any) -> Any:
    return await anext(source, NOTHING) if hasattr(source, "__anext__") else next(source, NOTHING)
