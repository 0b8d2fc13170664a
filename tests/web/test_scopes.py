"""What each key sees and may do: every page, written out, so that no scope is loosened in passing."""

from __future__ import annotations

from unittest.mock import MagicMock

from tasker.web.app import make_pages
from tasker.web.page import Page
from tests.web.conftest import Web

ANY_ID = "0198e000-0000-7000-8000-000000000000"
SCOPE_OF = {
    "public": {"GET ", "GET /signin", "POST /signin", "GET /static/{file}"},
    "any": {"POST /signout", "GET /types", "GET /type/{name}"},
    "submit": {"POST /type/{name}"},
    "read": {"GET /", "GET /live/overview", "GET /tasks", "GET /live/tasks"},
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
    assert 'aria-label="Pages"' in page or not any(one.nav and one.scope == "any" for one in table())
    assert 'href="tasks"' not in page
