"""The client's requests: what it repeats and when, what it sends, and how it raises refusals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from traceback import format_exception
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from tasker.client import (
    AwaitsRestart,
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    ServiceError,
    SubmitOptions,
    Tasker,
    Unavailable,
    UnexpectedReply,
    Unreachable,
    WaitTimeout,
)
from tasker.errors import Fault
from tests.client import shells
from tests.client.scripted import TASK_ID, Reply, play, problem, task
from tests.server import held_port

Connect = Callable[..., AbstractContextManager[Any]]
DONE = Reply(202, task(result=6))


class Sleeper:
    """Records pauses instead of sleeping."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


@pytest.fixture(params=shells.SHELLS)
def connect(request: pytest.FixtureRequest, sleeper: Sleeper) -> Connect:
    """Both clients have to do the same."""

    async def sleep(seconds: float) -> None:
        sleeper(seconds)

    how = sleeper if request.param == "sync" else sleep
    return lambda url, **more: shells.connect(request.param, url, sleep=how, **more)


@pytest.mark.parametrize("first", [Reply(429), Reply(502, "<html>"), Reply(503), Reply(504), Reply(0)])
def test_a_submission_is_repeated_under_one_key(first: Reply, connect: Connect, sleeper: Sleeper) -> None:
    with play(first, first, DONE) as script, connect(script.url) as client:
        client.submit("sum", 4, 2)
    assert len(script.asked) == 3
    assert len({request.headers["Idempotency-Key"] for request in script.asked}) == 1
    assert [request.body for request in script.asked] == [{"type": "sum", "params": [4, 2]}] * 3
    first_pause, second_pause = sleeper.pauses
    assert 0.25 <= first_pause <= 0.5 <= second_pause <= 1.0


def test_two_submissions_have_two_keys(connect: Connect) -> None:
    with play(DONE) as script, connect(script.url) as client:
        client.submit("sum", 4, 2)
        client.submit("sum", 4, 2)
    assert len({request.headers["Idempotency-Key"] for request in script.asked}) == 2


def test_an_own_idempotency_key_is_sent(connect: Connect) -> None:
    with play(DONE) as script, connect(script.url) as client:
        client.submit("sum", 4, 2, options=SubmitOptions(idempotency_key="order-1"))
    assert script.asked[0].headers["Idempotency-Key"] == "order-1"
    assert "idempotency_key" not in script.asked[0].body


def test_the_third_failure_is_the_last(connect: Connect, sleeper: Sleeper) -> None:
    with (
        play(Reply(503, problem("unavailable", 503))) as script,
        connect(script.url) as client,
        pytest.raises(Unavailable) as caught,
    ):
        client.submit("sum", 4, 2)
    assert len(script.asked) == 3
    assert len(sleeper.pauses) == 2
    assert (caught.value.status, caught.value.name) == (503, "unavailable")


def test_retry_after_is_honoured_up_to_a_minute(connect: Connect, sleeper: Sleeper) -> None:
    replies = (Reply(503, {}, {"Retry-After": "7"}), Reply(429, {}, {"Retry-After": "86400"}), DONE)
    with play(*replies) as script, connect(script.url) as client:
        client.submit("sum", 4, 2)
    assert 7 <= sleeper.pauses[0] < 8
    assert 60 <= sleeper.pauses[1] < 61


def test_an_exhausted_budget_is_raised_at_once(connect: Connect, sleeper: Sleeper) -> None:
    refused = Reply(429, problem("budget-exhausted", 429), {"Retry-After": "17587"})
    with play(refused, DONE) as script, connect(script.url) as client, pytest.raises(ServiceError) as caught:
        client.submit("sum", 4, 2)
    assert caught.value.name == "budget-exhausted"
    assert sleeper.pauses == []


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "soon", "9" * 50])
def test_another_retry_after_is_no_reason_to_wait(header: str, connect: Connect, sleeper: Sleeper) -> None:
    with play(Reply(503, {}, {"Retry-After": header}), DONE) as script, connect(script.url) as client:
        client.submit("sum", 4, 2)
    assert 0.25 <= sleeper.pauses[0] <= 0.5


def test_a_request_under_way_is_asked_for_again(connect: Connect) -> None:
    in_flight = Reply(409, problem("idempotency-in-flight", 409))
    with play(in_flight, DONE) as script, connect(script.url) as client:
        client.submit("sum", 4, 2)
    assert len(script.asked) == 2


def test_no_result_is_returned_if_none_may_be_read(connect: Connect) -> None:
    """Without the scope read, a task that has ended is sent without its result."""
    receipt = {"task_id": TASK_ID, "status": "completed", "params": [4, 2]}
    with play(Reply(200, receipt), Reply(403, problem("forbidden", 403))) as script, connect(script.url) as client:
        with pytest.raises(NotAllowed):
            client.run("sum", 4, 2)
    assert [(one.method, one.path) for one in script.asked] == [("POST", "/task"), ("GET", f"/task/{TASK_ID}")]
    with play(Reply(202, receipt)) as script, connect(script.url) as client:
        assert str(client.submit("sum", 4, 2).task_id) == TASK_ID
        assert not client.cancel(TASK_ID).is_whole


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (500, Unavailable),
    ],
)
def test_a_refusal_is_not_repeated(status: int, kind: type[ServiceError], connect: Connect, sleeper: Sleeper) -> None:
    with (
        play(Reply(status, problem("some-name", status))) as script,
        connect(script.url) as client,
        pytest.raises(ServiceError) as caught,
    ):
        client.get(TASK_ID)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.name, caught.value.detail) == (status, "some-name", "no")
    assert len(script.asked) == 1
    assert sleeper.pauses == []


def test_a_refusal_has_the_services_problem(connect: Connect) -> None:
    body = problem("invalid-params", 422, errors=[{"pointer": "/params/0", "detail": "expected number"}])
    with (
        play(Reply(422, body, {"Request-Id": "r-1"})) as script,
        connect(script.url) as client,
        pytest.raises(InvalidRequest, match="Title: no") as caught,
    ):
        client.submit("sum", "a", 2)
    assert caught.value.faults == (Fault("/params/0", "expected number"),)
    assert caught.value.request_id == "r-1"


def test_a_refusal_by_a_proxy(connect: Connect) -> None:
    with (
        play(Reply(404, "<html>no such page</html>")) as script,
        connect(script.url) as client,
        pytest.raises(NotFound, match="404"),
    ):
        client.get(TASK_ID)


@pytest.mark.parametrize("body", ["<html>welcome</html>", [1], {"task_id": "no uuid"}])
def test_a_reply_that_is_not_a_task(body: object, connect: Connect) -> None:
    with (
        play(Reply(200, body)) as script,
        connect(script.url) as client,
        pytest.raises(UnexpectedReply, match=r"http.*/task/.*is not what a Tasker service replies"),
    ):
        client.get(TASK_ID)


def test_no_service(connect: Connect, sleeper: Sleeper) -> None:
    with held_port() as port:
        url = f"http://127.0.0.1:{port}"
        with connect(url) as client, pytest.raises(Unreachable, match=f"no answer from {url}") as caught:
            client.get(TASK_ID)
    assert len(sleeper.pauses) == 2
    assert "httpx2" not in "".join(format_exception(caught.value)).replace(__file__, ""), "its message says all"


def test_what_every_request_carries(connect: Connect) -> None:
    with play(DONE) as script, connect(script.url, token="secret-token") as client:
        client.submit("sum", 4, 2)
    headers = script.asked[0].headers
    assert headers["Authorization"] == "Bearer secret-token"
    assert headers["Content-Type"] == "application/json"
    assert headers["Prefer"] is None


def test_address_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with play(DONE) as script:
        monkeypatch.setenv("TASKER_URL", script.url + "/")
        monkeypatch.setenv("TASKER_TOKEN", "from-environment")
        with Tasker() as client:
            client.submit("sum", 4, 2)
    assert script.asked[0].path == "/task"
    assert script.asked[0].headers["Authorization"] == "Bearer from-environment"


def test_a_proxy_of_the_environment_is_not_asked_about_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    with held_port() as nobody, play(DONE) as script:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{nobody}")
        with Tasker(script.url) as client:
            client.submit("sum", 4, 2)
    assert len(script.asked) == 1


@pytest.mark.parametrize("url", ["localhost:5000", "ftp://localhost", "http://", "/task"])
def test_an_address_is_a_url(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL with http:// or https://"):
        Tasker(url)


def test_waiting_is_done_by_the_service(connect: Connect) -> None:
    held = Reply(200, task("running"), {"Retry-After": "2"})
    with play(held, held, Reply(200, task(result=6))) as script, connect(script.url) as client:
        assert client.wait(TASK_ID).result == 6
    assert [request.headers["Prefer"] for request in script.asked] == ["wait=60"] * 3


def test_polling_is_paced_if_the_service_does_not_hold_replies(connect: Connect, sleeper: Sleeper) -> None:
    replies = (Reply(200, task("running"), {"Retry-After": "2"}), Reply(200, task("running")), Reply(200, task()))
    with play(*replies) as script, connect(script.url) as client:
        client.wait(TASK_ID)
    assert sleeper.pauses == [2.0, 1.0]


def test_waiting_outlasts_a_restart(connect: Connect, sleeper: Sleeper) -> None:
    with play(*[Reply(0)] * 6, Reply(200, task(result=6))) as script, connect(script.url) as client:
        assert client.wait(TASK_ID).result == 6
    assert sum(sleeper.pauses) > 10


def test_the_time_to_wait_is_an_upper_limit(connect: Connect) -> None:
    with (
        play(Reply(200, task("running"))) as script,
        connect(script.url) as client,
        pytest.raises(WaitTimeout, match="not finished after 0 s; it goes on") as caught,
    ):
        client.wait(TASK_ID, timeout=0)
    assert caught.value.task.status == "running"
    assert isinstance(caught.value, TimeoutError)
    assert len(script.asked) == 1


def test_run_waits_with_the_submission_itself(connect: Connect) -> None:
    with play(Reply(200, task(result=6))) as script, connect(script.url) as client:
        assert client.run("sum", 4, 2) == 6
    assert [(request.method, request.headers["Prefer"]) for request in script.asked] == [("POST", "wait=60")]


def test_run_goes_on_where_its_submission_is_cut_off(connect: Connect) -> None:
    """A proxy may wait for less long than a task takes: the same submission is sent again, without a wait."""
    replies = Reply(504, "<html>"), Reply(202, task("running")), Reply(200, task(result=6))
    with play(*replies) as script, connect(script.url) as client:
        assert client.run("sum", 4, 2) == 6
    assert [(request.method, request.headers["Prefer"]) for request in script.asked] == [
        ("POST", "wait=60"),
        ("POST", None),
        ("GET", "wait=60"),
    ]
    assert script.asked[0].headers["Idempotency-Key"] == script.asked[1].headers["Idempotency-Key"]
    with play(Reply(504, "<html>")) as script, connect(script.url, retries=0) as client, pytest.raises(Unavailable):
        client.run("sum", 4, 2)
    assert len(script.asked) == 1


def test_options_are_sent_with_the_params(connect: Connect) -> None:
    options = SubmitOptions(
        queue="q", priority=0, delay=timedelta(minutes=1), timeout=2.5, retry={"max_attempts": 3}, tags=["a"],
        metadata={"k": 1},
    )  # fmt: skip
    with play(DONE) as script, connect(script.url) as client:
        client.submit("sum", options=options, numbers=[1, 2])
    assert script.asked[0].body == {
        "type": "sum", "params": {"numbers": [1, 2]}, "queue": "q", "priority": 0, "delay": 60.0, "timeout": 2.5,
        "retry": {"max_attempts": 3}, "tags": ["a"], "metadata": {"k": 1},
    }  # fmt: skip


def test_names_of_the_client_are_free_for_params(connect: Connect) -> None:
    with play(DONE) as script, connect(script.url) as client:
        client.submit("own", type=1, self=2, timeout=3)
    assert script.asked[0].body["params"] == {"type": 1, "self": 2, "timeout": 3}


def test_params_are_by_position_or_by_name(connect: Connect) -> None:
    with play(DONE) as script, connect(script.url) as client, pytest.raises(TypeError, match="by position or by name"):
        client.submit("sum", 1, b=2)
    assert script.asked == []


def test_a_list_goes_on_after_an_empty_page(connect: Connect) -> None:
    pages = (
        Reply(200, {"items": [], "next_cursor": "c1", "searched_back_to": "2026-01-02T03:04:05Z"}),
        Reply(200, {"items": [task()], "next_cursor": None}),
    )
    with play(*pages) as script, connect(script.url) as client:
        assert len(list(client.find_many(tag="rare"))) == 1
    assert [request.path for request in script.asked] == ["/task?tag=rare", "/task?tag=rare&cursor=c1"]


def test_lists_are_read_page_by_page(connect: Connect) -> None:
    pages = (
        Reply(200, {"items": [task(), task()], "next_cursor": "c1"}),
        Reply(200, {"items": [task(), task()], "next_cursor": None}),
    )
    with play(*pages) as script, connect(script.url) as client:
        assert len(list(client.find_many(status="completed", limit=3))) == 3
    assert [request.path for request in script.asked] == [
        "/task?status=completed&limit=3",
        "/task?status=completed&limit=3&cursor=c1",
    ]


def test_queues_are_read_page_by_page(connect: Connect) -> None:
    pages = (
        Reply(200, {"items": [{"name": "a"}, {"name": "b"}], "next_cursor": "c1"}),
        Reply(200, {"items": [{"name": "c"}], "next_cursor": None}),
    )
    with play(*pages) as script, connect(script.url) as client:
        assert [queue.name for queue in client.queues.find_many()] == ["a", "b", "c"]
    assert [request.path for request in script.asked] == ["/queue?limit=500", "/queue?limit=500&cursor=c1"]


def test_unused_pages_are_not_read(connect: Connect) -> None:
    with play(Reply(200, {"items": [task()], "next_cursor": "c1"})) as script, connect(script.url) as client:
        next(client.find_many())
    assert len(script.asked) == 1


def told(*sequences: int, type: str = "output") -> str:
    """Return events as the service streams them."""
    event = {"task_id": TASK_ID, "type": type, "time": "2026-01-31T12:00:00Z", "attempt": 1, "chunk": "a", "new": 1}
    datas = [json.dumps({**event, "sequence": sequence}) for sequence in sequences]
    return ": here\n\n" + "".join(
        f"id: {n}\nevent: x\ndata: {data}\n\n" for n, data in zip(sequences, datas, strict=True)
    )


def test_events_are_followed_over_broken_connections(connect: Connect, sleeper: Sleeper) -> None:
    replies = (
        Reply(200, told(1, 2)), Reply(200, task("running")), Reply(0), Reply(503, problem("unavailable", 503)),
        Reply(200, told(3) + told(4, type="completed")), Reply(200, task("completed")),
    )  # fmt: skip
    with play(*replies) as script, connect(script.url) as client:
        assert [event.sequence for event in client.events(TASK_ID)] == [1, 2, 3, 4]
    asked = [request for request in script.asked if request.path.endswith("/events")]
    assert [request.headers["Last-Event-ID"] for request in asked] == ["0", "2", "2", "2"]
    assert {request.headers["Accept"] for request in asked} == {"text/event-stream"}
    assert len(sleeper.pauses) == 3


def test_the_end_is_told_where_it_comes_after_that_of_the_stream(connect: Connect, sleeper: Sleeper) -> None:
    """A service that stops ends its streams first, and its tasks then."""
    ended = Reply(200, task("completed"))
    with play(Reply(200, told(1)), ended, Reply(200, told(2, type="completed")), ended) as script:
        with connect(script.url) as client:
            assert [event.sequence for event in client.events(TASK_ID)] == [1, 2]
    assert [request.headers.get("Last-Event-ID") for request in script.asked] == ["0", None, "1", None]
    with play(Reply(204), ended, Reply(204), ended) as script, connect(script.url) as client:
        assert list(client.events(TASK_ID, after=2)) == []
    assert (len(script.asked), sleeper.pauses) == (4, [])


def test_events_of_a_service_that_stays_away_end_with_an_error(connect: Connect) -> None:
    with play(Reply(0)) as script, connect(script.url) as client, pytest.raises(Unreachable):
        next(client.events(TASK_ID))
    assert len(script.asked) == 7


def test_events_of_a_task_that_is_not_there(connect: Connect) -> None:
    missing = Reply(404, problem("not-found", 404))
    with play(missing) as script, connect(script.url) as client, pytest.raises(NotFound):
        next(client.events(TASK_ID))
    assert len(script.asked) == 1


def test_run_outlasts_a_stop_of_the_service(connect: Connect) -> None:
    """The task was accepted before the stop: only tasks accepted after it wait for the restart."""
    open_ = task("pending", reason="restart")
    with play(Reply(202, open_, {"Preference-Applied": "wait=60"}), DONE) as script, connect(script.url) as client:
        assert client.run("sum", 4, 2) == 6
    with play(Reply(202, open_)) as script, connect(script.url) as client:
        with pytest.raises(AwaitsRestart, match=TASK_ID):
            client.run("sum", 4, 2)
        assert client.submit("sum", 4, 2).awaits_restart
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    ("value", "pointer", "says"),
    [
        (math.nan, "/params/0", "NaN or an infinity"),
        ({"a": [1, {"b": -math.inf}]}, "/params/0/a/1/b", "NaN or an infinity"),
        (Decimal("NaN"), "/params/0", "NaN or an infinity"),
        ({1: "a", "1": "b"}, "/params/0", "two keys of a dict have the same text"),
        ([msgspec.Raw(b"{")], "/params/0/0", "msgspec.Raw that is not JSON"),
        ("\ud800", "/params/0", "a lone surrogate"),
        (datetime(2026, 1, 1), "/params/0", "a datetime without a time zone"),  # noqa: DTZ001
        (object(), "/params/0", "values of the type object have no JSON form"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_not_sent(connect: Connect, value: object, pointer: str, says: str) -> None:
    with play(DONE) as script, connect(script.url) as client:
        with pytest.raises(ValueError, match=f"the request is not sent, for {pointer}: it .*{says}"):
            client.submit("echo", value)
        with pytest.raises(ValueError, match="/metadata/x: it holds NaN"):
            client.submit("echo", options=SubmitOptions(metadata={"x": math.nan}))
        with pytest.raises(ValueError, match="/task/params/0: it holds NaN"):
            client.schedules.create("s", {"type": "echo", "params": [math.nan]}, interval=60)
    assert script.asked == []


def test_other_values_are_sent_unchanged(connect: Connect) -> None:
    with play(DONE) as script, connect(script.url) as client:
        client.submit("echo", Decimal("12345678901234567.89"), {1}, b"x", 10**30, Path("/srv"), None)
    assert script.asked[0].body["params"] == ["12345678901234567.89", [1], "eA==", 10**30, "/srv", None]


@pytest.mark.parametrize("hostile", ["../key/k1", "..", ".", "x?owner=y", "x#y", "%2e%2e/key/k1"])
def test_an_id_of_somebody_else_leads_nowhere_else(connect: Connect, hostile: str) -> None:
    with play(Reply(404, problem("not-found", 404))) as script, connect(script.url) as client:
        for ask in (
            client.get,
            client.cancel,
            client.delete,
            lambda one: list(client.events(one)),
            lambda one: list(client.logs(one)),
            client.schedules.delete,
            client.webhooks.delete,
            lambda one: client.webhooks.redeliver(TASK_ID, one),
            client.bulk.undo,
            client.queues.get,
            client.groups.cancel,
            client.keys.revoke,
        ):
            with pytest.raises(NotFound):
                ask(hostile)
    for asked in script.asked:
        first, rest = asked.path.partition("?")[0].removeprefix("/").split("/", 1)
        assert first in {"task", "schedule", "webhook", "bulk", "queue", "group", "key"}
        assert unquote(rest.split("/")[2 if first == "webhook" and "/" in rest else 0]) == hostile


def test_a_type_of_another_program_is_no_type(connect: Connect) -> None:
    whole = {"name": "sum", "input_schema": {"type": "object"}, "positional": ["a"]}
    with play(Reply(200, {"name": "sum"}), Reply(200, whole)) as script, connect(script.url) as client:
        with pytest.raises(UnexpectedReply, match="input_schema"):
            client.find_type("sum")
        assert client.find_type("sum") == whole
