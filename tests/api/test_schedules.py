"""/schedule over HTTP: every fault named, nothing changed by a bad request, and ticks that submit tasks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tasker.requests.schedules import MAX_TASK
from tasker.testing import START
from tests.api.conftest import Rig, problem

SUM = {"type": "sum", "params": [4, 2]}
HOURLY = {"name": "hourly", "cron": "0 * * * *", "task": SUM}
HOUR = timedelta(hours=1)


async def create(rig: Rig, **fields: Any) -> dict[str, Any]:
    """Create a schedule, by default one with a tick each hour."""
    reply = await rig.client.post("/schedule", json={**HOURLY, **fields})
    assert reply.status_code == 201, reply.text
    assert reply.headers["location"] == reply.json()["links"]["self"]
    return dict(reply.json())


async def change(rig: Rig, schedule: dict[str, Any], **fields: Any) -> httpx2.Response:
    return await rig.client.patch(schedule["links"]["self"], json=fields)


async def read(rig: Rig, schedule: dict[str, Any]) -> dict[str, Any]:
    reply = await rig.client.get(schedule["links"]["self"])
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


async def tasks(rig: Rig) -> list[dict[str, Any]]:
    return list((await rig.client.get("/task")).json()["items"])


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_schedule_is_shown_as_it_was_created(rig: Rig) -> None:
    made = await create(rig, task={"type": "sum", "params": [1e2, 2], "tags": ["night"], "priority": 5})
    assert made["task"] == {"type": "sum", "params": [1e2, 2], "tags": ["night"], "priority": 5}
    assert (made["cron"], made["interval"], made["time_zone"]) == ("0 * * * *", None, "UTC")
    assert (made["missed"], made["overlap"], made["paused"]) == ("once", "allow", False)
    assert moment(made["next_fire_at"]) == datetime(2026, 1, 2, 4, tzinfo=UTC)
    assert made["last_fired_at"] is made["last_task_id"] is made["last_skip"] is None
    assert await read(rig, made) == made
    listed = (await rig.client.get("/schedule")).json()
    assert listed == {"items": [made], "next_cursor": None}


async def test_an_interval_is_counted_from_its_start(rig: Rig) -> None:
    made = await create(rig, cron=None, interval="PT90S")
    assert made["interval"] == 90
    assert moment(made["next_fire_at"]) == START + timedelta(seconds=90)
    later = await create(rig, name="b", cron=None, interval=60, starts_at="2026-02-01T00:00:00+01:00")
    assert later["next_fire_at"] == later["starts_at"] == "2026-01-31T23:00:00Z"


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"cron": "* * * * * *"}, "/cron", "expected 5 fields"),
    ({"cron": "0 0 31 2 *"}, "/cron", "day-of-month"),
    ({"cron": "*" * 10_240}, "/cron", "at most 200 characters"),
    ({"cron": "@daily"}, "/cron", "expected a cron rule"),
    ({"cron": 5}, "/cron", "expected string"),
    ({"cron": None}, "/cron", "give `cron` or `interval`"),
    ({"interval": 60}, "/interval", "not both"),
    ({"cron": None, "interval": 0.5}, "/interval", "expected 1 to"),
    ({"cron": None, "interval": 1e300}, "/interval", "expected 1 to"),
    ({"cron": None, "interval": True}, "/interval", "expected"),
    ({"cron": None, "interval": "1 hour"}, "/interval", "expected seconds or an ISO 8601 duration such as PT5M"),
    ({"time_zone": "Mars/Olympus"}, "/time_zone", "IANA"),
    ({"time_zone": "../../etc/passwd"}, "/time_zone", "IANA"),
    ({"time_zone": "localtime"}, "/time_zone", "IANA"),
    ({"time_zone": "right/Europe/Berlin"}, "/time_zone", "did you mean `Europe/Berlin`"),
    ({"cron": "*/61 * * * *"}, "/cron", "a step of at most 60 for the minute"),
    ({"ends_at": "2026-01-01T00:00:00Z"}, "/ends_at", "to come"),
    ({"name": ""}, "/name", "length >= 1"),
    ({"name": "a\nb"}, "/name", "regex"),
    ({"name": None}, "/name", "got null"),
    ({"missed": "never"}, "/missed", "allowed values"),
    ({"overlap": 1}, "/overlap", "expected string"),
    ({"paused": "yes"}, "/paused", "expected boolean"),
    ({"starts_at": "2026-01-02T00:00:00"}, "/starts_at", "timezone"),
    ({"ends_at": "9999-12-31T23:59:59Z"}, "/ends_at", "10 years"),
    ({"starts_at": "2026-02-02T00:00:00Z", "ends_at": "2026-02-01T00:00:00Z"}, "/ends_at", "after `starts_at`"),
    ({"task": None}, "/task", "got null"),
    ({"task": []}, "/task", "got array"),
    ({"task": {}}, "/task/type", "is missing"),
    ({"task": {"type": "nope", "params": []}}, "/task/type", "nope"),
    ({"task": {"type": "sum", "params": ["4", 2]}}, "/task/params/0", "expected number"),
    ({"task": {**SUM, "priority": 101}}, "/task/priority", "100"),
    ({"task": {**SUM, "retry": {"max_attempts": 0}}}, "/task/retry/max_attempts", "1"),
    ({"task": {**SUM, "retry": {"initial": 9, "max": 5}}}, "/task/retry/initial", "at most `max` (5 s)"),
    ({"task": {**SUM, "run_at": "2026-02-02T00:00:00Z"}}, "/task/run_at", "many tasks"),
    ({"task": {**SUM, "prioriti": 1}}, "/task/prioriti", "did you mean `priority`"),
    ({"task": {"type": "reverse", "params": ["x" * MAX_TASK]}}, "/task", "65,536 bytes of JSON: let the function read"),
    ({"crom": "* * * * *"}, "/crom", "did you mean `cron`"),
    ({"next_fire_at": "2026-02-02T00:00:00Z"}, "/next_fire_at", "unknown field"),
]


@pytest.mark.parametrize(("fields", "pointer", "detail"), FAULTS)
async def test_a_fault_is_named_and_nothing_is_stored(
    rig: Rig, fields: dict[str, Any], pointer: str, detail: str
) -> None:
    reply = await rig.client.post("/schedule", json={**HOURLY, **fields})
    status, _ = problem(reply)
    assert status == 422
    [fault] = reply.json()["errors"]
    assert fault["pointer"] == pointer
    assert detail in fault["detail"]
    assert (await rig.client.get("/schedule")).json()["items"] == []


@pytest.mark.parametrize(
    ("fields", "pointer"), [(fields, pointer) for fields, pointer, _ in FAULTS if fields != {"interval": 60}]
)
async def test_a_change_is_validated_like_a_new_schedule(rig: Rig, fields: dict[str, Any], pointer: str) -> None:
    made = await create(rig)
    reply = await change(rig, made, **fields)
    assert problem(reply)[0] == 422
    assert pointer in [fault["pointer"] for fault in reply.json()["errors"]]
    assert await read(rig, made) == made


async def test_a_schedules_task_may_be_large(rig: Rig) -> None:
    empty = len(json.dumps({"type": "reverse", "params": [""]}))
    for size, status in ((MAX_TASK - empty, 201), (MAX_TASK - empty + 1, 422)):
        task = json.dumps({"type": "reverse", "params": ["x" * size]})
        body = f'{{"name": "s{size}", "interval": 60, "task": {task}}}'
        reply = await rig.client.post("/schedule", content=body, headers={"content-type": "application/json"})
        assert reply.status_code == status, reply.text


async def test_a_schedule_keeps_no_secrets(rig: Rig) -> None:
    webhook = {"url": "https://example.com", "secret": "whsec_" + "a" * 32}
    reply = await rig.client.post("/schedule", json={**HOURLY, "task": {**SUM, "webhook": webhook}})
    assert problem(reply)[0] == 422
    assert "/task/webhook/secret" in [fault["pointer"] for fault in reply.json()["errors"]]
    assert webhook["secret"] not in reply.text


async def test_every_fault_is_reported_at_once(rig: Rig) -> None:
    body = {"cron": "x", "time_zone": "x", "missed": "x", "x": 1, "task": {"type": "sum", "params": ["a"], "queue": ""}}
    reply = await rig.client.post("/schedule", json=body)
    assert {fault["pointer"] for fault in reply.json()["errors"]} == {
        "/cron", "/time_zone", "/missed", "/x", "/task/params/0", "/task/params/1", "/task/queue", "/name",
    }  # fmt: skip


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b'{"name":"a","name":"b"}', b'{"task":' + b"[" * 99])
async def test_a_body_that_is_not_an_object_is_refused(rig: Rig, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    made = await create(rig)
    for reply in (
        await rig.client.post("/schedule", content=body, headers=headers),
        await rig.client.patch(made["links"]["self"], content=body, headers=headers),
    ):
        assert problem(reply)[0] in (400, 422)


async def test_a_name_is_taken_once(rig: Rig) -> None:
    made = await create(rig)
    assert problem(await rig.client.post("/schedule", json=HOURLY)) == (409, "name-taken")
    other = await create(rig, name="other")
    assert problem(await change(rig, other, name="hourly")) == (409, "name-taken")
    assert (await rig.client.get("/schedule?name=hourly")).json()["items"] == [made]
    assert (await rig.client.get("/schedule?name=x")).json()["items"] == []


async def test_pages(rig: Rig) -> None:
    for number in range(3):
        await create(rig, name=f"s{number}")
    first = await rig.client.get("/schedule?limit=2")
    assert [item["name"] for item in first.json()["items"]] == ["s2", "s1"]
    [link] = [first.headers["link"].partition(">")[0].removeprefix("<")]
    second = await rig.client.get(link)
    assert [item["name"] for item in second.json()["items"]] == ["s0"]
    assert "link" not in second.headers
    assert problem(await rig.client.get("/schedule?cursor=x")) == (422, "invalid-request")


@pytest.mark.parametrize("path", ["", "/next", "/trigger"])
@pytest.mark.parametrize("schedule_id", ["x", "0198e000-0000-7000-8000-000000000000", "%00"])
async def test_what_is_not_there(rig: Rig, path: str, schedule_id: str) -> None:
    method = "POST" if path == "/trigger" else "GET"
    assert problem(await rig.client.request(method, f"/schedule/{schedule_id}{path}")) == (404, "not-found")


async def test_next_ticks_are_shown_without_firing_them(rig: Rig) -> None:
    made = await create(rig, cron="30 2 * * *", time_zone="Europe/Berlin", ends_at="2026-01-06T00:00:00Z")
    path = made["links"]["next"]
    expected = ["2026-01-03T01:30:00Z", "2026-01-04T01:30:00Z", "2026-01-05T01:30:00Z"]
    assert (await rig.client.get(path)).json() == {"items": expected, "next_cursor": None}
    assert (await rig.client.get(path + "?count=1")).json()["items"] == expected[:1]
    await change(rig, made, paused=True)
    assert (await rig.client.get(path)).json()["items"] == expected, "as if it were not paused"
    assert problem(await rig.client.get(path + "?count=0")) == (422, "invalid-request")


async def test_a_tick_submits_the_task(rig: Rig) -> None:
    made = await create(rig, task={**SUM, "tags": ["night"], "delay": 60})
    rig.clock.advance(HOUR)
    next_at = await rig.service.schedules.run_once()
    assert next_at == datetime(2026, 1, 2, 5, tzinfo=UTC)
    [task] = await tasks(rig)
    assert (task["schedule_id"], task["scheduled_for"]) == (made["schedule_id"], "2026-01-02T04:00:00Z")
    assert (task["tags"], task["reason"]) == (["night"], "scheduled")
    after = await read(rig, made)
    assert (after["last_task_id"], after["last_fired_at"]) == (task["task_id"], task["scheduled_for"])
    assert moment(after["next_fire_at"]) == next_at
    assert after["links"]["last_task"] == task["links"]["self"]
    assert await rig.service.schedules.run_once() == next_at
    assert len(await tasks(rig)) == 1


async def test_a_pause_skips_ticks_and_makes_up_for_none(rig: Rig) -> None:
    made = await create(rig)
    paused = (await change(rig, made, paused=True)).json()
    assert paused["next_fire_at"] is None
    rig.clock.advance(3 * HOUR)
    assert await rig.service.schedules.run_once() is None
    resumed = (await change(rig, made, paused=False)).json()
    assert resumed["next_fire_at"] == "2026-01-02T07:00:00Z"
    await rig.service.schedules.run_once()
    assert await tasks(rig) == []


async def test_a_change_that_is_not_of_the_times_keeps_the_tick_that_is_due(rig: Rig) -> None:
    made = await create(rig)
    rig.clock.advance(HOUR)
    changed = (await change(rig, made, name="other", task={"type": "reverse", "params": ["a"]}, missed="all")).json()
    assert changed["next_fire_at"] == made["next_fire_at"]
    assert (await change(rig, made)).json() == changed, "nothing asked for, nothing changed"
    await rig.service.schedules.run_once()
    assert [task["type"] for task in await tasks(rig)] == ["reverse"]


async def test_a_new_rule_replaces_the_old_one(rig: Rig) -> None:
    made = await create(rig)
    rig.clock.advance(timedelta(seconds=10))
    changed = (await change(rig, made, interval=30)).json()
    assert (changed["cron"], changed["interval"]) == (None, 30)
    assert moment(changed["next_fire_at"]) == rig.clock.now() + timedelta(seconds=30)
    back = (await change(rig, made, cron="5 * * * *", time_zone=None)).json()
    assert (back["cron"], back["interval"], back["next_fire_at"]) == ("5 * * * *", None, "2026-01-02T03:05:00Z")
    assert problem(await change(rig, made, cron="5 * * * *", interval=3)) == (422, "invalid-request")


async def test_a_schedule_shows_what_became_of_its_last_ticks(rig: Rig) -> None:
    made = await create(rig, overlap="skip")
    for hours in (1, 1, 3):
        rig.clock.advance(hours * HOUR)
        await rig.service.schedules.run_once()
    [task] = await tasks(rig)
    alone = (await rig.client.get(f"{made['links']['self']}?include=firings")).json()
    told = [(one["tick"][11:16], one["fired_at"][11:16], one["task_id"], one["skipped"]) for one in alone["firings"]]
    assert told == [
        ("08:00", "08:04", None, "overlap"), ("07:00", "08:04", None, "missed"), ("06:00", "08:04", None, "missed"),
        ("05:00", "05:04", None, "overlap"), ("04:00", "04:04", task["task_id"], None),
    ]  # fmt: skip
    [listed] = (await rig.client.get("/schedule")).json()["items"]
    assert listed == await read(rig, made) == {name: value for name, value in alone.items() if name != "firings"}
    assert problem(await rig.client.get(f"{made['links']['self']}?include=x")) == (422, "invalid-request")


@pytest.mark.parametrize(
    ("missed", "expected", "skipped"),
    [("skip", 0, "2026-01-02T06:00:00Z"), ("once", 1, None), ("all", 3, None)],
)
async def test_three_hours_of_downtime(rig: Rig, missed: str, expected: int, skipped: str | None) -> None:
    made = await create(rig, missed=missed)
    rig.clock.advance(3 * HOUR)
    await rig.service.schedules.run_once()
    assert len(await tasks(rig)) == expected
    after = await read(rig, made)
    assert (after["last_skip"] or {}).get("tick") == skipped
    assert after["next_fire_at"] == "2026-01-02T07:00:00Z"
    await rig.service.schedules.run_once()
    assert len(await tasks(rig)) == expected


async def test_a_clock_that_is_set_fires_nothing_early_and_nothing_twice(rig: Rig) -> None:
    """Row 30: the clock is set an hour back and forth."""
    made = await create(rig, cron="*/10 * * * *")
    for offset in (-HOUR, HOUR, 2 * HOUR, -2 * HOUR, HOUR):
        rig.clock.set(rig.clock.now() + offset)
        await rig.service.schedules.run_once()
        await change(rig, made, time_zone="Europe/Berlin" if offset < timedelta(0) else "UTC")
        await rig.service.schedules.run_once()
    ticks = [task["scheduled_for"] for task in await tasks(rig)]
    assert len(set(ticks)) == len(ticks) > 0
    assert all(moment(task["scheduled_for"]) <= moment(task["created_at"]) for task in await tasks(rig))


async def test_a_trigger_submits_now_and_once_for_each_key(rig: Rig) -> None:
    made = await create(rig, paused=True)
    path, key = made["links"]["trigger"], {"idempotency-key": "k"}
    first = await rig.client.post(path, headers=key)
    assert first.status_code == 202
    assert first.json()["schedule_id"] == made["schedule_id"]
    assert "scheduled_for" not in first.json(), "it is for no tick"
    again = await rig.client.post(path, headers=key)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["task_id"] == first.json()["task_id"]
    other = await create(rig, name="other")
    assert problem(await rig.client.post(other["links"]["trigger"], headers=key)) == (422, "idempotency-key-reuse")
    assert problem(await rig.client.post("/task", json=SUM, headers=key)) == (422, "idempotency-key-reuse")
    assert (await rig.client.post(path)).json()["task_id"] != first.json()["task_id"]
    assert len(await tasks(rig)) == 2
    assert (await rig.client.get(first.headers["location"])).json()["schedule_id"] == made["schedule_id"]


async def test_a_deleted_schedule_is_gone_and_its_tasks_stay(rig: Rig) -> None:
    made = await create(rig)
    await rig.client.post(made["links"]["trigger"])
    assert (await rig.client.delete(made["links"]["self"])).status_code == 204
    assert problem(await rig.client.delete(made["links"]["self"])) == (404, "not-found")
    rig.clock.advance(HOUR)
    assert await rig.service.schedules.run_once() is None
    assert len(await tasks(rig)) == 1


async def test_a_changed_type_refuses_ticks_and_a_missing_type_delays_them(rig: Rig) -> None:
    made = await create(rig, task={"type": "named", "params": {"prompt": "a"}}, missed="all")
    types = rig.service.registry._types
    rig.clock.advance(HOUR)
    kept = types.pop("named")
    assert await rig.service.schedules.run_once() is None, "another process may have it"
    assert (await read(rig, made))["next_fire_at"] == made["next_fire_at"]
    types["named"] = types["sum"]
    await rig.service.schedules.run_once()
    skip = (await read(rig, made))["last_skip"]
    assert (skip["tick"], skip["reason"]) == (made["next_fire_at"], "refused")
    assert "prompt" in skip["detail"]
    types["named"] = kept
    assert await tasks(rig) == []


async def test_another_owners_schedule_is_not_found(rig: Rig) -> None:
    admin = await rig.key("admin", owner="root")
    alice, bob = [await rig.key("submit", "read", "control", owner=name) for name in ("alice", "bob")]
    made = (await rig.client.post("/schedule", json=HOURLY, headers=alice)).json()
    own = (await rig.client.post("/schedule", json=HOURLY, headers=bob)).json()
    links = made["links"]
    for method, path in (
        ("GET", links["self"]), ("PATCH", links["self"]), ("DELETE", links["self"]), ("GET", links["next"]),
        ("POST", links["trigger"]),
    ):  # fmt: skip
        body = {"json": {"paused": True}} if method == "PATCH" else {}
        reply = await rig.client.request(method, path, headers=bob, **body)
        assert problem(reply) == (404, "not-found"), (method, path)
    for person, expected in ((alice, [made]), (bob, [own]), (admin, [own, made])):
        assert (await rig.client.get("/schedule", headers=person)).json()["items"] == expected
    triggered = await rig.client.post(links["trigger"], headers=admin)
    assert triggered.json()["owner"] == "alice"
    rig.clock.advance(HOUR)
    await rig.service.schedules.run_once()
    assert len((await rig.client.get("/task", headers=alice)).json()["items"]) == 2
    assert len((await rig.client.get("/task", headers=bob)).json()["items"]) == 1
