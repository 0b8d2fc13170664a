"""Owners are walls: no page shows another owner's things, and no post changes them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from uuid import UUID

from tasker.api.events import SSE
from tasker.model.keys import Scope
from tasker.web.page import Page
from tests.api.land import Land, picky
from tests.web.conftest import Web
from tests.web.test_scopes import table

HERS, HIS = "hers9f3a", "his7c21"
EVERYTHING: tuple[Scope, ...] = ("submit", "read", "control")
NO_PAGE = ("/signin", "/signout")
"""They are of the one who asks."""


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
    before = [await web.rig.engine.find(task_id) for task_id in map(UUID, his.ids.values())]
    for page in table():
        if page.method == "POST" and "_id}" in page.path and page.path not in NO_PAGE:
            for path in asked(page, his):
                reply = await web.post(path)
                assert reply.status_code in (403, 404), (path, reply.text)
                assert HIS not in reply.text, path
    assert [await web.rig.engine.find(task_id) for task_id in map(UUID, his.ids.values())] == before


async def test_without_the_token_of_a_page_no_post_does_anything(web: Web) -> None:
    hers, _ = await lands(web)
    await web.sign_in(*EVERYTHING, owner="alice")
    for page in table():
        if page.method == "POST" and page.scope not in ("public", "admin"):
            for path in asked(page, hers):
                assert (await web.client.post(path, data={"token": "x"})).status_code == 403, path
