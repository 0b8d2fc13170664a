"""Values come back exactly or are refused: over HTTP, on both engines, through real child processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tasker.client import Tasker, TaskFailed
from tests.cli.command import tasker as run_command
from tests.postgres import fresh_database
from tests.server import Server, run_server

AMOUNT = "12345678901234567.89"
TASKS = str(Path(__file__).parents[1] / "value_tasks.py")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"TASKER_LOG_LEVEL": "error"}
    if request.param == "postgres":
        env["TASKER_DATABASE_URL"] = fresh_database()
    with run_server(tmp_path_factory.mktemp("values"), "--tasks", TASKS, env=env) as server:
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as http:
        yield http


@pytest.fixture
def client(server: Server) -> Iterator[Tasker]:
    with Tasker(server.url) as client:
        yield client


def post(http: httpx2.Client, path: str, text: str, **headers: str) -> Any:
    reply = http.post(path, content=text.encode(), headers={"content-type": "application/json", **headers})
    return json.loads(reply.text, parse_float=str)


def end(http: httpx2.Client, task: Any) -> Any:
    reply = http.get(f"/task/{task['task_id']}", params={"wait": "20"})
    return json.loads(reply.text, parse_float=str)


PARAMS = [f"[{AMOUNT}]", f'["{AMOUNT}"]', f'{{"amount": {AMOUNT}}}']


@pytest.mark.parametrize("params", PARAMS)
def test_a_decimal_has_the_digits_that_were_sent(http: httpx2.Client, params: str) -> None:
    done = post(http, "/task?wait=20", f'{{"type": "pay", "params": {params}}}')
    assert (done["status"], done["result"]) == ("completed", AMOUNT)
    assert post(http, "/type/pay/task?wait=20", params)["result"] == AMOUNT
    assert end(http, post(http, f"/task/{done['task_id']}/replay", ""))["result"] == AMOUNT


def test_decimals_keep_their_digits_at_any_depth(http: httpx2.Client) -> None:
    params = f'[{AMOUNT}, [{{"price": 0.{"1" * 40}}}, null], 1e-400, 5, {"9" * 40}]'
    done = post(http, "/task?wait=20", f'{{"type": "pay_on_the_loop", "params": {params}}}')
    assert done["result"] == [AMOUNT, "0." + "1" * 40, "1E-400", "5", "9" * 40]


def test_decimals_keep_their_digits_in_batches_and_schedules(http: httpx2.Client) -> None:
    one = f'{{"type": "pay", "params": [{AMOUNT}]}}'
    [item] = post(http, "/batch", f"[{one}]")["items"]
    assert end(http, item)["result"] == AMOUNT
    lines = http.post("/batch", content=f"{one}\n", headers={"content-type": "application/jsonl"})
    assert end(http, json.loads(lines.text.splitlines()[0]))["result"] == AMOUNT
    made = post(http, "/schedule", f'{{"name": "exact", "interval": 3600, "task": {one}}}')
    fired = post(http, f"/schedule/{made['schedule_id']}/trigger", "")
    assert end(http, fired)["result"] == AMOUNT


def test_requests_that_differ_in_a_digit_are_different(http: httpx2.Client) -> None:
    one, other = (f'{{"type": "pay", "params": [{AMOUNT[:-1]}{digit}], "cache": 60}}' for digit in "89")
    done, again = (post(http, "/task?wait=20", one) for _ in range(2))
    assert again["task_id"] == done["task_id"]
    assert post(http, "/task?wait=20", other)["result"] == AMOUNT
    key = {"idempotency-key": "one"}
    post(http, "/task", one.replace(', "cache": 60', ""), **key)
    refused = post(http, "/task", other.replace(', "cache": 60', ""), **key)
    assert refused["type"] == "/problems/idempotency-key-reuse"


def test_the_client_and_the_command_line_send_all_digits(client: Tasker, server: Server) -> None:
    assert client.run("pay", Decimal(AMOUNT)) == AMOUNT
    assert client.run("pay_on_the_loop", 1, [{"price": Decimal(AMOUNT)}]) == ["1", AMOUNT]
    for word in (AMOUNT, f"amount:={AMOUNT}"):
        assert run_command("run", "pay", word, env={"TASKER_URL": server.url}).out.strip() == AMOUNT


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-sNaN"])
def test_an_invalid_decimal_is_refused(http: httpx2.Client, word: str) -> None:
    refused = post(http, "/task", f'{{"type": "pay_on_the_loop", "params": [1, [{{"price": "{word}"}}], "{word}"]}}')
    assert refused["errors"] == [
        {"pointer": f"/params/{place}", "detail": "expected a finite decimal number"} for place in ("1/0/price", "2")
    ]


REFUSED = {
    "raw": "msgspec.Raw that is not JSON",
    "raw in a list": "msgspec.Raw that is not JSON",
    "keys of one text": "two keys of a dict have the same text",
    "nan": "NaN or an infinity",
    "decimal nan": "NaN or an infinity",
    "surrogate": "a lone surrogate",
    "no zone": "a datetime without a time zone",
    "generator": "a generator; return a list",
    "circle": "contains itself",
    "awaitable": "an awaitable that was not awaited",
}
TAKEN = {
    "subclasses": [1, "yes", "text", {"key": 1}, "/tmp"],
    "large": 10**1000,
    "nul": "a\0b",
    "set": [1],
}


@pytest.mark.parametrize("type_", ["give", "give_on_the_loop"])
def test_a_result_that_json_cannot_hold_fails_its_task_alone(client: Tasker, http: httpx2.Client, type_: str) -> None:
    for which, says in REFUSED.items():
        with pytest.raises(TaskFailed) as caught:
            client.run(type_, which)
        assert caught.value.problem.type == "/problems/result-not-serializable"
        assert says in caught.value.problem.detail
    for which, result in TAKEN.items():
        assert client.run(type_, which) == result
    listed = http.get("/task", params={"type": type_, "limit": "100"}).json()["items"]
    assert len(listed) >= len(REFUSED) + len(TAKEN)


def test_whatever_a_task_reports_becomes_json(client: Tasker, http: httpx2.Client) -> None:
    before = http.get("/usage", params={"type": "tell"}).json()["total"]["cost"]
    task = client.submit("tell", "0.1").wait(20)
    assert (task.status, task.usage) == ("completed", {"cost": 0.1, "input_tokens": 1})
    assert task.progress is not None
    assert (task.progress.current, task.progress.total, task.progress.message) == (1, 4, "text")
    [line] = [event for event in client.events(task.task_id) if event.type == "log"]
    assert line.fields["nan"] == "nan"
    assert line.fields["word"] == "text"
    assert set(line.fields) == {"raw", "twice", "nan", "word"}
    assert http.get("/usage", params={"type": "tell"}).json()["total"]["cost"] == pytest.approx(before + 0.1)
    for cost in ("NaN", "-1", "1e400"):
        failed = client.submit("tell", cost).wait(20)
        assert failed.error is not None
        assert "cost must be a number from 0 to" in failed.error.detail


def test_a_coroutine_that_a_def_returns_is_awaited(client: Tasker) -> None:
    assert client.run("wrapped", 4) == 5
    with pytest.raises(TaskFailed, match="ValueError: from within"):
        client.run("wrapped_and_failing")
    handle = client.submit("wrapped_and_waiting")
    for event in handle.events():
        if event.chunk == "started":
            handle.cancel()
    assert handle.wait(20).status == "cancelled"


def test_never_and_object_are_types(client: Tasker) -> None:
    with pytest.raises(TaskFailed, match="as declared"):
        client.run("never")
    assert client.run("anything", {"a": [1.5, None]}) == {"a": [1.5, None]}


def test_models_go_in_and_come_out(http: httpx2.Client) -> None:
    order = f'{{"items": [{{"SKU": "ABC", "price": {AMOUNT}}}], "folder": "/srv"}}'
    done = post(http, "/task?wait=20", f'{{"type": "place", "params": [{order}, 1, "/var/log"]}}')
    assert done["result"] == {"items": [{"SKU": "ABC", "price": AMOUNT}], "folder": "/srv"}
    again = json.dumps({"order": done["result"], "count": 1})
    assert post(http, "/type/place/task?wait=20", again)["result"] == done["result"]


def test_every_fault_of_a_model_has_its_pointer(http: httpx2.Client) -> None:
    order = {"items": [{"SKU": "abc", "price": -1, "size": 1}, {"SKU": 3}]}
    refused = post(
        http, "/task", json.dumps({"type": "place", "params": {"order": order, "count": "3", "log": 5, "x": 1}})
    )
    assert {error["pointer"]: error["detail"] for error in refused["errors"]} == {
        "/params/order/items/0/SKU": "expected capital letters",
        "/params/order/items/0/price": "expected greater than 0",
        "/params/order/items/0/size": "unknown field",
        "/params/order/items/1/SKU": "expected a valid string",
        "/params/order/items/1/price": "`price` is missing",
        "/params/count": "expected integer, got string",
        "/params/log": "expected string or null, got integer",
        "/params/x": "unknown field",
    }
