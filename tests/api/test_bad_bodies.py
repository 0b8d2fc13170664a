"""Bodies that are refused, and odd ones that are taken: reference rows 1 to 29 and 58 to 70 as HTTP tells them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasker.rules.lifecycle import Succeeded
from tests.api.conftest import Rig, problem

JSON = {"content-type": "application/json"}


async def post(rig: Rig, body: bytes | str | dict[str, Any], path: str = "/task") -> tuple[int, str]:
    content = json.dumps(body) if isinstance(body, dict) else body
    return problem(await rig.client.post(path, content=content, headers=JSON))


def with_params(text: str) -> str:
    return f'{{"type":"sum","params":{text}}}'


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[1,]", b"{} x", b"01", with_params("[NaN,1]"), with_params("[Infinity,1]"), b'{"type":"\xff"}',
        '{"type":"sum"}'.encode("utf-16"), b"\xef\xbb\xbf{}", with_params("[1,\x00]"),
    ],
)  # fmt: skip
async def test_malformed(rig: Rig, body: bytes) -> None:
    assert await post(rig, body) == (400, "malformed-json")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (with_params("[1e400,1]"), (422, "number-out-of-range")),
        (with_params("[%s,1]" % ("9" * 4301)), (422, "number-out-of-range")),
        ("[" * 100_000, (400, "too-deep")),
        (with_params("[" * 64 + "]" * 64), (400, "too-deep")),
        ('{"type":"reverse","params":["\\ud800"]}', (422, "invalid-unicode")),
        ('{"type":"reverse","params":["\\u0000"]}', (422, "invalid-unicode")),
        ('{"type":"sum","type":"sum","params":[1,2]}', (400, "duplicate-key")),
        ("null", (422, "invalid-request")),
        ("[]", (422, "invalid-request")),
        ('"x"', (422, "invalid-request")),
        ("1", (422, "invalid-request")),
        ('{"params":[1,2]}', (422, "invalid-request")),
        ('{"type":1,"params":[1,2]}', (422, "invalid-request")),
        ('{"type":"","params":[1,2]}', (422, "invalid-request")),
        ('{"type":"%s","params":[1,2]}' % ("x" * 10_000), (422, "unknown-type")),
        ('{"type":"nope","params":[1,2]}', (422, "unknown-type")),
        ('{"type":"__import__(\'os\')","params":[]}', (422, "unknown-type")),
        ('{"type":"os.system","params":["true"]}', (422, "unknown-type")),
        ('{"type":"../x","params":[]}', (422, "unknown-type")),
        (with_params("[]"), (422, "invalid-params")),
        (with_params("[1]"), (422, "invalid-params")),
        (with_params('["1",2]'), (422, "invalid-params")),
        (with_params("[true,2]"), (422, "invalid-params")),
        (with_params("[[1],2]"), (422, "invalid-params")),
        (with_params("5"), (422, "invalid-params")),
        (with_params("null"), (422, "invalid-params")),
        ('{"type":"reverse","params":[5]}', (422, "invalid-params")),
        ('{"type":"reverse","params":{"text":"a","__class__":1}}', (422, "unknown-field")),
        ('{"type":"reverse","params":{"text":"a","__proto__":{}}}', (422, "unknown-field")),
        ('{"type":"sum","params":[1,2],"status":"completed"}', (422, "unknown-field")),
        ('{"type":"sum","params":[1,2],"id":"x","owner":"me"}', (422, "unknown-field")),
        ('{"type":"sum","params":[1,2],"webhook":{"url":"http://127.0.0.1"}}', (422, "unsafe-url")),
        ('{"type":"sum","params":[1,2],"webhook":{"url":"https://0x7f.1","x":1}}', (422, "invalid-request")),
        ('{"type":"sum","params":[1,2],"webhook":"https://example.com"}', (422, "invalid-request")),
        ('{"type":"sum","params":[1,2],"priority":"5"}', (422, "invalid-request")),
        ('{"type":"sum","params":[1,2],"run_at":"9999-01-01T00:00:00Z"}', (422, "invalid-request")),
        (with_params("[%s1]" % ("1," * 200_000)), (422, "too-many-items")),
    ],
)
async def test_refused(rig: Rig, body: str, expected: tuple[int, str]) -> None:
    assert await post(rig, body) == expected
    assert (await rig.client.get("/task")).json()["items"] == []


async def test_too_large(rig: Rig) -> None:
    body = '{"type":"reverse","params":["%s"]}' % ("x" * (2 << 20))
    reply = await rig.client.post("/task", content=body, headers=JSON)
    assert problem(reply) == (413, "payload-too-large")
    assert reply.headers["connection"] == "close"
    assert "TASKER_MAX_BODY" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "mark"),
    [
        ("/task", b'\xef\xbb\xbf{"type":"sum","params":[4,2]}', "UTF-8 byte order mark"),
        ("/type/sum/task", b"\xef\xbb\xbf[4,2]", "UTF-8 byte order mark"),
        ("/batch", b'\xef\xbb\xbf[{"type":"sum","params":[4,2]}]', "UTF-8 byte order mark"),
        ("/webhook", b'\xef\xbb\xbf{"url":"https://example.com"}', "UTF-8 byte order mark"),
        ("/task", '{"type":"sum"}'.encode("utf-16"), "byte order mark of UTF-16"),
        ("/task", b"\xfe\xff" + '{"type":"sum"}'.encode("utf-16-be"), "byte order mark of UTF-16"),
    ],
)
async def test_a_byte_order_mark_is_named(rig: Rig, path: str, body: bytes, mark: str) -> None:
    reply = await rig.client.post(path, content=body, headers=JSON)
    assert problem(reply) == (400, "malformed-json")
    assert mark in reply.json()["detail"]


async def test_a_byte_order_mark_before_lines_is_named(rig: Rig) -> None:
    line = with_params("[4,2]").encode()
    headers = {"content-type": "application/jsonl"}
    reply = await rig.client.post("/batch", content=b"\xef\xbb\xbf" + line + b"\n" + line, headers=headers)
    first, second, _ = map(json.loads, reply.text.splitlines())
    assert "UTF-8 byte order mark" in first["problem"]["detail"]
    assert second["status"] == 202


async def test_just_not_too_large(rig: Rig) -> None:
    head, tail = '{"type":"reverse","params":["', '"]}'
    body = head + "x" * ((1 << 20) - len(head + tail)) + tail
    assert (await rig.client.post("/task", content=body, headers=JSON)).status_code == 202
    assert await post(rig, body + " ") == (413, "payload-too-large")


@pytest.mark.parametrize(
    "params", ["[9223372036854775808, 9007199254740993]", "[-0, 1e2]", "[ 1.10,\n2 ]", "[%s,1]" % ("9" * 1000)]
)
async def test_numbers_come_back_as_they_went(rig: Rig, params: str) -> None:
    reply = await rig.client.post("/task", content=with_params(params), headers=JSON)
    assert reply.status_code == 202
    assert f'"params":{params},' in reply.text
    assert f'"params":{params},' in (await rig.client.get(reply.headers["location"])).text


async def test_hostile_text_is_data(rig: Rig) -> None:
    text = "<script>alert(1)</script> \r\n2026 ERROR \x1b[2J javascript: \u202e\u2028"
    task_id = await rig.submit("reverse", [text], tags=[text[:25]], metadata={text: text})
    await rig.finish(Succeeded(json.dumps(text).encode()))
    reply = await rig.client.get(f"/task/{task_id}")
    assert reply.json()["result"] == text
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"


async def test_every_fault_has_a_pointer_into_the_body(rig: Rig) -> None:
    body = {"type": "sum", "params": ["1", 2, True], "priority": 1000, "status": "completed"}
    reply = await rig.client.post("/task", json=body)
    assert problem(reply) == (422, "invalid-request")
    assert {error["pointer"] for error in reply.json()["errors"]} == {"/params/0", "/params/2", "/priority", "/status"}
    assert all(error["detail"] for error in reply.json()["errors"])


async def test_the_params_alone_have_their_own_pointers(rig: Rig) -> None:
    reply = await rig.client.post("/type/sum/task", json=["1", 2])
    assert problem(reply) == (422, "invalid-params")
    assert [error["pointer"] for error in reply.json()["errors"]] == ["/0"]


async def test_very_many_faults_are_reported_in_part(rig: Rig) -> None:
    reply = await rig.client.post("/task", json={"type": "sum", "params": [1, 2]} | {f"f{n}": 1 for n in range(5000)})
    assert problem(reply) == (422, "unknown-field")
    assert len(reply.json()["errors"]) == 100


async def test_a_surrogate_in_a_refused_name_is_escaped(rig: Rig) -> None:
    reply = await rig.client.post("/task", content=b'{"type":"sum","\\ud800":1,"\\ud800":2}', headers=JSON)
    assert problem(reply) == (400, "duplicate-key")


async def test_no_such_type_in_the_path(rig: Rig) -> None:
    assert await post(rig, "[]", "/type/nope/task") == (404, "not-found")


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1", "limit=0", "limit=abc", "limit=1e9", "limit=", "limit=1&limit=2", "sort=id;DROP", "state=x",
        "status=%27%20OR%201=1", "status=", "status=pending,", "type=", "cursor=", "cursor=forged", "cursor=%00",
        "created_after=1970", "created_after=2026-01-01T00:00:00", "created_before=9999-12-31T23:59:59-23:59",
        "tag=%ff", "tag=%00", "limit=%EF%BC%91", "limit=" + "9" * 2000, "&".join(f"a{n}=1" for n in range(300)),
    ],
)  # fmt: skip
async def test_wrong_queries(rig: Rig, query: str) -> None:
    reply = await rig.client.get(f"/task?{query}")
    assert problem(reply)[0] == 422


@pytest.mark.parametrize("limit", ["501", "999999999", "0005", "9" * 500])
async def test_large_limits_are_clamped(rig: Rig, limit: str) -> None:
    assert (await rig.client.get(f"/task?limit={limit}")).status_code == 200


async def test_every_wrong_parameter_is_named(rig: Rig) -> None:
    reply = await rig.client.get("/task?limit=0&sort=id&status=done")
    assert problem(reply) == (422, "invalid-request")
    assert {error["pointer"] for error in reply.json()["errors"]} == {"/limit", "/sort", "/status"}
