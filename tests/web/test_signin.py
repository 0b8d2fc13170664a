"""Signing in: the cookie, what it counts for, and how it ends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import SecretStr

from tasker.web.sessions import LASTS
from tests.api.conftest import TOKEN, make_client
from tests.web.conftest import BROWSER, Web, make_faces

COOKIE = "tasker"


async def test_without_keys_the_pages_are_open(web: Web) -> None:
    assert "Sign out" not in await web.get("/ui/tasks")


async def test_a_page_asks_for_a_key_and_the_key_leads_back(locked: Web) -> None:
    page = await locked.get("/ui/tasks?status=failed", 401)
    assert 'name="where" value="tasks?status=failed"' in page
    assert "Overview" not in page  # no navigation
    reply = await locked.client.post("/ui/signin", data={"key": TOKEN, "where": "tasks?status=failed"})
    assert (reply.status_code, reply.headers["location"]) == (303, "tasks?status=failed")
    assert "Sign out" in await locked.get("/ui/tasks")


async def test_the_cookie(locked: Web) -> None:
    plain = await locked.client.post("/ui/signin", data={"key": TOKEN})
    cookie = plain.headers["set-cookie"]
    name, _, rest = cookie.partition("=")
    value, *attributes = rest.split("; ")
    assert name == COOKIE
    assert TOKEN not in value
    # Without a Path the browser takes the folder of the page that set it: /ui, or /prefix/ui behind a proxy.
    assert attributes == [f"Max-Age={8 * 3600}", "HttpOnly", "SameSite=Strict"]
    tls = await locked.client.post("/ui/signin", data={"key": TOKEN}, headers={"origin": "https://localhost:5000"})
    assert tls.headers["set-cookie"].endswith("; Secure")


async def test_the_api_takes_no_cookie(locked: Web) -> None:
    reply = await locked.client.post("/ui/signin", data={"key": TOKEN})
    value = reply.headers["set-cookie"].partition(";")[0]
    for path in ("/task", "/type", "/key"):
        assert (await locked.client.get(path, headers={"cookie": value})).status_code == 401
    # and the pages no Bearer
    locked.client.cookies.clear()
    await locked.get("/ui/tasks", 401, headers={"authorization": f"Bearer {TOKEN}"})


@pytest.mark.parametrize("change", ["key", "end", "mac", "nothing", "text"])
async def test_a_cookie_that_was_changed_counts_for_nothing(locked: Web, change: str) -> None:
    await locked.client.post("/ui/signin", data={"key": TOKEN})
    key_id, ends, mac = locked.client.cookies[COOKIE].split(".")
    value = {
        "key": f"{'a' * 12}.{ends}.{mac}",
        "end": f"{key_id}.{int(ends) + 1}.{mac}",
        "mac": f"{key_id}.{ends}.{mac[:-1]}{'A' if mac[-1] != 'A' else 'B'}",
        "nothing": "",
        "text": "\u00e9.9.x",
    }[change]
    locked.client.cookies.clear()
    await locked.get("/ui/tasks", 401, headers={"cookie": f"{COOKIE}={value}".encode("latin-1")})  # type: ignore[dict-item]
    await locked.get("/ui/tasks", 200, headers={"cookie": f"other=1; {COOKIE}={key_id}.{ends}.{mac}"})


async def test_it_ends_after_eight_hours(locked: Web) -> None:
    await locked.client.post("/ui/signin", data={"key": TOKEN})
    value = f"{COOKIE}={locked.client.cookies[COOKIE]}"
    locked.client.cookies.clear()
    locked.rig.clock.advance(LASTS - timedelta(seconds=1))
    await locked.get("/ui/tasks", 200, headers={"cookie": value})
    locked.rig.clock.advance(timedelta(seconds=1))
    await locked.get("/ui/tasks", 401, headers={"cookie": value})


async def test_a_revoked_key_ends_it_at_once(web: Web) -> None:
    key_id = await web.sign_in("read")
    await web.get("/ui/tasks")
    await web.rig.service.keys.revoke(key_id)
    assert "revoked" not in await web.get("/ui/tasks", 401)


async def test_another_token_ends_the_sessions_of_the_first(locked: Web) -> None:
    await locked.client.post("/ui/signin", data={"key": TOKEN})
    await locked.get("/ui/tasks")
    settings = locked.rig.settings.model_copy(update={"token": SecretStr("another-token-of-more-than-16")})
    locked.rig.settings = settings  # as if it were started anew with it
    async with make_client(make_faces(locked.rig), headers=BROWSER, cookies=locked.client.cookies) as client:
        assert (await client.get("/ui/tasks")).status_code == 401


async def test_signing_out(locked: Web) -> None:
    await locked.client.post("/ui/signin", data={"key": TOKEN})
    reply = await locked.post("/ui/signout")
    assert reply.status_code == 303
    assert "Max-Age=0" in reply.headers["set-cookie"]


async def test_wrong_keys_are_counted_together_with_those_of_the_api(locked: Web) -> None:
    statuses = []
    for _ in range(6):
        statuses.append((await locked.client.post("/ui/signin", data={"key": "wrong"})).status_code)
        statuses.append((await locked.client.get("/task", headers={"authorization": "Bearer wrong"})).status_code)
    assert statuses == [401] * 10 + [429] * 2
    page = (await locked.client.post("/ui/signin", data={"key": "wrong"})).text
    assert "Too many wrong keys" in page


@pytest.mark.parametrize(
    "where",
    [
        "//evil.example",
        "https://evil.example",
        "/task",
        "../task",
        "tasks/../../task",
        "tasks/%2E%2e/.%2e/task",
        "task/..",
        "task/..?x",
        "javascript:alert(1)",
        "\\evil",
        "tasks\r\nx: y",
    ],
)
async def test_the_key_leads_nowhere_else(locked: Web, where: str) -> None:
    reply = await locked.client.post("/ui/signin", data={"key": TOKEN, "where": where})
    assert (reply.status_code, reply.headers["location"]) == (303, "./")
    assert f'value="{where}"' not in (await locked.client.get("/ui/signin", params={"where": where})).text


async def test_nothing_is_written_to_the_audit_log_by_a_stranger(locked: Web) -> None:
    await locked.client.post("/ui/signin", data={"key": "wrong"})
    page = await locked.client.get("/audit", headers={"authorization": f"Bearer {TOKEN}"})
    assert page.json()["items"] == []


@pytest.mark.parametrize(
    "where", ["tasks?status=failed&q=../x", "task/0198e000-0000-7000-8000-000000000000", "type/a.b"]
)
async def test_the_key_leads_to_the_page_that_was_asked_for(locked: Web, where: str) -> None:
    reply = await locked.client.post("/ui/signin", data={"key": TOKEN, "where": where})
    assert reply.headers["location"] == where


async def test_the_folder_without_its_slash_leads_to_the_sign_in(locked: Web) -> None:
    reply = await locked.client.get("/ui")
    assert (reply.status_code, reply.headers["location"]) == (307, "ui/")
    # what is refused at the folder or above it has its links from there
    for path in ("/ui", "/"):
        page = await locked.get(path, 421, headers={"host": "other.example"})
        assert 'href="ui/static/' in page
