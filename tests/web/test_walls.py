"""Owners are walls: no page shows another owner's things, and no post changes them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from uuid import UUID

from tasker.api.events import SSE
from tasker.model import Task
from tasker.model.bulk import BulkAction
from tasker.model.keys import Scope
from tasker.model.schedules import Schedule
from tasker.model.webhooks import Webhook
from tasker.web.page import Page
from tests.api.land import Land, picky
from tests.web.conftest import Web
from tests.web.test_scopes import table

HERS, HIS = "hers9f3a", "his7c21"
EVERYTHING: tuple[Scope, ...] = ("submit", "read", "control")


def asked(page: Page, land: Land) -> Iterator[str]:
    """Yield the paths of a page for an owner's things."""
    tasks = [land.ids[name] for name in ("failed", "running", "completed")]
    values = {
        "{task_id}": tasks, "{name}": ["echo", f"failed-{land.owner}"], "{text}": ["input", "result", "error"],
        "{key_id}": ["abcdefghijkm"], "{file}": ["app.css"], "{number}": ["1"],
    }  # fmt: skip
    names = page.path.split("/")
    parts = [values.get(one) or [land.ids[one[1:-1]] if one[:1] == "{" else one] for one in names]
    for path in product(*parts):
        yield "/ui" + "/".join(path)


async def lands(web: Web) -> tuple[Land, Land]:
    web.rig.service.registry.add(picky)
    hers = await Land(web.rig, "alice", HERS, await web.rig.key(*EVERYTHING, owner="alice")).build()
    his = await Land(web.rig, "bob", HIS, await web.rig.key(*EVERYTHING, owner="bob")).build()
    return hers, his


async def things(web: Web, land: Land) -> list[object]:
    """Return all of an owner's things as they are stored."""
    engine = web.rig.engine
    stores = (engine.find, engine.schedules.find, engine.webhooks.find, engine.bulk.find)
    found = [await find(UUID(one)) for find in stores for one in land.ids.values()]
    return [one for one in found if one is not None]


async def test_no_page_shows_what_is_another_owners(web: Web) -> None:
    hers, his = await lands(web)
    await web.sign_in(*EVERYTHING, owner="alice")
    told = set()
    for page in table():
        if page.method != "GET" or page.media == SSE:
            continue
        for land in (hers, his):
            for path in asked(page, land):
                reply = await web.client.get(path)
                assert reply.status_code < 500, (path, reply.text)
                assert HIS not in reply.text, path
                if HERS in reply.text:
                    told.add(page.path)
                if land is his and "_id}" in page.path:
                    assert reply.status_code in (403, 404), path
    assert {"/tasks", "/task/{task_id}", "/schedules", "/webhooks", "/"} <= told  # the walk does see something


async def test_no_post_changes_what_is_another_owners(web: Web) -> None:
    _, his = await lands(web)
    await web.sign_in(*EVERYTHING, owner="alice")
    before = await things(web, his)
    assert {type(one) for one in before} == {Task, Schedule, Webhook, BulkAction}
    for page in table():
        if page.method == "POST" and "_id}" in page.path:
            for path in asked(page, his):
                reply = await web.post(path)
                assert reply.status_code in (403, 404), (path, reply.text)
                assert HIS not in reply.text, path
    assert await things(web, his) == before


async def test_without_the_token_of_a_page_no_post_does_anything(web: Web) -> None:
    hers, _ = await lands(web)
    await web.sign_in(*EVERYTHING, owner="alice")
    for page in table():
        if page.method == "POST" and page.scope not in ("public", "admin"):
            for path in asked(page, hers):
                assert (await web.client.post(path, data={"token": "x"})).status_code == 403, path
