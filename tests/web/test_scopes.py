"""What each key sees and may do: every page, written out, so that no scope is loosened in passing."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import MagicMock

import pytest

from tasker import task
from tasker.errors import Fault, Invalid
from tasker.web.app import make_pages
from tasker.web.page import Page
from tests.web.conftest import Web

ANY_ID = "0198e000-0000-7000-8000-000000000000"
SCOPE_OF = {
    "public": {"GET ", "GET /signin", "POST /signin", "GET /static/{file}"},
    "any": {"POST /signout", "GET /types", "GET /type/{name}"},
    "read": {
        "GET /",
        "GET /live/overview",
        "GET /tasks",
        "GET /live/tasks",
        "GET /task/{task_id}",
        "GET /task/{task_id}/live",
        "GET /task/{task_id}/tree",
        "GET /live/tree/{task_id}",
        "GET /task/{task_id}/steps",
        "GET /task/{task_id}/step/{number}",
        "GET /questions",
        "GET /live/questions",
        "GET /groups",
        "GET /group/{name}",
        "GET /live/group/{name}",
        "GET /task/{task_id}/raw",
        "GET /task/{task_id}/output",
        "GET /task/{task_id}/log",
        "GET /task/{task_id}/{text}",
        "GET /queues",
        "GET /live/queues",
        "GET /queue/{name}",
        "GET /schedules",
        "GET /schedule/{schedule_id}",
        "GET /workers",
        "GET /live/workers",
        "GET /webhooks",
        "GET /webhook/{webhook_id}",
        "GET /usage",
        "GET /bulk",
        "GET /bulk/{bulk_id}",
        "GET /bulk/{bulk_id}/live",
    },
    "submit": {
        "POST /type/{name}",
        "GET /new/schedule",
        "POST /new/schedule",
        "GET /schedule/{schedule_id}/edit",
        "POST /schedule/{schedule_id}/edit",
        "POST /schedule/{schedule_id}/pause",
        "POST /schedule/{schedule_id}/resume",
        "POST /schedule/{schedule_id}/trigger",
    },
    "control": {
        "POST /task/{task_id}",
        "POST /task/{task_id}/cancel",
        "POST /task/{task_id}/retry",
        "POST /task/{task_id}/delete",
        "POST /schedule/{schedule_id}/delete",
        "GET /new/webhook",
        "POST /new/webhook",
        "GET /webhook/{webhook_id}/edit",
        "POST /webhook/{webhook_id}/edit",
        "POST /webhook/{webhook_id}/pause",
        "POST /webhook/{webhook_id}/resume",
        "POST /webhook/{webhook_id}/rotate",
        "POST /webhook/{webhook_id}/delete",
        "POST /webhook/{webhook_id}/deliveries/{delivery_id}/redeliver",
        "POST /bulk",
        "POST /bulk/start",
        "POST /bulk/{bulk_id}/stop",
        "POST /bulk/{bulk_id}/undo",
    },
    "admin": {
        "POST /queue/{name}/pause",
        "POST /queue/{name}/resume",
        "POST /queue/{name}/limits",
        "GET /keys",
        "POST /keys",
        "POST /key/{key_id}/revoke",
        "GET /audit",
    },
}


def table() -> list[Page]:
    return make_pages(MagicMock(), MagicMock(), MagicMock(), MagicMock())


def path_of(page: Page) -> str:
    parts = [ANY_ID if part.endswith("_id}") else "sum" if "{" in part else part for part in page.path.split("/")]
    return "/ui" + "/".join(parts)


def test_each_page_needs_the_scope_written_here() -> None:
    found: dict[str, set[str]] = {}
    for page in table():
        found.setdefault(page.scope, set()).add(f"{page.method} {page.path}")
    assert found == SCOPE_OF


def test_no_page_is_declared_twice() -> None:
    rows = [(page.method, page.path) for page in table()]
    assert len(rows) == len(set(rows))


async def test_without_a_key_nothing_but_the_sign_in_is_shown(locked: Web) -> None:
    for page in table():
        if page.scope != "public":
            reply = await locked.client.request(page.method, path_of(page))
            assert reply.status_code == 401, page
            assert "Sign in" in reply.text


async def test_a_key_without_the_scope_is_refused(web: Web) -> None:
    for scope in ("submit", "read", "control"):
        await web.sign_in(scope, owner=scope)
        for page in table():
            if page.scope in ("public", "any", scope):
                continue
            reply = await web.client.request(page.method, path_of(page))
            assert reply.status_code == 403, (scope, page)


async def test_the_navigation_shows_what_the_key_may_see(web: Web) -> None:
    await web.sign_in("admin")
    page = await web.get("/ui/tasks")
    for link in table():
        if link.nav is not None:
            assert f">{link.nav}<" in page.replace("</svg>", ">")
    await web.sign_in("submit", owner="s")
    page = await web.get("/ui/tasks", 403)
    assert 'aria-label="Pages"' in page
    assert 'href="tasks"' not in page


async def test_a_key_that_may_not_read_sees_nothing_of_what_it_may_change(web: Web) -> None:
    everything = await web.rig.key("read", "submit", "control", owner="alice")
    task = {"type": "sum", "params": [424242, 2]}
    body = {"name": "nightly", "interval": 3600, "task": task}
    schedule = (await web.rig.client.post("/schedule", json=body, headers=everything)).json()["schedule_id"]
    body = {"url": "https://example.com/424242"}
    webhook = (await web.rig.client.post("/webhook", json=body, headers=everything)).json()["webhook_id"]
    forms = (f"/ui/schedule/{schedule}/edit", f"/ui/webhook/{webhook}/edit")
    await web.sign_in("read", "submit", "control", owner="alice")
    for path in forms:
        assert "424242" in await web.get(path)
    await web.sign_in("submit", "control", owner="alice")
    for path in forms:
        assert "424242" not in await web.get(path, 403)
    rotated = await web.post(f"/ui/webhook/{webhook}/rotate", page="/ui/types")
    assert rotated.status_code == 200
    assert "whsec_" in rotated.text  # it is told nowhere else
    assert "424242" not in rotated.text


async def test_a_key_that_may_not_read_does_not_learn_why_an_original_no_longer_fits(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = [True]

    def check(text: str) -> Iterator[Fault]:
        if not fits[0]:
            yield Fault("/text", f"{text} does not fit")

    async def checked(text: str) -> str:
        return text

    web.rig.service.registry.add(task(name="checked", check=check, example=["good"])(checked))
    everything = await web.rig.key("read", "submit", owner="alice")
    body = {"name": "nightly", "interval": 3600, "task": {"type": "checked", "params": ["t424242"]}}
    schedule = (await web.rig.client.post("/schedule", json=body, headers=everything)).json()["schedule_id"]
    fits[0] = False

    async def refuse(*_: object) -> None:
        raise Invalid("q424242", faults=[Fault("/queue", "q424242"), Fault("/params/text", "is yours")])

    monkeypatch.setattr(web.rig.service.submissions, "validate_replay", refuse)
    deeds = (
        (f"/ui/schedule/{schedule}/trigger", {}),
        ("/ui/type/checked", {"do": "check", "origin": ANY_ID, "/text": "x"}),
    )
    await web.sign_in("read", "submit", owner="alice")
    for path, fields in deeds:
        assert "424242" in (await web.post(path, page="/ui/types", **fields)).text
    await web.sign_in("submit", owner="alice")
    for path, fields in deeds:
        reply = await web.post(path, page="/ui/types", **fields)
        assert reply.status_code == 422
        assert "424242" not in reply.text
        assert "may see why" in reply.text
    assert "is yours" in reply.text
