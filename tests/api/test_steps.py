"""Steps, children and questions over HTTP."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tasker.model import Claim
from tasker.rules.lifecycle import Failed, Succeeded
from tasker.rules.lifecycle import problem as task_problem
from tasker.service.steps import StepService
from tests.api.conftest import TYPES, Rig, problem
from tests.api.test_feed import Follower
from tests.asking import done, park, question, sleep, start_children, store

HOUR = timedelta(hours=1)
NONE = "0198e000-0000-7000-8000-000000000000"
APPROVAL = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "by": {"type": "string"}},
    "required": ["ok", "by"],
    "additionalProperties": False,
}


async def started(rig: Rig, **options: Any) -> Claim:
    await rig.submit("echo", [], **options)
    return await rig.driver.claim_one(types=["echo"])


async def asking(rig: Rig, **asked: Any) -> str:
    """Return the path of a task that asks a question."""
    claim = await started(rig)
    await park(rig.driver, claim, question(rig.clock.now(), **asked))
    return f"/task/{claim.task_id}"


async def answer(rig: Rig, path: str, body: Any, **options: Any) -> httpx2.Response:
    return await rig.client.post(f"{path}/input", json=body, **options)


async def test_a_task_shows_what_it_asks_and_takes_the_answer(rig: Rig) -> None:
    path = await asking(rig, schema=APPROVAL, until=rig.clock.now() + HOUR)
    reply = await rig.client.get(path)
    task = reply.json()
    assert (task["status"], task["reason"], reply.headers["retry-after"]) == ("pending", "input_required", "60")
    assert task["waiting_for"] == "an answer to `approve`, for 60 min more"
    assert task["input"] == {
        "name": "approve",
        "message": "Ship 17?",
        "schema": APPROVAL,
        "asked_at": "2026-01-02T03:04:05.678901Z",
        "expires_at": "2026-01-02T04:04:05.678901Z",
    }
    assert task["links"]["input"] == f"{path}/input"
    body = {"name": "approve", "value": {"ok": True, "by": "ann"}, "asked_at": task["input"]["asked_at"]}
    reply = await answer(rig, path, body)
    assert (reply.status_code, reply.json()["reason"], "input" in reply.json()) == (200, "queued", False)
    assert "retry-after" in reply.headers
    again = await answer(rig, path, body)
    assert (again.status_code, again.json()["task_id"]) == (200, task["task_id"])
    [step] = (await rig.client.get(f"{path}?include=steps")).json()["steps"]
    assert (step["state"], step["value"], step["message"]) == ("completed", {"ok": True, "by": "ann"}, "Ship 17?")


@pytest.mark.parametrize(
    ("body", "expected", "pointers"),
    [
        (None, (400, "malformed-json"), set()),
        ([], (422, "invalid-request"), {""}),
        ({}, (422, "invalid-request"), {"/name", "/value"}),
        ({"name": "approve"}, (422, "invalid-request"), {"/value"}),
        ({"value": "yes"}, (422, "invalid-request"), {"/name"}),
        ({"name": None, "value": "yes"}, (422, "invalid-request"), {"/name"}),
        ({"name": "", "value": "yes"}, (422, "invalid-request"), {"/name"}),
        ({"name": "a" * 201, "value": "yes"}, (422, "invalid-request"), {"/name"}),
        (
            {"name": 1, "value": "yes", "asked_at": "now", "x": 1},
            (422, "invalid-request"),
            {"/name", "/asked_at", "/x"},
        ),
        ({"name": "approve", "value": "yes", "key": "approve"}, (422, "unknown-field"), {"/key"}),
        (
            {"name": "approve", "value": "yes", "asked_at": "2026-01-02T03:04:05"},
            (422, "invalid-request"),
            {"/asked_at"},
        ),
        ({"name": "approve", "value": "maybe"}, (422, "invalid-request"), {"/value"}),
        ({"name": "approve", "value": None}, (422, "invalid-request"), {"/value"}),
        ({"name": "approve", "value": ["yes"]}, (422, "invalid-request"), {"/value"}),
        ({"name": "approve", "value": "x" * (1 << 20)}, (422, "invalid-request"), {"/value"}),
        ({"name": "approve", "value": "x" * (2 << 20)}, (413, "payload-too-large"), set()),
        ({"name": "other", "value": "yes"}, (409, "conflict"), set()),
        ({"name": "Approve", "value": "yes"}, (409, "conflict"), set()),
        ({"name": "approve", "value": "yes", "asked_at": "2026-01-02T03:04:05Z"}, (409, "conflict"), set()),
    ],
)
async def test_what_is_no_answer_is_refused(
    make_rig: Any, body: Any, expected: tuple[int, str], pointers: set[str]
) -> None:
    rig = await make_rig(max_body=(1 << 20) + 1000)
    path = await asking(rig)
    content = b"" if body is None else json.dumps(body).encode()
    reply = await rig.client.post(f"{path}/input", content=content, headers={"content-type": "application/json"})
    assert problem(reply) == expected, reply.text
    assert {fault["pointer"] for fault in reply.json().get("errors", ())} == pointers
    assert (await rig.client.get(path)).json()["reason"] == "input_required"


async def test_faults_of_an_answer_have_their_place(rig: Rig) -> None:
    path = await asking(rig, schema=APPROVAL)
    reply = await answer(rig, path, {"name": "approve", "value": {"ok": "yes", "why": 1}})
    assert problem(reply) == (422, "invalid-request")
    assert {(fault["pointer"], fault["detail"]) for fault in reply.json()["errors"]} == {
        ("/value/ok", "expected boolean, got string"),
        ("/value/by", "`by` is missing"),
        ("/value/why", "unknown field"),
    }


async def test_a_question_that_is_answered_or_over_takes_no_answer(rig: Rig) -> None:
    path = await asking(rig, until=rig.clock.now() + HOUR)
    assert (await answer(rig, path, {"name": "approve", "value": "yes"})).status_code == 200
    assert problem(await answer(rig, path, {"name": "approve", "value": "no"})) == (409, "conflict")
    await rig.finish()
    path = await asking(rig, until=rig.clock.now() + HOUR)
    rig.clock.advance(HOUR)
    reply = await answer(rig, path, {"name": "approve", "value": "yes"})
    assert (problem(reply), "over" in reply.json()["detail"]) == ((409, "conflict"), True)
    await rig.client.post(f"{path}/cancel")
    assert problem(await answer(rig, path, {"name": "approve", "value": "yes"})) == (409, "conflict")
    for missing in (f"/task/{NONE}", "/task/x"):
        assert problem(await answer(rig, missing, {"name": "approve", "value": "yes"})) == (404, "not-found")
    reply = await rig.client.post(f"{path}/input?wait=1", json={"name": "approve", "value": "yes"})
    assert problem(reply) == (422, "unknown-field")


async def test_a_task_that_has_expired_takes_no_answer(rig: Rig) -> None:
    task_id = await rig.submit(retention=1)
    await rig.finish()
    rig.clock.advance(timedelta(seconds=2))
    reply = await answer(rig, f"/task/{task_id}", {"name": "approve", "value": "yes"})
    assert problem(reply) == (410, "expired")


async def test_an_answer_needs_the_scope_control_and_is_audited(locked: Rig) -> None:
    keys = {name: await locked.key(name, owner="ann") for name in ("submit", "read", "control")}
    reply = await locked.client.post("/task", json={"type": "echo"}, headers=keys["submit"])
    claim = await locked.driver.claim_one(types=["echo"])
    await park(locked.driver, claim, question(locked.clock.now(), schema={"enum": ["the secret choice"]}))
    path, body = f"/task/{reply.json()['task_id']}", {"name": "approve", "value": "the secret choice"}
    for name in ("submit", "read"):
        assert problem(await answer(locked, path, body, headers=keys[name])) == (403, "forbidden")
    wrong = await answer(locked, path, {"name": "approve", "value": 1}, headers=keys["control"])
    assert problem(wrong) == (422, "invalid-request")
    assert "secret" not in wrong.text
    unasked = await answer(locked, path, {"name": "other", "value": 1}, headers=keys["control"])
    assert unasked.json()["detail"] == "the task does not ask 'other'"
    assert [fault["pointer"] for fault in wrong.json()["errors"]] == ["/value"]
    right = await answer(locked, path, body, headers=keys["control"])
    assert (right.status_code, right.json().keys()) == (200, {"task_id", "status", "links"})
    [step] = (await locked.client.get(f"{path}?include=steps", headers=keys["read"])).json()["steps"]
    assert step["answered_by"] == "ann"
    admin = await locked.key("admin")
    entries = (await locked.client.get("/audit", headers=admin)).json()["items"]
    told = [(one["action"], one["owner"], one["target"], one["outcome"]) for one in entries]
    assert ("answer_task", "ann", reply.json()["task_id"], 200) in told
    assert "secret choice" not in json.dumps(entries)


async def test_steps_are_shown_with_their_states(rig: Rig) -> None:
    claim, now = await started(rig), rig.clock.now()
    big = "é" * 5000
    await start_children(rig.engine, claim, now, 3)
    await store(
        rig.engine, claim, done(now, "charge", {"paid": 7}), done(now, "page", big), done(now, "page#2", name="page")
    )
    await park(rig.driver, claim, sleep(now, "nap", now + HOUR), question(now, until=now + 2 * HOUR))
    path = f"/task/{claim.task_id}?include=steps"
    assert "steps" not in (await rig.client.get(f"/task/{claim.task_id}")).json()
    steps = {step["key"]: step for step in (await rig.client.get(path)).json()["steps"]}
    assert steps["charge"] == {
        "number": 2,
        "key": "charge",
        "name": "charge",
        "kind": "step",
        "state": "completed",
        "attempt": 1,
        "started_at": "2026-01-02T03:04:05.678901Z",
        "finished_at": "2026-01-02T03:04:05.928901Z",
        "value": {"paid": 7},
    }
    assert (steps["page"]["value"], len(steps["page"]["value_preview"]) > 150) == (None, True)
    assert (steps["page#2"]["name"], steps["page#2"]["value"]) == ("page", None)
    assert (steps["nap"]["state"], steps["nap"]["until"]) == ("waiting", "2026-01-02T04:04:05.678901Z")
    assert (steps["approve"]["state"], steps["approve"]["message"]) == ("waiting", "Ship 17?")
    counts = {"total": 3, "open": 3, "completed": 0, "failed": 0, "cancelled": 0}
    assert (steps["pages"]["state"], steps["pages"]["children"]) == ("waiting", counts)
    rig.clock.advance(HOUR)
    steps = {step["key"]: step["state"] for step in (await rig.client.get(path)).json()["steps"]}
    assert (steps["nap"], steps["approve"]) == ("completed", "waiting")
    await rig.client.post(f"/task/{claim.task_id}/cancel")
    steps = {step["key"]: step["state"] for step in (await rig.client.get(path)).json()["steps"]}
    assert (steps["approve"], steps["charge"]) == ("cancelled", "completed")


async def test_questions_are_listed_the_oldest_first(rig: Rig) -> None:
    ids = []
    for name in ("first", "second"):
        claim, now = await started(rig), rig.clock.now()
        await park(rig.driver, claim, question(now, name, until=now + HOUR, message="x" * 500))
        rig.clock.advance(timedelta(seconds=1))
        ids.append(str(claim.task_id))
    page = (await rig.client.get("/question")).json()
    assert page["next_cursor"] is None
    assert page["items"][0] == {
        "task_id": ids[0],
        "type": "echo",
        "name": "first",
        "message": "x" * 400,
        "asked_at": "2026-01-02T03:04:05.678901Z",
        "expires_at": "2026-01-02T04:04:05.678901Z",
        "owner": None,
        "links": {"task": f"/task/{ids[0]}", "input": f"/task/{ids[0]}/input"},
    }
    assert [one["task_id"] for one in page["items"]] == ids
    assert [one["name"] for one in (await rig.client.get("/question?limit=1")).json()["items"]] == ["first"]
    assert problem(await rig.client.get("/question?limit=0")) == (422, "invalid-request")
    await rig.client.post(f"/task/{ids[0]}/cancel")
    assert [one["task_id"] for one in (await rig.client.get("/question")).json()["items"]] == ids[1:]


async def test_the_last_steps_are_shown(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepService.find, "__kwdefaults__", {"limit": 2})
    claim = await started(rig)
    await store(rig.engine, claim, *(done(rig.clock.now(), f"page#{number}") for number in (1, 2, 3)))
    steps = (await rig.client.get(f"/task/{claim.task_id}?include=steps")).json()["steps"]
    assert [step["number"] for step in steps] == [2, 3]


async def test_children_are_shown_counted_and_listed(rig: Rig) -> None:
    claim = await started(rig)
    ids = await start_children(rig.engine, claim, rig.clock.now(), 25)
    child = await rig.driver.claim_one(types=["echo"])
    await rig.driver.finish(child, Succeeded(b"1"))
    path = f"/task/{claim.task_id}"
    task = (await rig.client.get(f"{path}?include=steps,children&include=attempts")).json()
    assert task["children"] == {"pending": 24, "running": 0, "completed": 1, "failed": 0, "cancelled": 0}
    assert (len(task["child_tasks"]), len(task["attempts"]), len(task["steps"])) == (20, 1, 1)
    assert {one["parent_id"] for one in task["child_tasks"]} == {str(claim.task_id)}
    assert task["links"]["children"] == f"/task?parent={claim.task_id}"
    listed = (await rig.client.get(task["links"]["children"] + "&limit=100")).json()["items"]
    assert {one["task_id"] for one in listed} == {str(one) for one in ids}
    assert len((await rig.client.get(task["links"]["children"] + "&status=completed")).json()["items"]) == 1
    assert (await rig.client.get(f"/task?parent={NONE}")).json()["items"] == []
    assert problem(await rig.client.get("/task?parent=x")) == (422, "invalid-request")
    one = (await rig.client.get(f"/task/{ids[0]}")).json()
    assert (one["parent_id"], one["root_id"]) == (str(claim.task_id), str(claim.task_id))
    assert one["links"]["parent"] == path
    assert "children" not in one


async def test_include_takes_what_it_knows(rig: Rig) -> None:
    task_id = await rig.submit()
    plain = (await rig.client.get(f"/task/{task_id}")).json()
    whole = (await rig.client.get(f"/task/{task_id}?include=steps,children")).json()
    assert (whole.pop("steps"), whole.pop("child_tasks")) == ([], [])
    assert whole == plain
    for query in ("include=step", "include=", "include=steps,x"):
        assert problem(await rig.client.get(f"/task/{task_id}?{query}")) == (422, "invalid-request")


async def test_a_wait_with_an_etag_sees_new_steps(rig: Rig) -> None:
    claim = await started(rig)
    path = f"/task/{claim.task_id}?include=steps"
    etag = (await rig.client.get(path)).headers["etag"]
    assert (await rig.client.get(path, headers={"if-none-match": etag})).status_code == 304
    await store(rig.engine, claim, done(rig.clock.now(), "charge"))
    reply = await rig.client.get(f"{path}&wait=5", headers={"if-none-match": etag})
    assert (reply.status_code, len(reply.json()["steps"])) == (200, 1)


async def test_many_tasks_are_acted_on_by_their_parent(rig: Rig) -> None:
    claim = await started(rig)
    await start_children(rig.engine, claim, rig.clock.now(), 3)
    other = await rig.submit("echo", [])
    body = {"action": "cancel", "filter": {"parent": str(claim.task_id)}}
    assert (await rig.client.post("/bulk", json={**body, "dry_run": True})).json()["matched"] == 3
    assert (await rig.client.post("/bulk", json=body)).json()["done"] == 3
    assert (await rig.client.get(f"/task/{other}")).json()["status"] == "pending"
    assert problem(await rig.client.post("/bulk", json={**body, "filter": {"parent": "x"}})) == (422, "invalid-request")


async def failed(rig: Rig) -> str:
    claim, now = await started(rig), rig.clock.now()
    await store(rig.engine, claim, done(now, "reserve"), done(now, "charge"), done(now, "ship"))
    await rig.driver.finish(claim, Failed(task_problem("task-failed", "no")))
    return f"/task/{claim.task_id}"


async def keys_of(rig: Rig, path: str) -> list[str]:
    return [step["key"] for step in (await rig.client.get(f"{path}?include=steps")).json()["steps"]]


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (None, ["reserve", "charge", "ship"]),
        ({}, ["reserve", "charge", "ship"]),
        ({"from": None, "forget": None}, ["reserve", "charge", "ship"]),
        ({"from": "charge"}, ["reserve"]),
        ({"forget": ["charge", "charge"]}, ["reserve", "ship"]),
    ],
)
async def test_a_retry_keeps_steps_but_those_it_names(rig: Rig, body: Any, kept: list[str]) -> None:
    path = await failed(rig)
    reply = (
        await rig.client.post(f"{path}/retry", json=body)
        if body is not None
        else await rig.client.post(f"{path}/retry")
    )
    assert (reply.status_code, reply.json()["status"]) == (202, "pending"), reply.text
    assert await keys_of(rig, path) == kept


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"from": "nope"}, {"/from"}),
        ({"from": 1}, {"/from"}),
        ({"from": ""}, {"/from"}),
        ({"forget": []}, {"/forget"}),
        ({"forget": "charge"}, {"/forget"}),
        ({"forget": ["charge", 1, ""]}, {"/forget/1", "/forget/2"}),
        ({"forget": ["charge", "nope"]}, {"/forget/1"}),
        ({"forget": ["x"] * 101}, {"/forget"}),
        ({"from": "charge", "forget": ["ship"]}, {"/forget"}),
        ({"since": "charge"}, {"/since"}),
        (["charge"], {""}),
    ],
)
async def test_a_retry_that_cannot_be_done_changes_nothing(rig: Rig, body: Any, pointers: set[str]) -> None:
    path = await failed(rig)
    reply = await rig.client.post(f"{path}/retry", json=body)
    assert reply.status_code == 422, reply.text
    assert {fault["pointer"] for fault in reply.json()["errors"]} == pointers
    assert (await rig.client.get(path)).json()["status"] == "failed"


async def test_a_retry_of_an_open_task_is_a_conflict_whatever_it_forgets(rig: Rig) -> None:
    task_id = await rig.submit()
    assert problem(await rig.client.post(f"/task/{task_id}/retry", json={"forget": ["x"]})) == (409, "conflict")
    assert problem(await rig.client.post(f"/task/{NONE}/retry", json={"forget": ["x"]})) == (404, "not-found")


async def test_a_replay_keeps_steps_if_asked_to(rig: Rig) -> None:
    path = await failed(rig)
    plain = await rig.client.post(f"{path}/replay")
    keeping = await rig.client.post(f"{path}/replay", json={"keep_steps": True, "params": [1]})
    assert (plain.status_code, keeping.status_code) == (202, 202)
    assert await keys_of(rig, f"/task/{plain.json()['task_id']}") == []
    assert await keys_of(rig, f"/task/{keeping.json()['task_id']}") == ["reserve", "charge", "ship"]
    assert keeping.json()["replay_of"] == path.removeprefix("/task/")
    wrong = await rig.client.post(f"{path}/replay", json={"keep_steps": "yes", "priority": 1000})
    assert {fault["pointer"] for fault in wrong.json()["errors"]} == {"/keep_steps", "/priority"}
    new = await rig.client.post("/task", json={"type": "sum", "params": [1, 2], "keep_steps": True})
    assert problem(new) == (422, "unknown-field")


async def test_one_key_makes_one_replay_with_its_steps(rig: Rig) -> None:
    path, key = await failed(rig), {"idempotency-key": "k"}
    first = await rig.client.post(f"{path}/replay", json={"keep_steps": True}, headers=key)
    again = await rig.client.post(f"{path}/replay", json={"keep_steps": True}, headers=key)
    other = await rig.client.post(f"{path}/replay", json={"keep_steps": False}, headers=key)
    assert again.json()["task_id"] == first.json()["task_id"]
    assert problem(other) == (422, "idempotency-key-reuse")


async def test_events_of_steps_are_streamed(rig: Rig) -> None:
    path = await asking(rig, message="Ship\n17?")
    await answer(rig, path, {"name": "approve", "value": "yes"})
    claim = await rig.driver.claim_one(types=TYPES)
    await rig.driver.finish(claim, Succeeded(b"1"))
    events = [
        json.loads(line)
        for line in (await rig.client.get(f"{path}/events", headers={"accept": "application/jsonl"})).text.splitlines()
        if line
    ]
    told = {event["type"]: event for event in events}
    assert [event["type"] for event in events] == [
        "created",
        "started",
        "parked",
        "input_given",
        "started",
        "completed",
    ]
    assert told["parked"]["reason"] == "input_required"
    assert (told["input_given"]["name"], told["input_given"]["key"]) == ("approve", "approve")
    assert "yes" not in json.dumps(told["input_given"])


async def test_events_of_steps_are_in_the_stream_of_everything(rig: Rig) -> None:
    path = await asking(rig)
    await answer(rig, path, {"name": "approve", "value": "yes"})
    follower = Follower(rig, "after=oldest&event=parked,input_given", {})
    await follower.until(2)
    await follower.leave()
    assert [(event["type"], event["task_id"]) for event in follower.events] == [
        ("parked", path.removeprefix("/task/")),
        ("input_given", path.removeprefix("/task/")),
    ]
    assert all(event["cursor"] for event in follower.events)
