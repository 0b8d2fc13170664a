"""Below a prefix, as behind a proxy that takes it off: every link, the sign-in and its cookie work."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urljoin, urlsplit

from tasker.api.replies import ASGIApp, Receive, Scope, Send
from tests.api.conftest import TOKEN, make_client
from tests.web.conftest import BROWSER, Web

PREFIX = "/apps/tasker"
SITE = "http://localhost:5000"


def below_prefix(app: ASGIApp) -> ASGIApp:
    """Return what a proxy does: `location /apps/tasker/ { proxy_pass http://tasker/; }`."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith(PREFIX + "/"), scope["path"]
        path = scope["path"].removeprefix(PREFIX)
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return proxy


async def test_signing_in_and_every_link(locked: Web) -> None:
    await locked.rig.client.post(
        "/task", json={"type": "sum", "params": [4, 2]}, headers={"authorization": f"Bearer {TOKEN}"}
    )
    app = below_prefix(locked.rig.app)
    async with make_client(app, headers=BROWSER, follow_redirects=True) as client:
        reply = await client.get(f"{PREFIX}/")
        assert (str(reply.url), reply.status_code) == (f"{SITE}{PREFIX}/ui/", 401)
        action = re.search(r'method="post" action="([^"]+)"', reply.text)
        assert action is not None
        reply = await client.post(urljoin(str(reply.url), action[1]), data={"key": TOKEN, "where": "tasks?type=sum"})
        assert (str(reply.url), reply.status_code) == (f"{SITE}{PREFIX}/ui/tasks?type=sum", 200)
        [cookie] = client.cookies.jar
        assert cookie.path == f"{PREFIX}/ui"
        seen, todo = set(), [str(reply.url), f"{SITE}{PREFIX}/ui/"]
        while todo and len(seen) < 60:
            url = todo.pop(0)
            reply = await client.get(url)
            assert reply.status_code == 200, url
            seen.add(url)
            for link in re.findall(r'(?:href|src)="([^"#]+)"', reply.text):
                target = urljoin(url, unescape(link))
                if urlsplit(target).scheme == "http" and target not in seen | set(todo):
                    assert target.startswith(f"{SITE}{PREFIX}/"), (url, link)
                    todo.append(target)
        assert len(seen) > 30
