"""/webhook: receivers of events, their URLs, and their deliveries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tasker.rules.signing import is_secret, new_secret
from tasker.testing import START
from tests.api.conftest import MakeRig, Rig, problem
from tests.api.webhooks import tell_in_vain

URL = "https://hooks.example.com/in"
SECRET = new_secret()


async def create(rig: Rig, **body: Any) -> dict[str, Any]:
    reply = await rig.client.post("/webhook", json={"url": URL, **body})
    assert reply.status_code == 201, reply.text
    made: dict[str, Any] = reply.json()
    assert reply.headers["location"] == f"/webhook/{made['webhook_id']}" == made["links"]["self"]
    return made


def pointers(reply: httpx2.Response) -> list[str]:
    return [fault["pointer"] for fault in reply.json()["errors"]]


async def test_a_new_webhook_shows_its_secret_once(rig: Rig) -> None:
    made = await create(rig)
    secret = made.pop("secret")
    assert is_secret(secret)
    assert made == {
        "webhook_id": made["webhook_id"], "url": URL, "type": None, "queue": None, "tag": None, "description": None,
        "events": ["task.completed", "task.failed", "task.cancelled"], "status": "active", "reason": None,
        "failing_since": None, "created_at": "2026-01-02T03:04:05.678901Z", "is_signed": True,
        "old_secret_until": None, "task_id": None, "format": "standard", "all_owners": False,
        "links": made["links"],
    }  # fmt: skip
    for reply in (await rig.client.get(made["links"]["self"]), await rig.client.get("/webhook")):
        assert reply.status_code == 200
        assert secret not in reply.text
    assert (await rig.client.get(made["links"]["self"])).json() == made
    assert (await rig.client.get("/webhook")).json() == {"items": [made], "next_cursor": None}


async def test_filters_events_and_an_own_secret_are_accepted(rig: Rig) -> None:
    given = {
        "events": ["task.started", "task.failed", "task.started"], "type": "sum", "queue": "q", "tag": "t",
        "description": "mine", "secret": SECRET,
    }  # fmt: skip
    made = await create(rig, **given)
    assert made["events"] == ["task.started", "task.failed"]
    assert {name: made[name] for name in given if name != "events"} == {k: v for k, v in given.items() if k != "events"}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1", "http://[::1]/", "https://127.0.0.1", "https://[::1]", "https://0.0.0.0",
        "https://169.254.169.254/latest/meta-data", "https://10.1.2.3", "https://[::ffff:127.0.0.1]",
        "https://2130706433", "https://0x7f.1", "https://localhost.", "file:///etc/passwd", "gopher://example.com/_x",
        "https://user:pw@example.com", "https://example.com:22", "http://example.com", "", "nonsense",
    ],
)  # fmt: skip
async def test_an_unsafe_url_is_refused_and_nothing_is_stored(rig: Rig, url: str) -> None:
    reply = await rig.client.post("/webhook", json={"url": url})
    assert problem(reply) == (422, "unsafe-url")
    assert pointers(reply) == ["/url"]
    assert (await rig.client.get("/webhook")).json()["items"] == []
    made = await create(rig)
    assert problem(await rig.client.patch(made["links"]["self"], json={"url": url})) == (422, "unsafe-url")
    assert (await rig.client.get(made["links"]["self"])).json()["url"] == URL


async def test_on_ones_own_network_plain_http_is_allowed_by_a_setting(make_rig: MakeRig) -> None:
    rig = await make_rig(webhook_insecure=True)
    assert (await create(rig, url="http://127.0.0.1:8000/x"))["url"] == "http://127.0.0.1:8000/x"
    assert problem(await rig.client.post("/webhook", json={"url": "file:///x"})) == (422, "unsafe-url")


async def test_only_listed_hosts_are_accepted(make_rig: MakeRig) -> None:
    rig = await make_rig(webhook_hosts=("*.example.com",))
    await create(rig)
    assert problem(await rig.client.post("/webhook", json={"url": "https://example.org"})) == (422, "unsafe-url")


async def test_every_fault_of_a_body_is_reported_at_once(rig: Rig) -> None:
    reply = await rig.client.post(
        "/webhook",
        json={
            "url": "https://localhost", "events": ["task.ended"], "type": "a b", "queue": 7, "tag": "", "secret": "x",
            "description": "x" * 201, "evnts": [],
        },
    )  # fmt: skip
    assert problem(reply) == (422, "invalid-request")
    assert set(pointers(reply)) == {
        "/url", "/events", "/type", "/queue", "/tag", "/secret", "/description", "/evnts",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "name", "at"),
    [
        ({}, "invalid-request", "/url"),
        ({"url": None}, "invalid-request", "/url"),
        ({"url": 7}, "invalid-request", "/url"),
        ({"url": URL, "events": []}, "invalid-request", "/events"),
        ({"url": URL, "events": "task.failed"}, "invalid-request", "/events"),
        ({"url": URL, "events": ["failed"]}, "invalid-request", "/events"),
        ({"url": URL, "secret": "whsec_" + "A" * 16}, "invalid-request", "/secret"),
        ({"url": URL, "secret": "whsec_" + "A" * 100}, "invalid-request", "/secret"),
        ({"url": URL, "secret": SECRET.removeprefix("whsec_")}, "invalid-request", "/secret"),
        ({"url": URL, "tag": "x" * 101}, "invalid-request", "/tag"),
        ({"url": URL, "type": "x" * 201}, "invalid-request", "/type"),
        ({"url": URL, "queue": "a b"}, "invalid-request", "/queue"),
        ({"url": URL, "format": "discord"}, "invalid-request", "/format"),
        ({"url": URL, "format": 7}, "invalid-request", "/format"),
        ({"url": URL, "webhook_id": str(uuid4())}, "unknown-field", "/webhook_id"),
        ([], "invalid-request", ""),
    ],
)
async def test_a_wrong_body_is_refused(rig: Rig, body: Any, name: str, at: str) -> None:
    reply = await rig.client.post("/webhook", json=body)
    assert problem(reply) == (422, name)
    assert pointers(reply) == [at]


async def test_a_change_sets_what_it_names_and_null_unsets(rig: Rig) -> None:
    made = await create(rig, events=["task.failed"], type="sum", tag="t")
    path = made["links"]["self"]
    reply = await rig.client.patch(path, json={"queue": "q", "type": None, "events": None})
    assert reply.status_code == 200
    expected = {**made, "queue": "q", "type": None, "events": ["task.completed", "task.failed", "task.cancelled"]}
    del expected["secret"]
    assert reply.json() == expected == (await rig.client.get(path)).json()
    for body, at in [({"url": None}, "/url"), ({"secret": SECRET}, "/secret"), ({"status": "off"}, "/status")]:
        assert pointers(await rig.client.patch(path, json=body)) == [at]


@pytest.mark.parametrize("format", ["standard", "slack", "plain"])
async def test_a_webhook_has_a_format(rig: Rig, format: str) -> None:
    made = await create(rig, format=format)
    path = made["links"]["self"]
    assert made["format"] == (await rig.client.get(path)).json()["format"] == format
    [kept] = (await rig.engine.webhooks.find_many(owner=None, limit=9)).items
    assert kept.format == format
    for change, now in (("slack", "slack"), ("plain", "plain"), (None, "standard")):
        assert (await rig.client.patch(path, json={"format": change})).json()["format"] == now
    reply = await rig.client.patch(path, json={"format": "teams"})
    assert pointers(reply) == ["/format"]
    assert (await rig.client.get("/webhook")).json()["items"][0]["format"] == "standard"


async def test_a_task_s_own_webhook_has_one_too(rig: Rig) -> None:
    asked = {"url": URL, "format": "slack"}
    task = (await rig.client.post("/task", json={"type": "sum", "params": [1, 2], "webhook": asked})).json()
    assert task["webhook"]["format"] == "slack"
    assert (await rig.client.get(task["links"]["self"])).json()["webhook"] == task["webhook"]
    path = f"/webhook/{task['webhook']['webhook_id']}"
    assert (await rig.client.get(path)).json()["format"] == "slack"
    reply = await rig.client.post(
        "/task", json={"type": "sum", "params": [1, 2], "webhook": {"url": URL, "format": "x"}}
    )
    assert reply.json()["errors"] == [
        {"pointer": "/webhook/format", "detail": "expected one of standard, slack, plain, got 'x'"}
    ]


async def test_a_resumed_webhook_starts_afresh(rig: Rig) -> None:
    made = await create(rig)
    path = made["links"]["self"]
    delivery = await fail(rig, made)
    assert delivery["status"] == "failed"
    assert (await rig.client.get(path)).json()["failing_since"] is not None
    assert (await rig.client.patch(path, json={"tag": "t"})).json()["failing_since"] is not None
    assert (await rig.client.patch(path, json={"status": "paused"})).json()["status"] == "paused"
    again = (await rig.client.patch(path, json={"status": "active"})).json()
    assert (again["status"], again["reason"], again["failing_since"]) == ("active", None, None)


async def test_a_rotation_has_two_secrets_sign_for_a_while(rig: Rig) -> None:
    made = await create(rig)
    path = made["links"]["self"]
    reply = await rig.client.post(f"{path}/rotate")
    assert reply.status_code == 200
    first = reply.json()
    assert is_secret(first["secret"])
    assert first["secret"] != made["secret"]
    assert first["old_secret_until"] == "2026-01-03T03:04:05.678901Z"
    webhook = (await rig.engine.webhooks.find_many(owner=None, limit=1)).items[0]
    assert webhook.signing(START) == [first["secret"], made["secret"]]
    assert webhook.signing(START + timedelta(days=1)) == [first["secret"]]
    reply = await rig.client.post(f"{path}/rotate", json={"secret": SECRET, "keep_old_for": 60})
    assert reply.json()["secret"] == SECRET
    webhook = (await rig.engine.webhooks.find_many(owner=None, limit=1)).items[0]
    assert webhook.signing(START) == [SECRET, first["secret"]]
    reply = await rig.client.post(f"{path}/rotate", json={"keep_old_for": 0})
    assert reply.json()["old_secret_until"] is None
    assert (await rig.client.post(f"{path}/rotate", json={"keep_old_for": 604_800})).status_code == 200
    assert (await rig.client.post(f"{path}/rotate", json={"keep_old_for": "PT1H"})).status_code == 200
    for body in (
        {"keep_old_for": -0.1},
        {"keep_old_for": 604_801},
        {"keep_old_for": "5m"},
        {"secret": "x"},
        {"x": 1},
        [],
    ):
        assert problem(await rig.client.post(f"{path}/rotate", json=body))[0] == 422


async def test_an_erased_webhook_is_gone(rig: Rig) -> None:
    made = await create(rig)
    path = made["links"]["self"]
    assert (await rig.client.delete(path)).status_code == 204
    assert problem(await rig.client.get(path)) == (404, "not-found")
    for method, end in [("PATCH", ""), ("DELETE", ""), ("POST", "/rotate"), ("GET", "/deliveries")]:
        body = {"json": {}} if method != "DELETE" and method != "GET" else {}
        assert problem(await rig.client.request(method, path + end, **body)) == (404, "not-found")
    assert problem(await rig.client.get("/webhook/7")) == (404, "not-found")


async def test_webhooks_come_in_pages(rig: Rig) -> None:
    made = [(await create(rig, description=str(place)))["webhook_id"] for place in range(3)]
    reply = await rig.client.get("/webhook?limit=2")
    assert [one["webhook_id"] for one in reply.json()["items"]] == made[:0:-1]
    reply = await rig.client.get(reply.headers["link"].partition(">")[0][1:])
    assert [one["webhook_id"] for one in reply.json()["items"]] == made[:1]
    assert "link" not in reply.headers


async def fail(rig: Rig, webhook: dict[str, Any]) -> dict[str, Any]:
    """Make a failed delivery to the webhook; return it as it is shown."""
    await tell_in_vain(rig)
    reply = await rig.client.get(f"{webhook['links']['deliveries']}?status=failed")
    [shown] = reply.json()["items"]
    return dict(shown)


async def test_a_delivery_is_shown_and_repeated(rig: Rig) -> None:
    made = await create(rig)
    shown = await fail(rig, made)
    assert shown == {
        "delivery_id": shown["delivery_id"], "webhook_id": made["webhook_id"], "event": "task.completed",
        "event_id": f"evt_{shown['task_id'].replace('-', '')}_3", "task_id": shown["task_id"],
        "group": None, "status": "failed",
        "attempts": 1, "created_at": "2026-01-02T03:04:05.678901Z", "attempted_at": "2026-01-02T03:04:05.678901Z",
        "next_attempt_at": None, "response_code": 500, "duration": 0.5,
        "error": {"name": "refused", "detail": "the receiver answered 500"}, "links": shown["links"],
    }  # fmt: skip
    reply = await rig.client.post(shown["links"]["redeliver"])
    assert reply.status_code == 202
    again = reply.json()
    assert (again["status"], again["next_attempt_at"]) == ("pending", "2026-01-02T03:04:05.678901Z")
    assert again["event_id"] == shown["event_id"]
    assert (await rig.client.get(f"{made['links']['deliveries']}?status=delivered")).json()["items"] == []
    assert problem(await rig.client.get(f"{made['links']['deliveries']}?status=x"))[0] == 422
    other = await create(rig)
    for path in (f"{other['links']['deliveries']}/{shown['delivery_id']}", f"{made['links']['deliveries']}/{uuid4()}"):
        assert problem(await rig.client.post(f"{path}/redeliver")) == (404, "not-found")


async def test_a_task_has_a_webhook_of_its_own(rig: Rig) -> None:
    asked = {"url": URL, "events": ["task.started"], "secret": SECRET}
    reply = await rig.client.post("/task", json={"type": "sum", "params": [1, 2], "webhook": asked})
    assert reply.status_code == 202
    task = reply.json()
    assert SECRET not in reply.text
    assert task["webhook"] == {"webhook_id": task["webhook"]["webhook_id"], "url": URL, "events": ["task.started"]}
    assert (await rig.client.get(task["links"]["self"])).json()["webhook"] == task["webhook"]
    path = f"/webhook/{task['webhook']['webhook_id']}"
    reply = await rig.client.get(path)
    assert SECRET not in reply.text
    shown = reply.json()
    assert (shown["task_id"], shown["events"], shown["is_signed"]) == (task["task_id"], ["task.started"], True)
    assert shown["links"]["task"] == task["links"]["self"]
    assert (await rig.client.get("/webhook")).json()["items"] == []
    assert problem(await rig.client.patch(path, json={"status": "paused"})) == (409, "conflict")
    assert problem(await rig.client.post(f"{path}/rotate")) == (409, "conflict")
    await rig.client.post(task["links"]["cancel"])
    assert (await rig.client.delete(task["links"]["self"])).status_code == 204
    assert problem(await rig.client.get(path)) == (404, "not-found")


@pytest.mark.parametrize(
    ("asked", "at"), [(URL, ""), ([URL], ""), ({}, "/url"), ({"url": None}, "/url"), ({"url": 7}, "/url")]
)
async def test_a_task_s_webhook_is_an_object_with_a_url(rig: Rig, asked: Any, at: str) -> None:
    reply = await rig.client.post("/task", json={"type": "sum", "params": [1, 2], "webhook": asked})
    assert problem(reply)[0] == 422
    assert pointers(reply) == [f"/webhook{at}"]


async def test_an_unknown_event_is_quoted_in_short(rig: Rig) -> None:
    reply = await rig.client.post("/webhook", json={"url": URL, "events": ["x" * 10_000]})
    assert pointers(reply) == ["/events"]
    assert len(reply.text) < 2000


async def test_every_fault_of_a_task_s_webhook_is_reported(rig: Rig) -> None:
    asked = {"url": "https://127.0.0.1", "events": [], "secret": "x", "type": "sum"}
    reply = await rig.client.post("/task", json={"type": "sum", "params": [1, "x"], "webhook": asked})
    assert problem(reply) == (422, "invalid-request")
    assert set(pointers(reply)) == {
        "/params/1", "/webhook/url", "/webhook/events", "/webhook/secret", "/webhook/type",
    }  # fmt: skip
    reply = await rig.client.post(
        "/task", json={"type": "sum", "params": [1, 2], "webhook": {"url": "http://x.com"}},
        headers={"prefer": "handling=validate"},
    )  # fmt: skip
    assert problem(reply) == (422, "unsafe-url")
    assert (await rig.client.post("/task", json={"type": "sum", "params": [1, 2], "webhook": None})).status_code == 202
