"""Requests to receivers: only to the checked address, bounded, and never redirected."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import httpcore2
import pytest
import trustme
from tests.webhooks.receiver import Receiver, answer, receiving

from tasker.clock import SystemClock
from tasker.rules.urls import UrlRules
from tasker.webhooks.sender import Resolve, Resolver, Sender

INSECURE = UrlRules(insecure=True)


def make_sender(
    rules: UrlRules = INSECURE,
    *,
    resolve: Resolve | None = None,
    ssl_context: ssl.SSLContext | None = None,
    within: float = 10,
) -> Sender:
    return Sender(rules, SystemClock(), agent="Tasker/test", resolve=resolve, ssl_context=ssl_context, within=within)


def resolving(*answers: list[str]) -> Resolve:
    """Return a resolver that gives these answers one after the other."""
    rest = list(answers)

    async def resolve(_: str) -> list[str]:
        return rest.pop(0)

    return resolve


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def test_a_message_arrives_unchanged(receiver: Receiver) -> None:
    sender = make_sender()
    said = await sender.post(receiver.url + "?a=b", {"webhook-id": "evt_1"}, b'{"type":"x"}')
    assert (said.status, said.failure) == (200, None)
    assert 0 <= said.duration < 5
    [heard] = receiver.heard
    assert (heard.path, heard.body) == ("/hook?a=b", b'{"type":"x"}')
    assert heard.headers["webhook-id"] == "evt_1"
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert heard.headers["user-agent"] == "Tasker/test"
    assert heard.headers["connection"] == "close"


@pytest.mark.parametrize("status", [201, 204, 400, 404, 410, 429, 500, 503])
async def test_the_status_is_returned(receiver: Receiver, status: int) -> None:
    receiver.answers = [answer(status, "retry-after: 7", body=b"" if status == 204 else b"words")]
    said = await make_sender().post(receiver.url, {}, b"{}")
    assert (said.status, said.retry_after, said.failure) == (status, "7", None)


async def test_tls_verifies_the_name_and_connects_to_the_checked_address() -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example.com").configure_cert(tls)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trusting)
    async with receiving(tls) as receiver:
        asked: list[str] = []

        async def resolve(name: str) -> list[str]:
            asked.append(name)
            return ["127.0.0.1"]

        sender = make_sender(resolve=resolve, ssl_context=trusting)
        said = await sender.post(f"https://hooks.example.com:{receiver.port}/", {}, b"{}")
        assert (said.status, said.failure) == (200, None)
        assert asked == ["hooks.example.com"]
        assert receiver.names == ["hooks.example.com"]
        assert receiver.heard[0].headers["host"] == f"hooks.example.com:{receiver.port}"
        said = await sender.post(f"https://other.example.com:{receiver.port}/", {}, b"{}")
        assert said.failure is not None
        assert said.failure.name == "connection"
        assert "certificate" in said.failure.detail
        assert len(receiver.heard) == 1


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], []]
)
async def test_a_name_with_an_internal_address_is_not_connected_to(receiver: Receiver, addresses: list[str]) -> None:
    sender = make_sender(UrlRules(), resolve=resolving(addresses))
    said = await sender.post(f"https://rebound.example.com:{receiver.port}/", {}, b"{}")
    assert said.failure is not None
    assert said.failure.name == "unsafe-url"
    assert receiver.connections == 0


async def test_a_name_is_resolved_once_for_a_request(receiver: Receiver) -> None:
    """Its later addresses are not asked for."""
    sender = make_sender(UrlRules(), resolve=resolving(["192.0.2.1"]))
    said = await sender.post(f"https://rebound.example.com:{receiver.port}/", {}, b"{}")
    assert said.failure is not None
    sender = make_sender(INSECURE, resolve=resolving(["127.0.0.1"]))  # a second question would raise IndexError
    said = await sender.post(f"http://rebound.example.com:{receiver.port}/", {}, b"{}")
    assert (said.status, receiver.connections) == (200, 1)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/", "http://1.1.1.1:{port}/", "https://[::1]:{port}/", "https://localhost.:{port}/"]
)
async def test_a_stored_url_is_checked_again(receiver: Receiver, url: str) -> None:
    said = await make_sender(UrlRules()).post(url.format(port=receiver.port), {}, b"{}")
    assert said.failure is not None
    assert said.failure.name == "unsafe-url"
    assert receiver.connections == 0


@pytest.mark.parametrize(
    "location", ["https://169.254.169.254/x", "file:///etc/passwd", "https://x.example.com:22/", "http://0x7f.1/"]
)
async def test_a_redirect_to_an_unsafe_address_is_a_failure(receiver: Receiver, location: str) -> None:
    receiver.answers = [answer(302, f"location: {location}")]
    sender = make_sender(UrlRules(insecure=True, hosts=("127.0.0.1",)))
    said = await sender.post(receiver.url, {}, b"{}")
    assert said.failure is not None
    assert (said.status, said.failure.name, receiver.connections) == (302, "unsafe-url", 1)
    assert said.failure.detail == "the receiver answered 302, a redirect to where no webhook may lead"


async def test_a_redirect_to_an_internal_address_is_not_followed(receiver: Receiver) -> None:
    async with receiving() as inside:
        receiver.answers = [answer(302, f"location: {inside.url}")]
        said = await make_sender().post(receiver.url, {}, b"{}")
        assert (said.status, inside.connections) == (302, 0)


async def test_no_other_redirect_is_followed_either(receiver: Receiver) -> None:
    receiver.answers = [answer(307, "location: /elsewhere")]
    said = await make_sender().post(receiver.url, {}, b"{}")
    assert said.failure is not None
    assert (said.status, said.failure.name, receiver.connections) == (307, "redirect", 1)


@pytest.mark.parametrize("location", ["//[", "x" * 1000 + "://example.com"])
async def test_a_redirect_to_no_url_is_an_unsafe_one(receiver: Receiver, location: str) -> None:
    receiver.answers = [answer(300, f"location: {location}")]
    said = await make_sender().post(receiver.url, {}, b"{}")
    assert said.failure is not None
    assert (said.status, said.failure.name) == (300, "unsafe-url")
    assert len(said.failure.detail) <= 300


@pytest.mark.parametrize(
    ("status", "headers"), [(304, ()), (201, ("location: file:///x",)), (503, ("location: file:///x",))]
)
async def test_an_answer_without_location_is_no_redirect(
    receiver: Receiver, status: int, headers: tuple[str, ...]
) -> None:
    receiver.answers = [answer(status, *headers)]
    said = await make_sender().post(receiver.url, {}, b"{}")
    assert (said.status, said.failure) == (status, None)


async def test_a_silent_receiver_times_out(receiver: Receiver) -> None:
    receiver.answers = [None]
    said = await make_sender(within=0.2).post(receiver.url, {}, b"{}")
    assert said.failure is not None
    assert (said.status, said.failure.name) == (None, "timeout")


async def test_a_receiver_that_drips_its_head_times_out() -> None:
    gone = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        begun = time.monotonic()
        said = await make_sender(within=0.3).post(f"http://127.0.0.1:{port}/", {}, b"{}")
        assert time.monotonic() - begun < 30, "each byte has begun the time anew"
        assert said.failure is not None
        await gone.wait()


async def test_a_receiver_that_answered_in_time_may_leave_out_the_body() -> None:
    """The limit is for the head of the answer; the body decides nothing."""

    gone = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        said = await make_sender(within=1.5).post(f"http://127.0.0.1:{port}/", {}, b"{}")
        await gone.wait()
    assert (said.status, said.failure) == (200, None)


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_receiver_that_answered_may_close_the_connection(is_reset: bool) -> None:
    gone = asyncio.Event()

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc")
        if is_reset:
            linger = struct.pack("ii", 1, 0)  # closes by a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        gone.set()

    async with await asyncio.start_server(break_off, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        said = await make_sender().post(f"http://127.0.0.1:{port}/", {}, b"{}")
        await gone.wait()
    assert (said.status, said.failure) == (200, None)


async def test_many_messages_are_sent_at_the_same_time(receiver: Receiver) -> None:
    receiver.answers = [None]
    sender = make_sender()
    posts = [asyncio.create_task(sender.post(receiver.url, {}, b"{}")) for _ in range(20)]
    try:
        assert len(await receiver.until(20)) == 20
    finally:
        for post in posts:
            post.cancel()
        await asyncio.wait(posts)


def looking_up(monkeypatch: pytest.MonkeyPatch, look_up: Callable[..., list[Any]]) -> Resolver:
    monkeypatch.setattr("tasker.webhooks.sender.getaddrinfo", look_up)
    return Resolver()


def rows(*addresses: str) -> list[Any]:
    """Return the answer of the system's resolver."""
    return [(None, None, None, "", (address, 0)) for address in addresses]


async def test_each_address_of_a_name_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows("192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8::1")
    resolver = looking_up(monkeypatch, lambda *_, **__: found)
    assert await asyncio.wait_for(resolver("example.com"), 30) == ["192.0.2.1", "2001:db8::1"]


async def test_a_lookup_that_has_ended_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = looking_up(monkeypatch, lambda *_, **__: rows("192.0.2.1"))
    for _ in range(100):
        assert await asyncio.wait_for(resolver("example.com"), 30) == ["192.0.2.1"]


async def test_lookups_are_bounded_even_when_abandoned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[str] = []
    answered = threading.Event()

    def look_up(name: str, *_: Any, **__: Any) -> list[Any]:
        begun.append(name)
        answered.wait(10)
        return rows("192.0.2.1")

    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    resolver = looking_up(monkeypatch, look_up)
    asked = [asyncio.create_task(resolver(f"{place}.example.com")) for place in range(40)]
    try:
        async with asyncio.timeout(30):
            while len(begun) < 32:
                await asyncio.sleep(0)
        for task in asked[:32]:
            task.cancel()
        await asyncio.wait(asked[:32])
        assert len(begun) == 32, "the threads are there still"
    finally:
        answered.set()
    assert await asyncio.wait_for(asyncio.gather(*asked[32:]), 30) == [["192.0.2.1"]] * 8
    assert faults == []


async def test_a_name_that_cannot_be_looked_up_is_a_failure(receiver: Receiver) -> None:
    with pytest.raises(UnicodeError):
        await asyncio.wait_for(Resolver()("x" * 64 + ".example.com"), 30)

    async def resolve(_: str) -> list[str]:
        raise UnicodeError("label too long")

    said = await make_sender(resolve=resolve).post(f"http://two.example.com:{receiver.port}/", {}, b"{}")
    assert said.failure is not None
    assert (said.failure.name, said.failure.detail) == ("connection", "label too long")


async def test_a_lookup_that_cannot_begin_takes_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(**_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("tasker.webhooks.sender.threading", SimpleNamespace(Thread=no_more))
    resolver = Resolver()
    for _ in range(100):
        with pytest.raises(OSError, match="new thread"):
            await asyncio.wait_for(resolver("example.com"), 30)


async def test_a_body_without_end_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.webhooks.sender._DRAIN_SECONDS", 60)
    gone = asyncio.Event()

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"x" * 50_000)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        gone.set()

    async with asyncio.timeout(30), await asyncio.start_server(pour, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        said = await make_sender().post(f"http://127.0.0.1:{port}/", {}, b"{}")
        await gone.wait()
    assert (said.status, said.failure) == (200, None)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"hush\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nhush: " + b"y" * 300_000,
        b"SSH-2.0-hush\r\n",
        b"220 hush ESMTP\r\n",
        b"-ERR unknown command 'hush'\r\n",
        b"HTTP/1.1 hush OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nhu sh: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: hush\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: hush\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\nx: hush\r\n\r\n",
    ],
)
async def test_a_reply_that_is_not_http_is_a_failure_that_does_not_quote_it(receiver: Receiver, said: bytes) -> None:
    receiver.answers = [said]
    told = await make_sender(within=20).post(receiver.url, {}, b"{}")
    assert told.failure is not None
    assert (told.failure.name, told.status, told.retry_after) == ("connection", None, None)
    no_head = b"\r\n\r\n" not in said and len(said) < 100
    words = "the connection was closed before there was an answer" if no_head else "the reply is not HTTP/1.1"
    assert told.failure.detail == words


async def test_a_refused_connection_is_a_failure() -> None:
    async with receiving() as receiver:
        url = receiver.url
    told = await make_sender().post(url, {}, b"{}")
    assert told.failure is not None
    assert told.failure.name == "connection"


async def test_an_invalid_name_is_a_failure() -> None:
    told = await make_sender(UrlRules(), resolve=Resolver()).post("https://nobody.invalid/", {}, b"{}")
    assert told.failure is not None
    assert told.failure.name == "connection"


@pytest.mark.parametrize("addresses", [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_addresses_are_tried_one_after_the_other(receiver: Receiver, addresses: list[str]) -> None:
    sender = make_sender(resolve=resolving(addresses))
    said = await sender.post(f"http://two.example.com:{receiver.port}/", {}, b"{}")
    assert (said.status, said.failure) == (200, None)


async def test_only_the_first_few_addresses_are_tried(receiver: Receiver) -> None:
    sender = make_sender(resolve=resolving([f"127.0.0.{last}" for last in (2, 3, 4, 5, 1)]))
    said = await sender.post(f"http://five.example.com:{receiver.port}/", {}, b"{}")
    assert said.failure is not None
    assert (said.failure.name, receiver.connections) == ("connection", 0)


async def test_an_address_that_is_silent_leaves_time_for_the_next(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = httpcore2.AnyIOBackend.connect_tcp

    async def silent(self: Any, host: str, port: int, timeout: float | None = None) -> Any:
        if host == "127.0.0.1":
            return await connect(self, host, port)
        if timeout is None:
            return await asyncio.Event().wait()
        raise httpcore2.ConnectTimeout

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", silent)
    sender = make_sender(resolve=resolving(["127.0.0.2", "127.0.0.1"]), within=20)
    said = await sender.post(f"http://two.example.com:{receiver.port}/", {}, b"{}")
    assert (said.status, said.failure) == (200, None)


async def test_the_detail_of_a_failure_is_printable_and_short() -> None:
    async def resolve(_: str) -> list[str]:
        raise OSError("\x1b[31m" * 1000)

    told = await make_sender(resolve=resolve).post("http://name.example.com/", {}, b"{}")
    assert told.failure is not None
    assert told.failure.detail.isprintable()
    assert len(told.failure.detail) == 300
