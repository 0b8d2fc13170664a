"""Many tasks at once: the preview, what it counts, the receipt, stop and undo."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx2
import pytest

from tasker.rules.lifecycle import Failed, problem
from tests.web.conftest import FORM_TOKEN, Web
from tests.web.test_task import words

HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


async def fail(web: Web, count: int, **options: Any) -> list[str]:
    """Make failed tasks."""
    ids = [await web.rig.submit(**options) for _ in range(count)]
    for _ in ids:
        await web.rig.finish(Failed(problem("task-failed", "no")))
    return ids


async def preview(web: Web, status: int = 200, **fields: Any) -> str:
    reply = await web.post("/ui/bulk", **fields)
    assert reply.status_code == status, reply.text
    return reply.text


def confirm_fields(page: str) -> dict[str, Any]:
    """Return the hidden fields of the form that confirms; one with several values as a list."""
    form = page[page.index('action="bulk/start"') :]
    fields: dict[str, Any] = {}
    for name, value in HIDDEN.findall(form[: form.index("</form>")]):
        fields.setdefault(name, []).append(unescape(value))
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


async def confirm(web: Web, page: str, **more: Any) -> httpx2.Response:
    return await web.client.post("/ui/bulk/start", data={**confirm_fields(page), **more})


async def receipt(web: Web, reply: httpx2.Response) -> str:
    assert reply.status_code == 303, reply.text
    return await web.get("/ui/bulk/" + reply.headers["location"].rpartition("/")[2])


async def test_all_that_match_are_counted_and_no_more_are_touched(web: Web) -> None:
    await fail(web, 3, queue="a")
    other = await fail(web, 1, queue="b")
    page = await preview(web, action="retry", all="1", queue="a")
    assert "Retry 3 tasks with queue a ." in words(page)
    later = await fail(web, 1, queue="a")
    done = await receipt(web, await confirm(web, page))
    assert 'data-state="done"' in done
    assert "3 done" in words(done)
    for task_id in (*other, *later):
        assert (await web.rig.client.get(f"/task/{task_id}")).json()["status"] == "failed"


async def test_more_that_match_by_then_are_asked_about_again(web: Web) -> None:
    open_ = await web.rig.submit(priority=-5)
    await fail(web, 2)
    page = await preview(web, action="retry", all="1")
    await web.rig.finish(Failed(problem("task-failed", "no")))
    reply = await confirm(web, page)
    assert reply.status_code == 409
    assert "Nothing was changed." in words(reply.text)
    assert "Retry 3 tasks" in words(reply.text)
    assert (await web.rig.client.get(f"/task/{open_}")).json()["status"] == "failed"
    assert "3 done" in words(await receipt(web, await confirm(web, reply.text)))


async def test_chosen_tasks(web: Web) -> None:
    ids = await fail(web, 3)
    page = await preview(web, action="delete", task_id=ids[:2])
    assert "Delete 2 of 2 chosen tasks." in words(page)
    done = await receipt(web, await confirm(web, page))
    assert "2 done" in words(done)
    assert "See the" not in words(done)
    assert [(await web.rig.client.get(f"/task/{one}")).status_code for one in ids] == [404, 404, 200]


async def test_without_an_action_each_is_offered(web: Web) -> None:
    await fail(web, 2)
    await web.rig.submit()
    text = words(await preview(web, all="1"))
    for offer in ("Retry 2 tasks, all that can be retried.", "Cancel 1 task, all", "Delete 2 tasks, all"):
        assert offer in text


async def test_only_what_would_do_something_is_offered(web: Web) -> None:
    await web.rig.submit(queue="a")
    text = words(await preview(web, all="1", queue="a"))
    assert "Cancel 1 task with queue a ." in text
    assert "What retry would do" not in text
    assert "What delete would do" not in text
    text = words(await preview(web, all="1", queue="b"))
    for action in ("retried", "cancelled", "deleted"):
        assert f"No such task can be {action} now." in text


async def test_a_large_deletion_is_typed(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.web.bulk.TYPE_COUNT_OVER", 2)
    await fail(web, 3)
    page = await preview(web, action="delete", all="1")
    assert "Type 3 to delete them" in words(page)
    for typed in ("", "2", "all"):
        reply = await confirm(web, page, typed=typed)
        assert reply.status_code == 422
        assert "Nothing was changed." in words(reply.text)
    assert "3 done" in words(await receipt(web, await confirm(web, page, typed=" 3 ")))


async def test_a_retry_is_undone(web: Web) -> None:
    ids = await fail(web, 3)
    page = await receipt(web, await confirm(web, await preview(web, action="retry", all="1")))
    claim = await web.rig.driver.claim_one()
    undo = re.search(r'formaction="\.\./(bulk/[^"]+/undo)"', page)
    assert undo is not None
    reply = await web.post(f"/ui/{undo[1]}")
    assert "2 done" in words(await receipt(web, reply))
    statuses = {(await web.rig.client.get(f"/task/{one}")).json()["status"] for one in ids if one != str(claim.task_id)}
    assert statuses == {"cancelled"}


async def test_an_action_is_stopped(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.web.bulk.WITHIN", 0.0)  # the receipt comes after the first step, of 100 tasks
    reply = await web.rig.client.post("/batch", json=[{"type": "sum", "params": [4, 2]}] * 150)
    assert reply.json()["accepted"] == 150
    page = await receipt(web, await confirm(web, await preview(web, action="cancel", all="1")))
    assert 'data-state="running"' in page
    assert "100 done 0 skipped 50 to go" in words(page)
    stop = re.search(r'formaction="\.\./(bulk/[^"]+/stop)"', page)
    assert stop is not None
    page = await receipt(web, await web.post(f"/ui/{stop[1]}"))
    assert 'data-state="stopped"' in page
    assert "100 done 0 skipped 50 left as they were" in words(page)
    assert stop[1] not in page
    assert await web.rig.service.bulk.run_once() == 0  # nothing goes on with it
    open_ = await web.rig.client.get("/task", params={"status": "pending", "limit": 100})
    assert len(open_.json()["items"]) == 50


async def test_receipts_are_listed_and_audited(web: Web) -> None:
    await fail(web, 1)
    page = await preview(web, action="retry", all="1", tag="x", queue="default")
    assert "Retry 0 tasks with queue default , tag x" in words(page)
    assert 'action="bulk/start"' not in page
    done = await receipt(web, await confirm(web, await preview(web, action="retry", all="1", type="sum")))
    assert "type sum" in words(done)
    assert "Retry tasks with status failed or cancelled , type sum done 1 0" in words(await web.get("/ui/bulk"))
    [entry] = (await web.rig.client.get("/audit")).json()["items"]
    assert (entry["action"], entry["outcome"], entry["target"]) == ("act_on_tasks", 303, 'retry {"type":["sum"]}')


@pytest.mark.parametrize(
    "fields",
    [{"action": "retry"}, {"action": "retry", "task_id": "x"}, {"action": "fly", "all": "1"},
     {"action": "retry", "all": "1", "statu": "failed"}, {"action": "retry", "all": "1", "created_after": "now"}],
)  # fmt: skip
async def test_what_cannot_be_read_is_refused(web: Web, fields: dict[str, str]) -> None:
    for path in ("/ui/bulk", "/ui/bulk/start"):
        assert (await web.post(path, **fields)).status_code == 422


async def test_owners_are_walls(web: Web) -> None:
    rig = web.rig
    mine, theirs = await rig.key("submit", owner="me"), await rig.key("submit", "control", "read", owner="you")
    for key in (mine, theirs):
        await rig.client.post("/task", json={"type": "sum", "params": [1, 2]}, headers=key)
    await web.sign_in("read", "control", owner="me")
    page = await preview(web, action="cancel", all="1")
    assert "Cancel 1 task" in words(page)
    done = await receipt(web, await confirm(web, page))
    bulk_id = re.search(r'<code class="dim small">([^<]+)</code>', done)
    assert bulk_id is not None
    await web.sign_in("read", "control", owner="you")
    await web.get(f"/ui/bulk/{bulk_id[1]}", 404)
    await web.get(f"/ui/bulk/{bulk_id[1]}/live", 404)
    assert bulk_id[1] not in await web.get("/ui/bulk")
    for deed in ("stop", "undo"):
        assert (await web.post(f"/ui/bulk/{bulk_id[1]}/{deed}")).status_code == 404


async def test_newest_tasks_are_shown_to_readers_alone(web: Web) -> None:
    rig = web.rig
    key = await rig.key("submit", owner="me")
    task_id = (await rig.client.post("/task", json={"type": "sum", "params": [1, 2]}, headers=key)).json()["task_id"]
    await web.sign_in("read", "control", owner="me")
    assert task_id in await preview(web, action="cancel", all="1")
    await web.sign_in("control", owner="me")
    token = FORM_TOKEN.search((await web.client.get("/ui/tasks")).text)
    assert token is not None
    reply = await web.client.post("/ui/bulk", data={"token": token[1], "action": "cancel", "all": "1"})
    assert "Cancel 1 task" in words(reply.text)
    assert task_id not in reply.text
