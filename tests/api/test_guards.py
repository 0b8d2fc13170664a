"""The guards, which every request must pass: reference rows 31 to 50."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import httpx2
import pytest

from tasker.api import buffers
from tasker.api.bodies import BodyReader
from tasker.api.buffers import Buffers
from tasker.api.problems import Refused
from tasker.model import TaskFilter
from tests.api.conftest import TOKEN, MakeRig, Rig, make_client, problem

BODY = '{"type":"sum","params":[1,2]}'
JSON = {"content-type": "application/json"}
HERE = "http://localhost:5000"
AS_ADMIN = {"authorization": f"Bearer {TOKEN}"}


async def stored(rig: Rig) -> int:
    return len((await rig.engine.find_many(TaskFilter(), limit=10)).items)


async def test_only_json_in_utf8(rig: Rig) -> None:
    for kind in (
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "text/json",
        "application/json; charset=utf-16", "application/json, text/plain",
    ):  # fmt: skip
        reply = await rig.client.post("/task", content=BODY, headers={"content-type": kind})
        assert problem(reply) == (415, "unsupported-media-type"), kind
    assert await stored(rig) == 0


async def test_json_by_other_spellings(rig: Rig) -> None:
    for kind in (
        "application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"',
        "application/json;",
    ):  # fmt: skip
        assert (await rig.client.post("/task", content=BODY, headers={"content-type": kind})).status_code == 202, kind


async def test_compressed_bodies(rig: Rig) -> None:
    for encoding in ("gzip", "br", "deflate", "gzip, gzip", "x"):
        reply = await rig.client.post("/task", content=b"\x1f\x8b", headers={**JSON, "content-encoding": encoding})
        assert problem(reply) == (415, "unsupported-encoding"), encoding


ACCEPTS = {
    "application/xml": 406, "text/html": 406, "application/json;q=0": 406, "*/*;q=0": 406, "x;;;,,q=": 406,
    "application/json;q=0, */*": 406, "*/*": 200, "": 200, "application/*": 200, "text/html, */*;q=0.1": 200,
    "application/xml, application/json;q=0.5": 200, "APPLICATION/JSON": 200,
}  # fmt: skip


async def test_accept(rig: Rig) -> None:
    for accept, status in ACCEPTS.items():
        assert (await rig.client.get("/type", headers={"accept": accept})).status_code == status, accept


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("", (400, "bad-host")), ("a b", (400, "bad-host")), ("user@localhost", (400, "bad-host")),
        ("localhost:x", (400, "bad-host")), ("[::1", (400, "bad-host")), ("localhost/", (400, "bad-host")),
        ("evil.example", (421, "misdirected")), ("0.0.0.0:5000", (421, "misdirected")),
        ("127.0.0.1.nip.io", (421, "misdirected")), ("localhost.", (421, "misdirected")),
        ("localhost.evil.example:5000", (421, "misdirected")), ("[::2]:5000", (421, "misdirected")),
    ],
)  # fmt: skip
async def test_hosts_that_are_not_served(rig: Rig, host: str, expected: tuple[int, str]) -> None:
    for path in ("/task", "/livez", "/nothing", "/docs"):
        reply = await rig.client.get(path, headers={"host": host})
        assert problem(reply) == expected
        assert ("TASKER_ALLOWED_HOSTS" in reply.json()["detail"]) == (expected[0] == 421)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "LocalHost:5000", "127.0.0.1:5000", "[::1]:5000", "[::1]"]
)
async def test_hosts_that_are_served(rig: Rig, host: str) -> None:
    for _ in range(2):  # the second time it is known
        assert (await rig.client.get("/livez", headers={"host": host})).status_code == 200


async def test_other_hosts_can_be_allowed(make_rig: MakeRig) -> None:
    rig = await make_rig(allowed_hosts=("Tasker.example",))
    assert (await rig.client.get("/livez", headers={"host": "tasker.example:80"})).status_code == 200
    assert problem(await rig.client.get("/livez", headers={"host": "localhost"})) == (421, "misdirected")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil"},
        {"origin": "null"},
        {"origin": "http://localhost:5001"},
        {"origin": "http://localhost"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "same-origin", "origin": "https://evil"},
    ],
)
async def test_pages_of_other_origins(rig: Rig, headers: dict[str, str]) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        reply = await rig.client.request(method, "/task", content=BODY, headers={**JSON, **headers})
        assert problem(reply) == (403, "cross-origin")
        assert "access-control-allow-origin" not in reply.headers
    assert await stored(rig) == 0


@pytest.mark.parametrize(
    "headers", [{"origin": "http://localhost:5000"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}]
)
async def test_own_pages(rig: Rig, headers: dict[str, str]) -> None:
    assert (await rig.client.post("/task", content=BODY, headers={**JSON, **headers})).status_code == 202


async def test_a_preflight_is_not_allowed(rig: Rig) -> None:
    reply = await rig.client.options(
        "/task", headers={"origin": "https://evil", "access-control-request-method": "POST"}
    )
    assert reply.status_code == 204
    assert reply.headers["allow"] == "GET, HEAD, POST, OPTIONS"
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize("headers", [[("a", "x" * 17_000)], [(f"a{n}", "b") for n in range(101)]])
async def test_large_heads(rig: Rig, headers: list[tuple[str, str]]) -> None:
    assert problem(await rig.client.get("/livez", headers=headers)) == (431, "headers-too-large")


@pytest.mark.parametrize("path", ["/" + "a" * 9000, "/livez?" + "a" * 9000])
async def test_long_addresses(rig: Rig, path: str) -> None:
    assert problem(await rig.client.get(path)) == (414, "uri-too-long")


async def test_headers_that_may_come_once(rig: Rig) -> None:
    once = {"host": "localhost", "content-type": "application/json"}
    others = {"host": (400, "bad-host"), "authorization": (401, "unauthorized")}
    for name in ("host", "authorization", "content-type", "content-length", "content-encoding", "transfer-encoding",
                 "origin", "sec-fetch-site", "idempotency-key", "request-id"):  # fmt: skip
        headers = [(key, value) for key, value in once.items() if key != name] + [(name, "localhost")] * 2
        status, replied = await call(rig, "POST", "/task", headers)
        expected = others.get(name, (400, "bad-request"))
        assert (status, replied["type"]) == (expected[0], f"/problems/{expected[1]}"), name


async def call(rig: Rig, method: str, path: str, headers: list[tuple[str, str]]) -> tuple[int, dict[str, Any]]:
    """Call the app directly, with headers that no client would send."""
    sent: list[Any] = []
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY.encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await rig.app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
PATHS = [
    "/task", "/task/", "//task", "//", "/TASK", "/task;a=b", "/task/0198e000-0000-7000-8000-000000000000",
    "/task/x/cancel", "/task/x/retry", "/task/x/result", "/task/x/health", "/admin/ready", "/livez/", "/LIVEZ",
    "//livez", "/livez/x", "/task/livez", "/readyz/", "/type", "/type/sum", "/type/sum/task", "/metrics",
    "/openapi.json", "/docs/", "/docs/docs.html", "/docs/../task", "/DOCS", "/docs/swagger-ui.css/", "/problems",
    "/problems/nope", "/problems/conflict/", "/nothing", "/ui", "/mcp", "/livez%00", "/livez%0a", "/docs%0a",
]  # fmt: skip


async def test_the_docs_are_public_and_reveal_nothing(locked: Rig) -> None:
    """A browser sends no key by itself: the page asks for one, and uses it to fetch what is the service's own."""
    for path, status in {"/": 307, "/docs": 200, "/docs/docs.js": 200, "/problems/unauthorized": 200}.items():
        reply = await locked.client.get(path)
        assert reply.status_code == status, path
        assert "named" not in reply.text, "a task type of this service"
        assert (await locked.client.post(path, content=BODY, headers=JSON)).status_code == 405
    assert problem(await locked.client.get("/openapi.json")) == (401, "unauthorized")
    assert "/type/named/task" in (await locked.client.get("/openapi.json", headers=AS_ADMIN)).json()["paths"]


async def test_only_docs_and_probes_are_public(locked: Rig) -> None:
    for method, path in product(METHODS, PATHS):
        reply = await locked.client.request(method, HERE + path)
        assert reply.status_code == 401, (method, path)
        assert reply.headers["www-authenticate"] == 'Bearer realm="tasker"'


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}",
     f"Bearer{TOKEN}", "Bearer \xff"],
)  # fmt: skip
async def test_wrong_tokens(locked: Rig, value: str) -> None:
    reply = await locked.client.get("/type", headers={"authorization": value.encode("latin-1")})
    assert problem(reply) == (401, "unauthorized")
    assert TOKEN not in reply.text


async def test_a_token_in_the_query_is_ignored(locked: Rig) -> None:
    assert problem(await locked.client.get(f"/type?token={TOKEN}&access_token={TOKEN}")) == (401, "unauthorized")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_token(locked: Rig, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {TOKEN}"}
    assert (await locked.client.get("/type", headers=headers)).status_code == 200
    reply = await locked.client.post("/task", json={"type": "sum", "params": [1, 2]}, headers=headers)
    assert reply.status_code == 202
    assert (await locked.client.get("/metrics", headers=headers)).status_code == 200


async def test_probes_are_public_and_reveal_nothing(locked: Rig) -> None:
    assert (await locked.client.get("/livez")).json() == {"status": "ok"}
    assert (await locked.client.get("/readyz")).json() == {"ready": True}
    with_token = await locked.client.get("/readyz", headers={"authorization": f"Bearer {TOKEN}"})
    assert with_token.json() == {"ready": True, "checks": {"store": "ok", "worker": "ok"}}


@pytest.mark.parametrize("headers", [{"x-http-method-override": "DELETE"}, {"x-forwarded-for": "127.0.0.1"},
                                     {"x-forwarded-host": "evil.example"}, {"x-original-url": "/livez"}])  # fmt: skip
async def test_unused_headers_are_ignored(rig: Rig, locked: Rig, headers: dict[str, str]) -> None:
    task_id = await rig.submit()
    await rig.finish()
    assert (await rig.client.get(f"/task/{task_id}", headers=headers)).status_code == 200
    assert (await rig.client.get(f"/task/{task_id}")).status_code == 200, "it is still there"
    assert problem(await locked.client.get("/type", headers=headers)) == (401, "unauthorized")


ALLOWED = {
    "/task": "GET, HEAD, POST, OPTIONS",
    "/task/0198e000-0000-7000-8000-000000000000": "GET, HEAD, PUT, DELETE, OPTIONS",
    "/task/0198e000-0000-7000-8000-000000000000/cancel": "POST, OPTIONS",
    "/type/sum": "GET, HEAD, OPTIONS",
    "/livez": "GET, HEAD, OPTIONS",
    "/docs": "GET, HEAD, OPTIONS",
    "/": "GET, HEAD, OPTIONS",
}


async def test_methods(rig: Rig) -> None:
    for path, method in product(ALLOWED, METHODS):
        reply = await rig.client.request(method, path)
        if method in ALLOWED[path].split(", "):
            assert reply.status_code != 405
        else:
            assert reply.status_code == 405 if method == "HEAD" else problem(reply) == (405, "method-not-allowed")
            assert reply.headers["allow"] == ALLOWED[path]


NOWHERE = [
    "/task/", "//task", "/TASK", "/Task", "/task;a=b", "/task/%00", "/task/%0d%0aX:1", "/task/..%2f..%2fetc%2fpasswd",
    "/task/%ff", "/task/not-a-uuid", "/task/{task_id}", "/type/{name}/", "/docs/{file}", "/docs/..%2fapp.py",
    "/docs/swagger-ui%2fLICENSE", "/problems/nope", "/type/nope", "/type/sum%0a", "/livez%0a", "/task%0a", "/x",
]  # fmt: skip


async def test_paths_with_nothing_behind_them(rig: Rig) -> None:
    for path in NOWHERE:
        reply = await rig.client.get(HERE + path)
        assert problem(reply) == (404, "not-found"), path
        assert "x" not in reply.headers
    task_id = await rig.submit()
    assert problem(await rig.client.post(f"/task/{task_id}/cancel%0a")) == (404, "not-found")
    assert (await rig.client.get(f"/task/{task_id}")).json()["status"] == "pending"


async def test_unknown_methods_are_refused_on_unknown_paths(rig: Rig) -> None:
    for method in ("TRACE", "PROPFIND"):
        reply = await rig.client.request(method, "/nothing")
        assert problem(reply) == (405, "method-not-allowed")
        assert reply.headers["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@pytest.mark.parametrize("change", [str.upper, lambda text: text[:-1], lambda text: text + "0",
                                    lambda text: "{" + text + "}", lambda text: "urn:uuid:" + text,
                                    lambda text: text.replace("-", "")])  # fmt: skip
async def test_spellings_of_an_id(rig: Rig, change: Any) -> None:
    task_id = await rig.submit()
    reply = await rig.client.get(f"/task/{change(task_id)}")
    if change is str.upper:
        assert reply.json()["task_id"] == task_id
    else:
        assert problem(reply) == (404, "not-found")


@pytest.mark.parametrize("given", ["abc-123", "0198.x:y/z+a=b"])
async def test_a_request_id_is_kept(rig: Rig, given: str) -> None:
    reply = await rig.client.get("/nothing", headers={"request-id": given})
    assert reply.headers["request-id"] == given == reply.json()["request_id"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\xffb", "<script>"])
async def test_a_strange_request_id_is_replaced(rig: Rig, given: str) -> None:
    first, second = [
        (await rig.client.get("/livez", headers={"request-id": given.encode("latin-1")})).headers["request-id"]
        for _ in range(2)
    ]
    assert given != first != second
    assert first


async def test_an_internal_error_reveals_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(rig.engine, "find", broken)
    reply = await rig.client.get("/task/0198e000-0000-7000-8000-000000000000")
    assert problem(reply) == (500, "internal")
    assert "secret" not in reply.text


async def test_a_body_that_never_comes_is_cut_off() -> None:
    reader = BodyReader(100, Buffers(1 << 20), within=0.02)

    async def silent() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def trickle() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": True}

    for receive in (silent, trickle):
        with pytest.raises(Refused) as caught:
            await asyncio.wait_for(reader.read(receive, b"10"), 30)
        assert caught.value.kind.status == 408
        assert (b"connection", b"close") in caught.value.headers


@pytest.mark.parametrize("cut_off_first", [True, False])
async def test_a_body_that_is_late_and_crowded_out_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, cut_off_first: bool
) -> None:
    """Its task was cancelled twice, and still answers."""
    monkeypatch.setattr(buffers, "PATIENCE", 0.0)
    all_ = Buffers(100_000)
    reader = BodyReader(1 << 20, all_, within=0.0)
    came = asyncio.Event()
    parts = [{"type": "http.request", "body": b"x" * 90_000, "more_body": True}]

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        came.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def answer() -> int:
        with pytest.raises(Refused) as caught:
            await reader.read(receive, None)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return caught.value.kind.status

    reading = asyncio.create_task(answer())
    await came.wait()
    if not cut_off_first:
        reader._cut_off()
    all_.open().add(90_000)
    if cut_off_first:
        reader._cut_off()
    assert await reading == 408
    assert not all_._cut_off


@pytest.mark.parametrize("path", ["/task", "/webhook", "/batch"])
async def test_a_body_that_is_cut_off_counts_as_a_bad_request(rig: Rig, path: str) -> None:
    """It does not count as a client that has disconnected, nor is it audited as an internal error."""
    sent: list[Any] = []
    coming = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"9")],
    }  # fmt: skip

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    await rig.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["type"] == "/problems/bad-request"
    metrics = (await rig.client.get("/metrics")).text
    assert 'status="400"} 1.0' in metrics
    assert 'status="499"' not in metrics
    assert {entry["outcome"] for entry in (await rig.client.get("/audit")).json()["items"]} <= {400}


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_in_pieces(rig: Rig) -> None:
    reply = await rig.client.post("/task", content=chunks(b'{"type":"sum",', b'"params":', b"[1,2]}"), headers=JSON)
    assert reply.status_code == 202
    reply = await rig.client.post("/task", content=chunks(*[b" " * 65536] * 20), headers=JSON)
    assert problem(reply) == (413, "payload-too-large")
    assert reply.headers["connection"] == "close"


async def test_a_websocket_is_refused(rig: Rig) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await rig.app({"type": "websocket", "path": "/task", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_head_is_get_without_the_body(rig: Rig) -> None:
    got, asked = await rig.client.get("/type"), await rig.client.head("/type")
    assert asked.status_code == 200
    assert asked.content == b""
    assert asked.headers["content-length"] == str(len(got.content))
    assert asked.headers["content-type"] == got.headers["content-type"]


async def test_clients_of_other_libraries_are_served(rig: Rig) -> None:
    async with make_client(rig.app, headers={"user-agent": "", "accept-encoding": "gzip"}) as client:
        assert isinstance(client, httpx2.AsyncClient)
        assert (await client.get("/livez")).status_code == 200
