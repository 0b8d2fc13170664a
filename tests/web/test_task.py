"""The page of one task: what it says in each status, and what it lets one do."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import msgspec
import pytest

from tasker.model import NewEvent, Report
from tasker.model.attempts import Lease
from tasker.rules.lifecycle import Crashed, Failed, Released, Succeeded, TimedOut, problem
from tests.api.conftest import Rig, announce
from tests.web.conftest import Web

DEEDS = ("Retry", "Cancel", "Run again, edited", "Delete...", "Copy as")


def words(page: str) -> str:
    """Return the text of a page as one line."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def deeds(page: str) -> list[str]:
    """Return which of DEEDS the page offers."""
    text = words(page)
    offered = {
        "Retry": "/retry" in page, "Cancel": "/cancel" in page, "Run again, edited": "Run again, edited" in text,
        "Delete...": "Delete..." in text, "Copy as": "Copy as" in text,
    }  # fmt: skip
    return [name for name in DEEDS if offered[name]]


async def say(rig: Rig, lease: Lease, *events: tuple[str, dict[str, Any]]) -> None:
    """Report events of a running attempt."""
    made = tuple(NewEvent(type=kind, time=rig.clock.now(), data=msgspec.json.encode(data)) for kind, data in events)  # type: ignore[arg-type]
    assert await rig.engine.record(lease, Report(events=made))


async def test_a_completed_task(web: Web) -> None:
    task_id = await web.rig.submit(tags=["nightly"], priority=5)
    await web.rig.finish()
    page = await web.get(f"/ui/task/{task_id}")
    assert 'data-status="completed"' in page
    assert deeds(page) == ["Run again, edited", "Delete...", "Copy as"]
    assert f'href="../type/sum?from={task_id}"' in page
    text = words(page)
    for part in ("completed", "Attempts", "Input", "[ 4, 2 ]", "Result", " 6 ", "nightly", "Priority 5"):
        assert part in text, part


async def test_a_pending_task_says_why_it_waits(web: Web) -> None:
    await announce(web.rig)
    await web.rig.submit()
    task_id = await web.rig.submit()
    page = await web.get(f"/ui/task/{task_id}")
    assert 'data-status="pending"' in page
    assert "1 task is before it" in words(page)
    assert deeds(page) == ["Cancel", "Run again, edited", "Copy as"]
    assert 'href="../queue/default"' in page


async def test_the_button_that_ends_the_wait(web: Web) -> None:
    await announce(web.rig)
    task_id = await web.rig.submit(queue="slow")
    await web.rig.client.patch("/queue/slow", json={"paused": True})
    page = await web.get(f"/ui/task/{task_id}")
    assert "It waits because queue slow is paused" in words(page)
    assert 'formaction="../queue/slow/resume"' in page
    reply = await web.post("/ui/queue/slow/resume")
    assert reply.status_code == 303
    assert "is paused" not in words(await web.get(f"/ui/task/{task_id}"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delay": 720}, "It waits for its time: starts in 12 min"),
        ({}, "It waits because no worker runs sum from queue default"),
    ],
)
async def test_other_reasons_to_wait(web: Web, options: dict[str, Any], said: str) -> None:
    task_id = await web.rig.submit(**options)
    assert said in words(await web.get(f"/ui/task/{task_id}"))


async def test_a_failed_task_has_advice_and_attempts(web: Web) -> None:
    rig = web.rig
    task_id = await rig.submit(retry={"max_attempts": 3, "initial": 2, "jitter": False})
    error = problem("task-raised", "ValueError: unknown currency 'XBT'", retryable=True)
    for wait in (2, 4, 0):
        await rig.finish(Failed(error))
        rig.clock.advance(timedelta(seconds=wait + 1))
    page = await web.get(f"/ui/task/{task_id}")
    text = words(page)
    assert 'data-status="failed"' in page
    assert deeds(page) == ["Retry", "Run again, edited", "Delete...", "Copy as"]
    assert "The task's function raised an exception, in each of its 3 attempts" in text
    assert "ValueError: unknown currency 'XBT'" in text
    assert "Read the exception, correct the function." in text
    assert "after 3 of 3 tries" in text
    assert "2.0 s of back-off" in page
    assert "4.0 s of back-off" in page


@pytest.mark.parametrize(
    ("outcome", "word"),
    [(TimedOut(timedelta(seconds=3)), "timed out"), (Crashed("died"), "crashed"), (Released(), "given back")],
)
async def test_how_attempts_end(web: Web, outcome: Any, word: str) -> None:
    task_id = await web.rig.submit(retry=2)
    await web.rig.finish(outcome)
    assert word in words(await web.get(f"/ui/task/{task_id}"))


async def test_a_running_task_shows_what_it_says(web: Web) -> None:
    rig = web.rig
    task_id = await rig.submit()
    claim = await rig.driver.claim_one(types=("sum",))
    rig.clock.advance(timedelta(seconds=2.1))
    await say(rig, claim.lease, ("output", {"chunk": "Once upon "}), ("output", {"chunk": "a time\n"}),
              ("log", {"level": "warning", "message": "no country", "fields": {"order": 88120}}))  # fmt: skip
    page = await web.get(f"/ui/task/{task_id}")
    assert 'data-status="running"' in page
    assert deeds(page) == ["Cancel", "Run again, edited", "Copy as"]
    assert (
        'id="out" role="log" aria-live="off" tabindex="0" aria-label="Output"><bdi>Once upon a time\n</bdi></pre>'
        in page
    )
    assert "+2.1 s warning no country order=88120" in words(page)
    assert "try 1 of 1" in words(page)


async def test_lines_of_at_least_a_level(web: Web) -> None:
    rig = web.rig
    task_id = await rig.submit()
    claim = await rig.driver.claim_one(types=("sum",))
    await say(
        rig,
        claim.lease,
        *(("log", {"level": name, "message": f"a {name} line"}) for name in ("debug", "info", "warning", "error")),
    )
    for level, shown in (("all", 4), ("info", 3), ("warning", 2), ("error", 1)):
        page = await web.get(f"/ui/task/{task_id}?level={level}")
        assert page.count(" line</bdi>") == shown
    await web.get(f"/ui/task/{task_id}?level=loud", 422)


async def test_output_of_attempts_is_told_apart(web: Web) -> None:
    rig = web.rig
    task_id = await rig.submit(retry={"max_attempts": 2, "initial": 0, "jitter": False})
    claim = await rig.driver.claim_one(types=("sum",))
    await say(rig, claim.lease, ("output", {"chunk": "one"}))
    await rig.driver.finish(claim, Failed(problem("task-failed", "no", retryable=True)))
    claim = await rig.driver.claim_one(types=("sum",))
    await say(rig, claim.lease, ("output", {"chunk": "two"}))
    page = await web.get(f"/ui/task/{task_id}")
    assert '<bdi>one</bdi><b class="dim">\n— attempt 2 —\n</b><bdi>two</bdi>' in page


async def test_the_end_of_a_long_log_and_what_came_before(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.web.task_live.MOST_LINES", 100)
    rig = web.rig
    task_id = await rig.submit()
    claim = await rig.driver.claim_one(types=("sum",))
    for number in range(3):
        lines = (("log", {"level": "info", "message": f"line {number * 100 + n}."}) for n in range(100))
        await say(rig, claim.lease, *lines, ("output", {"chunk": f"output {number}\n"}))
    page, shown = await web.get(f"/ui/task/{task_id}"), []
    assert "output 2" in page
    for low in (200, 100, 0):
        assert [int(one) for one in re.findall(r"line (\d+)\.", page)] == list(range(low, low + 100))
        shown.append("hx-sse" in page)
        older = re.search(r'href="\?before=(\d+)">Older lines', page)
        assert (older is None) is (low == 0)
        if older is not None:
            page = await web.get(f"/ui/task/{task_id}?before={older[1]}")
    assert shown == [True, False, False]


async def test_how_many_failed_alike(web: Web) -> None:
    ids = [await web.rig.submit() for _ in range(3)]
    for number in range(3):
        await web.rig.finish(Failed(problem("task-failed", f"no order {number}")))
    page = await web.get(f"/ui/task/{ids[0]}")
    assert "2 others failed with the same error" in words(page)
    error = re.search(r'href="\.\./tasks\?error=([^"]+)"', page)
    assert error is not None
    assert (await web.get(f"/ui/tasks?error={error[1]}")).count("<tr id=") == 3
    reply = await web.post("/ui/bulk", action="retry", all="1", error=error[1])
    assert "Retry 3 tasks" in words(reply.text)


async def test_downloads(web: Web) -> None:
    rig = web.rig
    task_id = await rig.submit("echo", ["x" * 100_000])
    claim = await rig.driver.claim_one(types=("echo",))
    for number in range(60):
        await say(
            rig, claim.lease, ("output", {"chunk": f"{number}\n"}), ("log", {"level": "info", "message": str(number)})
        )
    await rig.driver.finish(claim, Succeeded(b'"y"'))
    page = await web.get(f"/ui/task/{task_id}")
    assert "more characters" in page
    for name, body in (
        ("output", "".join(f"{n}\n" for n in range(60))),
        ("input", '["' + "x" * 100_000 + '"]'),
        ("result", '"y"'),
    ):
        reply = await web.client.get(f"/ui/task/{task_id}/{name}")
        assert reply.text == body
        assert reply.headers["content-disposition"].startswith("attachment; ")
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert (await web.client.get(f"/ui/task/{task_id}/log")).text.count("\n") == 60
    assert (await web.client.get(f"/ui/task/{task_id}/raw")).json()["task_id"] == task_id
    await web.get(f"/ui/task/{task_id}/other", 404)


async def test_deeds_are_done_and_audited_as_by_the_api(web: Web) -> None:
    rig = web.rig
    task_id = await rig.submit()
    for deed, status in (("cancel", "cancelled"), ("retry", "pending"), ("cancel", "cancelled")):
        reply = await web.post(f"/ui/task/{task_id}/{deed}")
        assert reply.status_code == 303
        assert reply.headers["location"] == f"../../task/{task_id}"
        assert f'data-status="{status}"' in await web.get(f"/ui/task/{task_id}")
    assert (await web.post(f"/ui/task/{task_id}/cancel")).status_code == 409
    assert (await web.post(f"/ui/task/{task_id}/delete")).headers["location"] == "../../tasks"
    await web.get(f"/ui/task/{task_id}", 404)
    entries = (await rig.client.get("/audit")).json()["items"]
    assert [(entry["action"], entry["outcome"]) for entry in reversed(entries)] == [
        ("cancel_task", 303), ("retry_task", 303), ("cancel_task", 303), ("cancel_task", 409), ("delete_task", 303),
    ]  # fmt: skip
    assert {entry["target"] for entry in entries} == {task_id}


async def test_deeds_by_scope(web: Web) -> None:
    rig = web.rig
    admin = await rig.key("admin")
    task_id = (
        await rig.client.post(
            "/task", json={"type": "sum", "params": [1, 2]}, headers=await rig.key("submit", owner="me")
        )
    ).json()["task_id"]
    await web.sign_in("read", owner="me")
    assert deeds(await web.get(f"/ui/task/{task_id}")) == ["Copy as"]
    for deed in ("cancel", "retry", "delete"):
        assert (await web.post(f"/ui/task/{task_id}/{deed}")).status_code == 403
    await web.sign_in("read", "submit", owner="me")
    assert deeds(await web.get(f"/ui/task/{task_id}")) == ["Run again, edited", "Copy as"]
    await web.sign_in("read", "control", owner="me")
    assert deeds(await web.get(f"/ui/task/{task_id}")) == ["Cancel", "Copy as"]
    await web.sign_in("read", "control", owner="another")
    for path in ("", "/raw", "/output", "/log", "/input", "/live"):
        await web.get(f"/ui/task/{task_id}{path}", 404)
    for deed in ("cancel", "retry", "delete"):
        assert (await web.post(f"/ui/task/{task_id}/{deed}")).status_code == 404
    assert (await rig.client.get(f"/task/{task_id}", headers=admin)).json()["status"] == "pending"


async def test_tracebacks_are_for_admins(web: Web) -> None:
    rig = web.rig
    await rig.key("admin")
    task_id = (
        await rig.client.post(
            "/task", json={"type": "sum", "params": [1, 2]}, headers=await rig.key("submit", owner="me")
        )
    ).json()["task_id"]
    await rig.finish(Failed(msgspec.structs.replace(problem("task-raised", "no"), traceback="Traceback: line 88")))
    await web.sign_in("read", owner="me")
    assert "line 88" not in await web.get(f"/ui/task/{task_id}")
    await web.sign_in("admin")
    assert "line 88" in await web.get(f"/ui/task/{task_id}")


async def test_an_expired_task_says_so(web: Web) -> None:
    task_id = await web.rig.submit(retention=60)
    await web.rig.finish()
    web.rig.clock.advance(timedelta(seconds=61))
    await web.rig.engine.prune(limit=10)
    page = await web.get(f"/ui/task/{task_id}", 410)
    assert "has expired" in words(page)
    assert "submit it again. Each type has a form for that." in words(page)
    assert 'href="../types"' in page
