"""The pages of queues, schedules, workers, webhooks, keys, the audit log and usage: what they show, and their deeds."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from tasker.model.keys import ANYBODY
from tasker.rules.lifecycle import Failed, problem
from tests.api.conftest import announce
from tests.web.conftest import Web
from tests.web.test_task import words

CRON = {"/name": "nightly", "/cron": "30 2 * * *", "/task": '{"type": "sum", "params": [4, 2]}'}


async def audited(web: Web, count: int) -> list[tuple[str, int]]:
    """Return the last entries of the audit log, oldest first."""
    page = await web.rig.service.audit.find_many(limit=count)
    return [(entry.deed.action, entry.outcome or 0) for entry in reversed(page.items)]


# queues


async def test_queues_with_what_waits_and_why(web: Web) -> None:
    await web.rig.submit(queue="llm")
    web.rig.clock.advance(timedelta(minutes=34))
    await web.rig.client.patch("/queue/llm", json={"concurrency": 8, "rate": {"limit": 600, "per": 60}})
    assert (await web.post("/ui/queue/llm/pause")).status_code == 303
    for path in ("/ui/queues", "/ui/queue/llm"):
        text = words(await web.get(path))
        assert "34 min" in text
        assert "paused now" in text
    assert "600 in 1 min" in words(await web.get("/ui/queues"))
    assert (await web.post("/ui/queue/llm/resume")).headers["location"] == "../../queue/llm"
    assert "paused" not in words(await web.get("/ui/queues"))
    assert await audited(web, 2) == [("change_queue", 303)] * 2


async def test_limits_are_set_and_removed(web: Web) -> None:
    fields = {"/concurrency": "8", "/concurrency_per_key": "", "/rate/limit": "90,000", "/rate/per": "60"}
    assert (await web.post("/ui/queue/llm/limits", **fields)).status_code == 303
    queue = (await web.rig.client.get("/queue/llm")).json()
    assert (queue["concurrency"], queue["rate"]) == (8, {"limit": 90_000, "per": 60.0, "burst": 9_000})
    page = await web.get("/ui/queue/llm")
    assert 'name="/concurrency" value="8"' in page
    assert 'name="/rate/limit" value="90000"' in page
    await web.post("/ui/queue/llm/limits", **dict.fromkeys(fields, ""))
    queue = (await web.rig.client.get("/queue/llm")).json()
    assert (queue["concurrency"], queue["rate"]) == (None, None)


async def test_refused_limits_say_what_is_wrong_and_keep_what_was_typed(web: Web) -> None:
    reply = await web.post("/ui/queue/llm/limits", **{"/concurrency": "many", "/rate/limit": "5", "/rate/per": "-1"})
    assert reply.status_code == 422
    assert 'href="#f-concurrency"' in reply.text
    assert 'name="/concurrency" value="many"' in reply.text
    assert reply.text.count('aria-invalid="true"') == 2
    assert (await web.rig.client.get("/queue/llm")).json()["concurrency"] is None


async def test_who_paused_is_for_admins(web: Web) -> None:
    await web.sign_in("admin", owner="ops")
    await web.post("/ui/queue/llm/pause")
    assert "by " in words(await web.get("/ui/queue/llm")).partition("paused")[2][:40]
    await web.sign_in("read", owner="me")
    page = await web.get("/ui/queue/llm")
    assert "by " not in words(page).partition("paused")[2][:40]
    assert "Save limits" not in page
    assert "/resume" not in page


@pytest.mark.parametrize("name", ["a b", "x" * 101, "-"])
async def test_there_is_no_queue_of_such_a_name(web: Web, name: str) -> None:
    await web.get(f"/ui/queue/{name}", 404)


async def test_the_last_hour_of_a_queue(web: Web) -> None:
    for number in range(3):
        await web.rig.submit(queue="llm")
        await web.rig.finish(Failed(problem("task-failed", "no")) if number else None)
    web.rig.clock.advance(timedelta(minutes=1))
    await web.rig.submit(queue="llm")
    page = await web.get("/ui/queues")
    spark = re.search(r'<svg class="spark".*?</svg>', page, re.DOTALL)
    assert spark is not None
    assert 'aria-label="' + "0, " * 19 + '3"' in spark[0]
    assert spark[0].count('class="failed"') == 1


# schedules


async def created(web: Web, **fields: str) -> str:
    reply = await web.post("/ui/new/schedule", **{**CRON, **fields})
    assert reply.status_code == 303, reply.text
    return reply.headers["location"].rpartition("/")[2]


async def test_a_schedule_from_its_form_to_its_end(web: Web) -> None:
    schedule_id = await created(web, **{"/overlap": "skip", "/missed": "all", "/time_zone": "Europe/Berlin"})
    text = words(await web.get("/ui/schedules"))
    for part in ("nightly", "Daily at 02:30", "30 2 * * * Europe/Berlin", "skip the tick", "run all", "none yet"):
        assert part in text, part
    reply = await web.post(f"/ui/schedule/{schedule_id}/trigger")
    assert reply.status_code == 303
    assert "Run again" in words(await web.get("/ui/task/" + reply.headers["location"].rpartition("/")[2]))
    for deed, is_paused in (("pause", True), ("resume", False)):
        await web.post(f"/ui/schedule/{schedule_id}/{deed}")
        assert (await web.rig.client.get(f"/schedule/{schedule_id}")).json()["paused"] is is_paused
    page = await web.get(f"/ui/schedule/{schedule_id}/edit")
    assert 'name="/cron" value="30 2 * * *"' in page
    changed = {**CRON, "/cron": "", "/interval": "PT10M", "/time_zone": ""}
    assert (await web.post(f"/ui/schedule/{schedule_id}/edit", **changed)).status_code == 303
    assert "Every 10 minutes" in words(await web.get(f"/ui/schedule/{schedule_id}"))
    assert (await web.post(f"/ui/schedule/{schedule_id}/delete")).status_code == 303
    await web.get(f"/ui/schedule/{schedule_id}", 404)
    assert await audited(web, 6) == [
        ("create_schedule", 303), ("trigger_schedule", 303), ("change_schedule", 303), ("change_schedule", 303),
        ("change_schedule", 303), ("delete_schedule", 303),
    ]  # fmt: skip


async def test_the_last_ticks_of_a_schedule(web: Web) -> None:
    rig = web.rig
    schedule_id = await created(web, **{"/cron": "", "/interval": "60", "/overlap": "skip"})
    for number in range(4):
        rig.clock.advance(timedelta(seconds=61))
        await rig.service.schedules.run_once()
        if number in (0, 1):
            await rig.finish(Failed(problem("task-failed", "no")) if number else None)
    text = words(await web.get(f"/ui/schedule/{schedule_id}"))
    assert "2 of 4, 1 failed, 1 skipped" in text
    assert "skipped overlap" in text
    assert "2 of 4, 1 failed, 1 skipped" in words(await web.get("/ui/schedules"))


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [({"/cron": "61 * * * *"}, "cron"), ({"/interval": "60"}, "interval"), ({"/task": "{"}, "task"),
     ({"/task": '{"type": "sum", "params": ["x"]}'}, "task"), ({"/name": ""}, "name"),
     ({"/time_zone": "Berlin"}, "time_zone")],
)  # fmt: skip
async def test_a_refused_schedule_is_shown_again(web: Web, fields: dict[str, str], pointer: str) -> None:
    reply = await web.post("/ui/new/schedule", **{**CRON, **fields})
    assert reply.status_code == 422
    assert f'href="#f-{pointer}"' in reply.text
    assert 'value="nightly"' in reply.text or "/name" in fields
    assert (await web.rig.client.get("/schedule")).json()["items"] == []


async def test_a_taken_name_is_told(web: Web) -> None:
    await created(web)
    reply = await web.post("/ui/new/schedule", **CRON)
    assert reply.status_code == 409
    assert "Nothing was changed." in words(reply.text)


async def test_schedules_of_others_do_not_exist(web: Web) -> None:
    await web.sign_in("read", "submit", "control", owner="me")
    schedule_id = await created(web)
    await web.sign_in("read", "submit", "control", owner="you")
    assert "nightly" not in await web.get("/ui/schedules")
    for path in ("", "/edit"):
        await web.get(f"/ui/schedule/{schedule_id}{path}", 404)
    for deed in ("edit", "pause", "resume", "trigger", "delete"):
        assert (await web.post(f"/ui/schedule/{schedule_id}/{deed}")).status_code == 404


# workers


async def test_workers_with_their_slots(web: Web) -> None:
    await announce(web.rig)
    text = words(await web.get("/ui/workers"))
    assert "running" in text
    assert "0 of 2" in text
    web.rig.clock.advance(timedelta(seconds=31))
    assert "silent" in words(await web.get("/ui/workers"))


async def test_a_worker_shows_the_callers_attempts_alone(web: Web) -> None:
    rig = web.rig
    await announce(rig)
    key = await rig.key("submit", owner="me")
    task_id = (await rig.client.post("/task", json={"type": "sum", "params": [1, 2]}, headers=key)).json()["task_id"]
    rig.driver.worker = "w"
    await rig.driver.claim_one()
    await web.sign_in("read", owner="you")
    page = await web.get("/ui/workers")
    assert task_id not in page
    assert "0 of 2" in words(page)
    await web.sign_in("read", owner="me")
    page = await web.get("/ui/workers")
    assert f'href="task/{task_id}"' in page
    assert "1 of 2" in words(page)


# webhooks

HOOK = {"/url": "https://hooks.example/x", "/events": ["task.failed"], "/description": "mine"}


async def test_a_webhook_from_its_form_to_its_end(web: Web) -> None:
    reply = await web.post("/ui/new/webhook", **HOOK)
    assert reply.status_code == 200
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", reply.text)
    assert secret is not None
    [webhook] = (await web.rig.client.get("/webhook")).json()["items"]
    path = f"/ui/webhook/{webhook['webhook_id']}"
    assert webhook["events"] == ["task.failed"]
    page = await web.get(path)
    assert "whsec_" not in page
    assert "https://hooks.example/x" in await web.get("/ui/webhooks")
    for deed, status in (("pause", "paused"), ("resume", "active")):
        await web.post(f"{path}/{deed}")
        assert (await web.rig.client.get("/webhook")).json()["items"][0]["status"] == status
    edited = {**HOOK, "/url": "https://hooks.example/y", "/events": [], "/format": "slack"}
    assert (await web.post(f"{path}/edit", **edited)).status_code == 303
    changed = (await web.rig.client.get("/webhook")).json()["items"][0]
    assert (changed["url"], changed["format"], len(changed["events"])) == ("https://hooks.example/y", "slack", 3)
    rotated = await web.post(f"{path}/rotate")
    assert "whsec_" in rotated.text
    assert secret[0] not in rotated.text
    assert (await web.post(f"{path}/delete")).status_code == 303
    await web.get(path, 404)
    assert [name for name, _ in await audited(web, 6)] == [
        "create_webhook", "change_webhook", "change_webhook", "change_webhook", "rotate_secret", "delete_webhook",
    ]  # fmt: skip


async def test_a_refused_webhook_is_shown_again_without_its_secret(web: Web) -> None:
    reply = await web.post("/ui/new/webhook", **{**HOOK, "/url": "http://localhost/x", "/secret": "whsec_geheim"})
    assert reply.status_code == 422
    assert 'value="http://localhost/x"' in reply.text
    assert 'value="task.failed" checked' in reply.text
    assert "geheim" not in reply.text
    assert (await web.rig.client.get("/webhook")).json()["items"] == []


async def test_webhooks_of_others_do_not_exist(web: Web) -> None:
    await web.sign_in("read", "control", owner="me")
    await web.post("/ui/new/webhook", page="/ui/webhooks", **HOOK)
    [webhook] = (await web.rig.service.webhooks.find_many(ANYBODY, limit=5)).items
    await web.sign_in("read", "control", owner="you")
    path = f"/ui/webhook/{webhook.webhook_id}"
    assert "hooks.example" not in await web.get("/ui/webhooks")
    for page in ("", "/edit"):
        await web.get(path + page, 404)
    for deed in ("edit", "pause", "resume", "rotate", "delete", f"deliveries/{webhook.webhook_id}/redeliver"):
        assert (await web.post(f"{path}/{deed}", **HOOK)).status_code == 404


# keys, audit, usage


async def test_a_key_is_shown_once_and_revoked(web: Web) -> None:
    await web.sign_in("admin", owner="ops")
    reply = await web.post(
        "/ui/keys", page="/ui/keys", **{"/name": "shop", "/scopes": ["submit", "read"], "/rate": "5"}
    )
    assert reply.status_code == 200
    shown = re.search(r"tsk_[a-z0-9]+_[A-Za-z0-9_-]+", reply.text)
    assert shown is not None
    assert (await web.rig.client.get("/task", headers={"authorization": f"Bearer {shown[0]}"})).status_code == 200
    page = await web.get("/ui/keys")
    assert shown[0] not in page
    assert "submit, read" in words(page)
    key_id = shown[0].split("_")[1]
    assert (await web.post(f"/ui/key/{key_id}/revoke", page="/ui/keys")).status_code == 303
    assert "revoked" in words(await web.get("/ui/keys"))
    assert (await web.rig.client.get("/task", headers={"authorization": f"Bearer {shown[0]}"})).status_code == 401
    text = words(await web.get("/ui/audit"))
    for part in ("ops", "create_key", "revoke_key", key_id):
        assert part in text


async def test_a_refused_key_is_shown_again(web: Web) -> None:
    reply = await web.post("/ui/keys", page="/ui/keys", **{"/name": "shop", "/rate": "fast"})
    assert reply.status_code == 422
    assert "Nothing was changed." in words(reply.text)
    assert 'href="#f-rate"' in reply.text
    assert 'href="#f-scopes"' in reply.text
    assert await web.rig.service.keys.find_all() == []


async def test_usage_by_day_owner_and_type(web: Web) -> None:
    for _ in range(2):
        await web.rig.submit()
        await web.rig.finish()
    text = words(await web.get("/ui/usage"))
    assert "sum 2 2 0 0" in text
    for group in ("day", "owner", "type"):
        await web.get(f"/ui/usage?group={group}")
    await web.get("/ui/usage?group=colour", 422)
    await web.get("/ui/usage?from=2026-01-02&to=2026-01-01", 422)


async def test_an_empty_store_has_a_sentence_for_each_page(web: Web) -> None:
    for name in ("queues", "schedules", "workers", "webhooks", "keys", "audit", "usage", "bulk"):
        assert '<p class="in dim">' in await web.get(f"/ui/{name}")
        await web.get(f"/ui/{name}?colour=red", 422)
