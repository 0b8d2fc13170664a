"""The real server on a real socket: how the HTTP layer treats strange requests."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import httpx2
import psutil
import pytest

from tests.server import Server, run_server

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
BODY = b'{"type":"sum","params":[4,2]}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("wire")) as server:
        yield server


class Answer:
    """A raw reply: status, headers, body, and whether the connection was closed after it, if somebody has looked."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.closed: bool | None = None

    @property
    def problem(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        return str(json.loads(self.body)["type"]).removeprefix("/problems/")


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def send(server: Server, *parts: bytes, closes: bool = False) -> Answer:
    """Send raw bytes; return the reply. closes: whether the server is expected to close the connection."""
    with connect(server) as sock:
        with suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                sock.sendall(part)
        answer = receive(sock)
        if closes:
            answer.closed = _is_closed(sock)
        return answer


def receive(sock: socket.socket) -> Answer:
    data = b""
    while b"\r\n\r\n" not in data or len(data) < _length(data):
        part = sock.recv(65536)
        if not part:
            break
        data += part
    return Answer(data)


def _length(data: bytes) -> int:
    head, _, _ = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(head) + 4 + (int(lengths[0].partition(b":")[2]) if lengths else 0)


def _is_closed(sock: socket.socket, within: float = 30) -> bool:
    sock.settimeout(within)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_the_two_calls_that_must_always_work(server: Server) -> None:
    for type_, params, result in (("sum", [4, 2], 6), ("reverse", ["Hello Seemplicity"], "yticilpmeeS olleH")):
        reply = httpx2.post(f"{server.url}/task", json={"type": type_, "params": params})
        assert reply.status_code == 202
        task_id = reply.json()["task_id"]
        assert reply.headers["location"] == f"/task/{task_id}"
        done = httpx2.get(f"{server.url}/task/{task_id}?wait=30", timeout=40)
        assert (done.status_code, done.json()["status"], done.json()["result"]) == (200, "completed", result)


def test_a_wait_of_a_submission(server: Server) -> None:
    reply = httpx2.post(f"{server.url}/task", json={"type": "sum", "params": [4, 2]}, headers={"prefer": "wait=30"})
    assert (reply.status_code, reply.json()["result"]) == (200, 6)


def test_one_connection_for_many_requests(server: Server) -> None:
    with connect(server) as sock:
        for path in (b"/livez", b"/nothing", b"/task", b"/livez"):
            sock.sendall(b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST))
            assert receive(sock).status
            assert not _is_closed(sock, within=0.2)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", "bad-host"),
        (b"Host:\r\n", "bad-host"),
        (HOST + HOST, "bad-host"),
        (b"Host: evil.example\r\n", "misdirected"),
        (b"Host: 0.0.0.0:5000\r\n", "misdirected"),
        (HOST + b"Authorization: a\r\nAuthorization: b\r\n", "unauthorized"),
    ],
)
def test_hosts(server: Server, head: bytes, expected: str) -> None:
    assert send(server, b"GET /livez HTTP/1.1\r\n%b\r\n" % head).problem == expected


def test_an_absolute_address_does_not_stand_for_the_host(server: Server) -> None:
    answer = send(server, b"GET http://localhost/livez HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert answer.problem == "misdirected"


@pytest.mark.parametrize(
    "length",
    [b"Content-Length: -1\r\n", b"Content-Length: x\r\n", b"Content-Length: 29\r\nContent-Length: 30\r\n",
     b"Content-Length: 99999999999999999999999\r\n", b"Content-Length: 29, 30\r\n"],
)  # fmt: skip
def test_invalid_lengths(server: Server, length: bytes) -> None:
    answer = send(server, b"POST /task HTTP/1.1\r\n" + HOST + JSON + length + b"\r\n" + BODY, closes=True)
    assert answer.status == 400
    assert answer.closed


def test_a_content_length_with_chunks_cannot_smuggle(server: Server) -> None:
    """RFC 9112, 6.3: the chunks count, and the connection is closed; nothing after them is read as a request."""
    head = b"POST /task HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    smuggled = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = send(server, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) + smuggled, closes=True)
    assert answer.status == 202
    assert answer.closed
    assert b"HTTP/1.1" not in answer.body


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"x, chunked", b"identity, chunked", b"chunked, chunked"])
def test_other_transfer_codings(server: Server, coding: bytes) -> None:
    head = b"POST /task HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: " + coding + b"\r\n\r\n"
    answer = send(server, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), closes=True)
    assert (answer.status, answer.problem, answer.closed) == (400, "bad-request", True)


@pytest.mark.parametrize("path", [b"/task", b"/batch", b"/type/sum/task"])
@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}xx0\r\n\r\n", b"FFFFFFFFFFFFFFFFFF\r\n{}", b"-2\r\n{}\r\n0\r\n\r\n",
     b"2;" + b"x" * 20_000 + b"\r\n{}\r\n0\r\n\r\n", b"2\r\n{}\r\nzz\r\n", b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n"],
)  # fmt: skip
def test_broken_chunks(server: Server, path: bytes, chunks: bytes) -> None:
    head = b"POST %b HTTP/1.1\r\n" % path + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = send(server, head + chunks, closes=True)
    assert (answer.status, answer.problem, answer.closed) == (400, "bad-request", True)
    assert b"cut off" in answer.body


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1d\r\n"])
@pytest.mark.parametrize("path", [b"/task", b"/batch"])
def test_a_body_that_is_cut_off(server: Server, path: bytes, framing: bytes) -> None:
    """The client sends a part, closes its side, and still reads."""
    with connect(server) as sock:
        sock.sendall(b"POST %b HTTP/1.1\r\n" % path + HOST + JSON + framing + BODY)
        sock.shutdown(socket.SHUT_WR)
        answer = receive(sock)
        answer.closed = _is_closed(sock)
    assert (answer.status, answer.problem, answer.closed) == (400, "bad-request", True)


def test_a_batch_of_lines_that_is_cut_off(server: Server) -> None:
    line = b"%x\r\n%b\n\r\n" % (len(BODY) + 1, BODY)
    head = b"POST /batch HTTP/1.1\r\n" + HOST + b"Content-Type: application/jsonl\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(server) as sock:
        sock.sendall(head + line)
        data = b""
        while b'"index":0' not in data:
            data += sock.recv(65536)
        sock.sendall(b"zz\r\n")
        while part := sock.recv(65536):
            data += part
    assert data.startswith(b"HTTP/1.1 200")
    assert b'{"accepted":1,"refused":0,"problem":{"type":"/problems/bad-request"' in data


def test_broken_chunks_are_refused_and_logged_for_every_operation(server: Server) -> None:
    """The server reports invalid framing as a disconnected client; each operation has to handle it."""
    paths = httpx2.get(f"{server.url}/openapi.json").json()["paths"]
    task = httpx2.post(f"{server.url}/task", json={"type": "sum", "params": [1, 2], "delay": 3600}).json()["task_id"]
    walked = 0
    for path, methods in paths.items():
        for method, operation in methods.items():
            if "requestBody" not in operation:
                continue
            url = re.sub(r"\{\w+\}", "sum", path.replace("{task_id}", task))
            start = f"{method.upper()} {url} HTTP/1.1\r\nRequest-Id: broken-{walked}\r\n".encode()
            broken = HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n"
            answer = send(server, start + broken, closes=True)
            if answer.status != 404:  # what the path names is looked for first
                assert (answer.status, answer.problem, answer.closed) == (400, "bad-request", True), (method, path)
                assert f'"request_id": "broken-{walked}"' in server.text()
            walked += 1
    assert walked > 10
    assert server.text().count("request.body_not_read") >= walked / 2


def test_a_trickle_that_no_operation_reads_ends_with_the_reply(server: Server) -> None:
    task = httpx2.post(f"{server.url}/task", json={"type": "sum", "params": [1, 2], "delay": 3600}).json()["task_id"]
    start = f"POST /task/{task}/cancel HTTP/1.1\r\n".encode() + HOST + JSON
    answer = send(server, start + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{", closes=True)
    assert (answer.status, answer.closed) == (200, True)


def with_setting(assignment: str) -> tuple[str, ...]:
    """Return the command to run a service under, which sets one of the HTTP server's limits."""
    patch = f"import sys, tasker.wiring.server as w; w.{assignment}; sys.argv[:4] = ['tasker']; "
    return sys.executable, "-c", patch + "from tasker.cli import main; main()"


def wait_until_left(server: Server, port: int) -> None:
    """Wait until the server has closed its connection to that port; the kernel does not notify the other side."""
    process, limit = psutil.Process(server.process.pid), monotonic() + 30
    while any(one.raddr and one.raddr.port == port for one in process.net_connections("tcp")):
        assert monotonic() < limit, "the connection is still held"
        sleep(0.05)


def test_a_client_that_does_not_read_its_reply_is_cut_off(tmp_path: Path) -> None:
    size = 500_000
    with run_server(tmp_path, under=with_setting("_UNREAD_MILLIS = 500")) as server:
        task = {"type": "reverse", "params": ["x" * size]}
        done = httpx2.post(f"{server.url}/task?wait=30", json=task, timeout=40).json()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # little fits into it
            sock.settimeout(20)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(b"GET /task/%b/result HTTP/1.1\r\n%b\r\n" % (done["task_id"].encode(), HOST))
            sock.recv(1, socket.MSG_PEEK)  # it is being answered
            wait_until_left(server, sock.getsockname()[1])
            read = 0
            with suppress(ConnectionResetError):  # what the kernel has of it still comes
                while part := sock.recv(1 << 20):
                    read += len(part)
        assert 0 < read < size


def test_a_wait_with_broken_chunks(server: Server) -> None:
    """A body that a GET does not read may break while the reply is awaited."""
    task = httpx2.post(f"{server.url}/task", json={"type": "sum", "params": [1, 2], "delay": 3600}).json()
    head = b"GET /task/%b?wait=60 HTTP/1.1\r\n" % task["task_id"].encode() + HOST
    answer = send(server, head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert (answer.status, answer.problem) == (400, "bad-request")


def test_a_large_body_is_refused_before_it_comes(server: Server) -> None:
    answer = send(server, b"POST /task HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 60000000\r\n\r\n", closes=True)
    assert (answer.status, answer.problem, answer.closed) == (413, "payload-too-large", True)


def test_a_large_body_in_chunks_is_cut_off(server: Server) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    head = b"POST /task HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = send(server, head, *[chunk] * 400, closes=True)
    assert (answer.status, answer.problem, answer.closed) == (413, "payload-too-large", True)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"A: " + b"x" * 20_000 + b"\r\n", 431),
        (b"A: " + b"x" * 100_000 + b"\r\n", 431),
        (b"A: " + b"x" * 2_000_000 + b"\r\n", 431),
        (b"".join(b"A%d: b\r\n" % number for number in range(1000)), 431),
        (b"A: a\0b\r\n", 400),
        (b"A\r\n b: c\r\n", 400),
    ],
)
def test_large_and_broken_heads(server: Server, head: bytes, status: int) -> None:
    answer = send(server, b"GET /livez HTTP/1.1\r\n" + HOST + head + b"\r\n", closes=True)
    assert (answer.status, answer.closed) == (status, True)


@pytest.mark.parametrize("size", [9_000, 64_000, 200_000])
def test_long_addresses(server: Server, size: int) -> None:
    answer = send(server, b"GET /" + b"a" * size + b" HTTP/1.1\r\n" + HOST + b"\r\n", closes=True)
    assert (answer.status, answer.closed) == (414, True)


@pytest.mark.parametrize(
    "path",
    [b"/task/%00", b"/task/%0d%0aX:1", b"/task/..%2f..%2fetc%2fpasswd", b"//task", b"/task/", b"/TASK", b"/task;a=b",
     b"/task/%ff", b"/%2e%2e/livez", b"/livez/../task/", b"/task/%zz", b"/task%0a"],
)  # fmt: skip
def test_paths_with_nothing_behind_them(server: Server, path: bytes) -> None:
    answer = send(server, b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST))
    assert (answer.status, answer.problem) == (404, "not-found")
    assert "x" not in answer.headers


@pytest.mark.parametrize("method", [b"TRACE", b"PROPFIND", b"CONNECT", b"BREW", b"get"])
def test_methods(server: Server, method: bytes) -> None:
    target = b"localhost:80" if method == b"CONNECT" else b"/task"
    answer = send(server, b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, HOST))
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("start", [b"\x16\x03\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100,
                                   b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])  # fmt: skip
def test_what_is_not_http_ends_the_connection(server: Server, start: bytes) -> None:
    with connect(server) as sock:
        sock.sendall(start + b"\r\n\r\n")
        data = b""
        with suppress(ConnectionResetError):
            while part := sock.recv(65536):
                data += part
        assert data == b"" or data.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505", b"HTTP/1.0 400"))
    assert httpx2.get(f"{server.url}/livez").status_code == 200


def test_head_has_the_length_and_no_body(server: Server) -> None:
    got = httpx2.get(f"{server.url}/type")
    answer = send(server, b"HEAD /type HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, str(len(got.content)), b"")


def test_a_client_that_leaves_is_noticed(server: Server) -> None:
    task = httpx2.post(f"{server.url}/task", json={"type": "sum", "params": [1, 2], "delay": 3600}).json()
    head = b"GET /task/%b?wait=60 HTTP/1.1\r\n%b\r\n" % (task["task_id"].encode(), HOST)
    counted = 'tasker_http_request_seconds_count{operation="get_task",status="499"}'
    with httpx2.Client() as client:
        while counted not in client.get(f"{server.url}/metrics").text:  # the test's own time limit ends this
            with connect(server) as sock:  # one that left before its request was taken up is nobody
                sock.sendall(head)
                client.get(f"{server.url}/livez")


def test_slow_heads_are_cut_off_while_others_are_served(tmp_path: Path) -> None:
    """The time for a head is also that of an idle connection."""
    with run_server(tmp_path, under=with_setting("_HEADERS_WITHIN = 2_000")) as server:
        slow = [connect(server) for _ in range(100)]
        for number, sock in enumerate(slow):
            if number % 2:
                sock.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"A: ")
        for _ in range(20):
            assert httpx2.post(f"{server.url}/task", json={"type": "sum", "params": [4, 2]}).status_code == 202
        for sock in slow:
            with suppress(ConnectionResetError):
                assert sock.recv(1000) == b""
            sock.close()


def test_open_waits_are_answered_when_the_service_stops(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        task = httpx2.post(f"{server.url}/task", json={"type": "sum", "params": [1, 2], "delay": 3600}).json()
        waiting = [connect(server) for _ in range(50)]
        for sock in waiting:
            sock.sendall(b"GET /task/%b?wait=60 HTTP/1.1\r\n%b\r\n" % (task["task_id"].encode(), HOST))
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        assert server.stop(timeout=25) == 0
        for sock in waiting:
            assert receive(sock).status == 200
            sock.close()
