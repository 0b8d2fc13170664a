"""No request costs more than its size: twice the input takes at most twice the processor time.

Every operation of the table is walked, with all that a client can make large: a body of any kind, each of its fields,
the query, the headers. A new operation needs a line in SIZED.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from time import process_time, thread_time
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from msgspec import Struct, structs

from tasker.api.app import make_operations
from tasker.api.operation import Operation
from tasker.metrics import Metrics
from tasker.requests.submissions import SubmissionBody
from tasker.validation import faults
from tests.api.conftest import MakeRig, Rig
from tests.cost import TRIES, grows, no_collector
from tests.marks import unusually

__all__ = ["no_collector"]

SIZE = 40_000
"""Bytes of the smaller body; the larger one is just below what JSON may hold in items."""
HEAD_SIZE = 1_700
"""Bytes of the smaller head; the larger one is just below what an address may have."""


class Request(NamedTuple):
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    query: bytes = b""
    media: bytes = b"application/json"
    piece: int = 1 << 16


Sizer = Callable[[int], Request]
"""Returns a request of about the given number of bytes."""


def as_json(value: Any) -> Request:
    return Request(json.dumps(value).encode())


def lines(text: str, size: int, **options: Any) -> Request:
    return Request((text + "\n").encode() * (size // len(text)), media=b"application/jsonl", **options)


def task_of(size: int) -> dict[str, Any]:
    """A valid submission, with the most of everything that it may have."""
    return {
        "type": "echo", "params": [["text"] * (size // 10)], "tags": [f"tag {n}" for n in range(20)],
        "metadata": {"key": "value"}, "depends_on": [str(uuid4()) for _ in range(100)],
    }  # fmt: skip


def free_task(size: int) -> dict[str, Any]:
    return {"type": "sum", "params": [1] * (size // 3)}


PARAMS: dict[str, Sizer] = {
    "integers": lambda size: as_json([1] * (size // 3)),
    "floats": lambda size: as_json([1.5] * (size // 5)),
    "wrong": lambda size: as_json(["1"] * (size // 5)),
    "wrong at the end": lambda size: as_json([*[1] * (size // 3), "1"]),
    "unknown": lambda size: as_json({f"{n}": 1 for n in range(size // 9)}),
}
SUBMISSION: dict[str, Sizer] = {
    "good": lambda size: as_json(free_task(size)),
    "all options": lambda size: as_json(task_of(size)),
    "cached": lambda size: as_json({**free_task(size), "cache": 60}),
    "digits": lambda size: as_json({"type": "echo", "params": ["@"], "cache": 60}),
    "wrong": lambda size: as_json({"type": "sum", "params": ["1"] * (size // 5)}),
}
BATCH: dict[str, Sizer] = {
    "array": lambda size: as_json([{"type": "sum", "params": [4, 2]}] * (size // 80)),
    "array of wrong ones": lambda size: as_json([1] * (size // 30)),
    "array of large ones": lambda size: as_json([free_task(size // 4)] * 4),
    "no array": lambda size: Request(b"[" + b"1," * (size // 2)),
    "lines": lambda size: lines('{"type": "sum", "params": [4, 2]}', size // 2),
    "wrong lines": lambda size: lines('{"type": "sum", "params": ["4"]}', size // 4),
    "blank lines": lambda size: lines(" ", size),
    "a line in small pieces": lambda size: Request(
        json.dumps(free_task(4 * size)).encode(), media=b"application/jsonl", piece=16
    ),
    "lines in small pieces": lambda size: lines('{"type": "sum", "params": [4, 2]}', size // 8, piece=7),
}
HEAD_ALONE: dict[str, Sizer] = {}
SIZED: dict[str, dict[str, Sizer]] = {
    "submit_task": SUBMISSION,
    "put_task": SUBMISSION,
    "submit_params": PARAMS,
    "submit_batch": BATCH,
    "replay_task": {"params": lambda size: as_json({"params": [1] * (size // 3)})},
    "retry_task": {"names": lambda size: as_json({"forget": ["x"] * (size // 5)})},
    "answer_task": {
        "value": lambda size: as_json({"name": "approve", "value": [1] * (size // 3)}),
        "unknown": lambda size: as_json({f"field {n}": 1 for n in range(size // 14)}),
    },
    "act_on_tasks": {"statuses": lambda size: as_json({"action": "cancel", "filter": {"status": ["x"] * (size // 5)}})},
    "create_schedule": {
        "task": lambda size: as_json({"name": str(uuid4()), "interval": 60, "task": free_task(size)}),
        "wrong": lambda size: as_json(
            {"name": "n", "interval": 60, "task": {"type": "sum", "params": ["x"] * (size // 5)}}
        ),
    },
    "change_schedule": {"task": lambda size: as_json({"task": free_task(size)})},
    "list_ticks": {"count": lambda size: Request(query=b"count=%d" % (size * 25 // SIZE))},
    "create_webhook": {"events": lambda size: as_json({"url": "https://a.example/", "events": ["x"] * (size // 5)})},
    "change_webhook": {"events": lambda size: as_json({"events": ["x"] * (size // 5)})},
    "rotate_secret": {"secret": lambda size: as_json({"secret": "whsec_" + "a" * size})},
    "create_key": {"scopes": lambda size: as_json({"scopes": ["x"] * (size // 5)})},
    "change_queue": {"unknown": lambda size: as_json({f"limit {n}": 1 for n in range(size // 14)})},
    "follow_all": {"ids": lambda size: Request(query=b"task_id=" + b",".join([b"0"] * (size * HEAD_SIZE // SIZE)))},
    "list_tasks": {"status": lambda size: Request(query=b"status=" + b",".join([b"x"] * (size * HEAD_SIZE // SIZE)))},
    **dict.fromkeys(
        [
            "get_task", "get_result", "read_log", "list_failures", "list_questions", "cancel_task", "delete_task",
            "follow_task", "list_schedules", "get_schedule", "delete_schedule", "trigger_schedule", "list_types",
            "get_type", "list_workers",
            "list_webhooks", "get_webhook", "delete_webhook", "list_deliveries", "redeliver", "get_usage", "list_keys",
            "get_key", "revoke_key", "list_audit", "list_groups", "get_group", "cancel_group",
            "list_bulk", "get_bulk", "stop_bulk",
            "undo_bulk", "list_queues", "get_queue", "is_alive", "is_ready", "get_metrics",
            "get_openapi", "explain_problem", "index", "docs", "docs_file", "get_stats",
        ],
        HEAD_ALONE,
    ),
}  # fmt: skip
"""For each operation its large parts other than its head, its fields and a body of any kind, which all are tested."""


VALUES: dict[str, Callable[[int], str]] = {
    "text": lambda size: json.dumps("a" * size),
    "escapes": lambda size: '"' + r"\u0041" * (size // 6) + '"',
    "digits": lambda size: "1" * size,
    "fraction": lambda size: "1." + "1" * size,
    "integers": lambda size: "[" + ",".join("1" * (size // 2)) + "]",
    "texts": lambda size: json.dumps(["a"] * (size // 5)),
    "lists": lambda size: "[" + ",".join(["[]"] * (size // 3)) + "]",
    "members": lambda size: json.dumps({f"{n:06}": 1 for n in range(size // 13)}),
}
"""JSON texts of about the given number of bytes."""
WHOLE: dict[str, Callable[[int], bytes]] = {
    "unknown members": lambda size: json.dumps({f"queu{n}": 1 for n in range(size // 15)}).encode(),
    "open brackets": lambda size: b"[" * size,
    "brackets": lambda size: b"[]" * (size // 2),
    "blanks": lambda size: b" " * size,
    "the same key": lambda size: b"{" + b",".join([b'"a":1'] * (size // 6)) + b"}",
    "no UTF-8": lambda size: b'"' + b"a" * size + b"\xff",
    "half a character": lambda size: b'["' + b"\\ud800" * (size // 6) + b'"]',
    "open text": lambda size: b'"' + b"\\\\" * (size // 2),
}


def body_sizers(operation: Operation) -> Iterator[tuple[str, Sizer]]:
    """Yield sizers of any body, and of each field of this one."""
    if operation.body is None:
        return
    for what, text in WHOLE.items():
        yield f"body: {what}", lambda size, text=text: Request(text(size))  # type: ignore[misc]
    if operation.body in ("params", "batch") or operation.method == "PUT":
        return  # the fields are those of `submit_task`
    form: Any = SubmissionBody if operation.body == "submission" else operation.body
    assert issubclass(form, Struct), f"{operation.name}: a body of a new kind"
    for name in _names(form):
        for kind, text in VALUES.items():
            yield f"{name}: {kind}", lambda size, name=name, text=text: field_of(name, text(size))  # type: ignore[misc]


def field_of(name: str, text: str) -> Request:
    """Return a body with this text as the value of a field."""
    member = f"{json.dumps(name)}:{text}"
    return Request((f"{{{member}}}" if name == "type" else f'{{"type":"echo",{member}}}').encode())


def _names(form: type[Struct]) -> list[str]:
    return [field.encode_name for field in structs.fields(form)]


def head_sizers(operation: Operation) -> Iterator[tuple[str, Sizer]]:
    """Yield sizers of the head of a request."""
    for name in ("x", *(parameter.name for parameter in operation.parameters)):
        yield f"query: {name}", lambda size, name=name: Request(query=f"{name}={'a' * size}".encode())  # type: ignore[misc]
        yield f"query: {name}, commas", lambda size, name=name: Request(query=f"{name}={',' * size}".encode())  # type: ignore[misc]
    yield "query: many", lambda size: Request(query=b"a=1&" * (size // 4))
    for header, item in (
        (b"accept", b"text/x;q=0.1,"), (b"prefer", b"wait=1; "), (b"prefer", b"wait "), (b"prefer", b"handling= "),
        (b"if-none-match", b'"a", '), (b"if-none-match", b"W/"), (b"traceparent", b"00-"), (b"idempotency-key", b"a"),
        (b"last-event-id", b"1"), (b"request-id", b"a"), (b"x-other", b"a"),
    ):  # fmt: skip
        yield (
            f"{header.decode()}: {item.decode()}",
            lambda size, header=header, item=item: Request(headers=((header, item * (size // len(item))),)),  # type: ignore[misc]
        )


class Bench(NamedTuple):
    """A service with one of everything that a path can name, and a key that may do everything."""

    rig: Rig
    key: bytes
    ids: dict[str, str]

    async def call(self, operation: Operation, request: Request) -> int:
        """Send a request, discard its reply and return its status."""
        path = operation.path.format_map({**self.ids, "task_id": self.ids.get(operation.name, self.ids["task_id"])})
        headers = [
            (b"host", b"localhost"), (b"authorization", self.key), (b"content-type", request.media), *request.headers,
        ]  # fmt: skip
        if request.body:
            headers.append((b"content-length", b"%d" % len(request.body)))
        scope = {
            "type": "http", "method": operation.method, "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": request.query, "headers": headers, "client": ("127.0.0.1", 1), "http_version": "1.1",
            "scheme": "http", "server": ("localhost", 80), "asgi": {"version": "3.0"},
        }  # fmt: skip
        pieces = [request.body[at : at + request.piece] for at in range(0, len(request.body), request.piece)]
        coming = iter(pieces)
        left = len(pieces)
        status = 0

        async def receive() -> dict[str, Any]:
            nonlocal left
            left -= 1
            if left < 0 and pieces:
                await asyncio.sleep(0)
            piece = next(coming, None)
            if piece is None:
                return {"type": "http.disconnect"} if left < -1 or not pieces else {"type": "http.request", "body": b""}
            return {"type": "http.request", "body": piece, "more_body": left > 0}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)

        await self.rig.app(scope, receive, send)
        return status

    async def cost(self, operation: Operation, request: Request) -> float:
        """Return the seconds of processor time that a request takes."""
        began = process_time()
        status = await self.call(operation, request)
        took = process_time() - began
        assert status != 500, operation.name
        return took


def operations_of(rig: Rig) -> dict[str, Operation]:
    made = make_operations(rig.service, Metrics(slots=4), rig.clock, rig.settings)
    return {operation.name: operation for operation in made}


@pytest.fixture
async def bench(make_rig: MakeRig, no_collector: None) -> Bench:
    rig = await make_rig()
    headers = await rig.key("admin", "control", "read", "submit")
    client = rig.client
    client.headers.update(headers)
    ids = {"name": "sum", "file": "docs.js", "delivery_id": str(uuid4()), "key_id": "nobody"}
    await rig.submit()
    ids["task_id"] = str((await rig.finish()).task_id)
    rule = {"name": "rare", "cron": "0 0 29 2 *", "task": {"type": "sum", "params": [4, 2]}}
    ids["schedule_id"] = (await client.post("/schedule", json=rule)).json()["schedule_id"]
    none = {"action": "retry", "filter": {"type": "none"}}
    ids["bulk_id"] = (await client.post("/bulk", json=none)).json()["bulk_id"]
    ids["webhook_id"] = (await client.post("/webhook", json={"url": "https://a.example/"})).json()["webhook_id"]
    return Bench(rig, headers["authorization"].encode(), ids)


async def nothing_of(bench: Bench, operation: Operation) -> float:
    return min([await bench.cost(operation, Request()) for _ in range(5)])


LONG = (
    "replay_task", "create_webhook", "change_webhook", "create_schedule", "change_schedule", "create_key",
    "change_queue",
)  # fmt: skip
"""Operations whose bodies are read by what reads others', too."""


def test_every_operation_has_a_sizer(rig: Rig) -> None:
    assert operations_of(rig).keys() == SIZED.keys()
    for name, operation in operations_of(rig).items():
        assert (operation.body is None) or SIZED[name], f"{name}: say what a large good body is"


@pytest.mark.parametrize("name", unusually(SIZED, *LONG))
async def test_an_operation_takes_time_by_the_size_of_its_input(bench: Bench, name: str) -> None:
    operations = operations_of(bench.rig)
    operation, nothing = operations[name], await nothing_of(bench, operations["is_alive"])
    found = {}
    bodies = [*SIZED[name].items(), *body_sizers(operation)]
    for size, sizers in ((SIZE, bodies), (HEAD_SIZE, list(head_sizers(operation)))):
        for what, make in sizers:

            async def cost(size: int, make: Sizer = make) -> float:
                return await bench.cost(operation, make(size))

            if words := await grows(cost, size, nothing):
                found[what] = words
    assert not found


@pytest.mark.parametrize("name", [name for name, sizers in SIZED.items() if sizers])
async def test_suggestions_are_made_for_reported_faults_only(
    bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Suggestions are computed only for the unknown members that are reported, not for thousands of them."""
    compared: list[str] = []
    find = faults.get_close_matches

    def counted(word: str, *args: Any, **options: Any) -> list[str]:
        compared.append(word)
        return find(word, *args, **options)

    monkeypatch.setattr(faults, "get_close_matches", counted)
    members: dict[str, Any] = {f"queu{n}": 1 for n in range(3 * faults.MAX_FAULTS)}
    inner = {"type": "sum", "params": members, "retry": members, "webhook": members, "rate": members, **members}
    operation = operations_of(bench.rig)[name]
    body = as_json({**inner, "task": inner, "filter": members})
    await bench.call(operation, body)
    assert len(compared) <= 2 * faults.MAX_FAULTS


class Held(NamedTuple):
    """The longest processor time for which a request blocked the loop, and its total."""

    longest: float
    whole: float


async def held(bench: Bench, operation: Operation, request: Request) -> Held:
    longest, last = 0.0, thread_time()
    began = process_time()
    calling = asyncio.create_task(bench.call(operation, request))
    while not calling.done():
        await asyncio.sleep(0)
        now = thread_time()
        longest, last = max(longest, now - last), now
    assert (await calling) == 200
    return Held(longest, process_time() - began)


@pytest.mark.parametrize(
    "make",
    [
        lambda count: as_json([{"type": "sum", "params": [1] * 10_000}] * count),
        lambda count: as_json([{"type": "sum", "params": ["1"] * 1_500}] * count),
        pytest.param(lambda count: as_json([1] * (10_000 * count)), marks=pytest.mark.long),
        lambda count: lines(json.dumps({"type": "sum", "params": [1] * 10_000}), 40_000 * count),
    ],
    ids=["good", "wrong", "no objects", "lines"],
)
async def test_a_large_batch_blocks_the_loop_no_longer(bench: Bench, make: Callable[[int], Request]) -> None:
    """With eight times as many submissions, other requests still run as often."""
    operation = operations_of(bench.rig)["submit_batch"]
    few = many = float("inf")
    for _ in range(TRIES):
        few = min(few, (await held(bench, operation, make(3))).longest)
        many = min(many, (await held(bench, operation, make(24))).longest)
        if many < 3 * few:
            return
    pytest.fail(f"{many * 1e3:.1f} ms at a time, with few submissions {few * 1e3:.1f} ms")
