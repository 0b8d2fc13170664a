"""Send one request to a receiver: only to a checked address, without redirects, limited in time and size."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from ipaddress import ip_address
from socket import SOCK_STREAM, gaierror, getaddrinfo
from typing import Any
from urllib.parse import urljoin

import httpcore2

from tasker.clock import Clock
from tasker.model.webhooks import Failure
from tasker.rules.urls import Target, UnsafeUrl, UrlRules, check_addresses, read_url
from tasker.webhooks.failures import explain_failure, printable
from tasker.webhooks.rules import Answer

WITHIN = 10.0
"""Seconds in all for name lookup, connection, TLS, request and the head of the answer."""
_CONNECT_WITHIN = 3.0
_MOST_ADDRESSES = 4
_MOST_LOOKUPS = 32
"""Limit of concurrent name lookups: each takes a thread, for half a minute if the name server is dead."""
_DRAIN_BYTES, _DRAIN_SECONDS = 16 << 10, 1.0
"""How much of an answer's body is read and thrown away, so that the receiver can finish."""

Resolve = Callable[[str], Awaitable[list[str]]]
_FAULTS = (httpcore2.NetworkError, httpcore2.ProtocolError, OSError, ValueError)


class Sender:
    """Sends messages. resolve: finds the addresses of a name; ssl_context: for tests, which have their own names."""

    def __init__(
        self,
        rules: UrlRules,
        clock: Clock,
        *,
        agent: str,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
        within: float = WITHIN,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._agent = agent
        self._ssl_context = ssl_context
        self._within = within
        self._network = _CheckedNetwork(rules, resolve or Resolver())

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send one message and return the result; never raises. headers: override the usual ones."""
        begun = self._clock.monotonic()
        status, retry_after, failure = await self._try(url, headers, body)
        return Answer(duration=self._clock.monotonic() - begun, status=status, retry_after=retry_after, failure=failure)

    async def aclose(self) -> None:
        """Close open connections."""
        if "_pool" in self.__dict__:
            await self._pool.aclose()

    @cached_property
    def _pool(self) -> httpcore2.AsyncConnectionPool:
        # A connection for each message: its address has just been checked.
        return httpcore2.AsyncConnectionPool(
            ssl_context=self._ssl_context or httpcore2.default_ssl_context(),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=self._network,
        )

    async def _try(
        self, url: str, headers: dict[str, str], body: bytes
    ) -> tuple[int | None, str | None, Failure | None]:
        try:
            async with asyncio.timeout(self._within) as limit:
                target = read_url(url, self._rules)  # the rules may have changed since the URL was stored
                return await self._request(target, headers, body, limit)
        except UnsafeUrl as error:
            return None, None, _failure("unsafe-url", printable(str(error)))
        except (TimeoutError, httpcore2.TimeoutException):
            return None, None, _failure("timeout", f"no answer within {self._within:g} s")
        except gaierror as error:
            return None, None, _failure("connection", printable(f"the name could not be resolved: {error.strerror}"))
        except _FAULTS as error:
            return None, None, _failure("connection", explain_failure(error))

    async def _request(
        self, target: Target, headers: dict[str, str], body: bytes, limit: asyncio.Timeout
    ) -> tuple[int | None, str | None, Failure | None]:
        url = httpcore2.URL(
            scheme=target.scheme, host=target.host, port=target.port, target=target.path.encode("ascii")
        )
        own = {
            "host": target.authority,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "user-agent": self._agent,
            "accept": "*/*",
            "connection": "close",
        }
        async with self._pool.stream("POST", url, headers=list((own | headers).items()), content=body) as response:
            limit.reschedule(None)  # the receiver has answered; reading the rest has its own time limit
            head = {name.lower(): value.decode("latin-1") for name, value in reversed(response.headers)}
            await _drain(response)
            failure = self._redirect(target, response.status, head.get(b"location"))
            return response.status, head.get(b"retry-after"), failure

    def _redirect(self, target: Target, status: int, location: str | None) -> Failure | None:
        """Return the failure for a redirect, which is never followed; None if the answer is no redirect."""
        if not 300 <= status < 400 or location is None:
            return None
        try:
            read_url(urljoin(target.url, location), self._rules)
        except ValueError:  # its text would reveal the target
            return _failure("unsafe-url", f"the receiver answered {status}, a redirect to where no webhook may lead")
        return _failure("redirect", f"the receiver answered {status}; redirects are not followed")


async def _drain(response: httpcore2.Response) -> None:
    """Read a little of the body, and throw it away."""
    size = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for chunk in response.aiter_stream():
                size += len(chunk)
                if size > _DRAIN_BYTES:
                    return
    except (TimeoutError, httpcore2.NetworkError, httpcore2.ProtocolError):
        return  # the head of the answer has come


def _failure(name: Any, detail: str) -> Failure:
    return Failure(name=name, detail=detail)


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to a name only if all of its addresses are allowed, and only to one of these addresses."""

    def __init__(self, rules: UrlRules, resolve: Resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = check_addresses(await self._addresses(host), self._rules)
        *others, last = addresses[:_MOST_ADDRESSES]
        for address in others:
            try:
                return await self._inner.connect_tcp(address, port, timeout=_CONNECT_WITHIN)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(last, port)

    async def _addresses(self, host: str) -> list[str]:
        try:
            return [str(ip_address(host))]
        except ValueError:
            return await self._resolve(host)

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        raise UnsafeUrl("expected a host")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class Resolver:
    """Looks names up in daemon threads: a dead name server must not delay the service's stop."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_MOST_LOOKUPS)

    async def __call__(self, name: str) -> list[str]:
        """Return the addresses of a name, each once. Raises OSError."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[str]] = loop.create_future()

        def done(addresses: list[str] | None, error: Exception | None) -> None:
            self._free.release()
            if found.cancelled():
                return
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(addresses or [])

        def look_up() -> None:
            addresses: list[str] | None = None
            fault: Exception | None = None
            try:
                addresses = list(dict.fromkeys(str(row[4][0]) for row in getaddrinfo(name, None, type=SOCK_STREAM)))
            except (OSError, UnicodeError) as error:
                fault = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, addresses, fault)

        try:
            threading.Thread(target=look_up, name="tasker-lookup", daemon=True).start()
        except RuntimeError as error:  # no thread is available now: the next try may get one
            self._free.release()
            raise OSError(str(error)) from error
        return await found
