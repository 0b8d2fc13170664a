"""Fixtures: the pages and the API over a real service, as one application."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from html import unescape
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from tasker.api.app import build_app, make_gate
from tasker.api.replies import ASGIApp
from tasker.metrics import Metrics
from tasker.model.keys import Scope
from tasker.web.app import build_web, mount
from tests.api.conftest import TOKEN, MakeRig, Rig, make_client, make_rig

__all__ = ["make_rig"]  # the fixture of the API's tests
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORM_TOKEN = re.compile(r'name="token" value="([^"]+)"')


class Web:
    """A browser without scripts: `client` keeps its cookies, and sends what a browser sends."""

    def __init__(self, rig: Rig, client: httpx2.AsyncClient) -> None:
        self.rig = rig
        self.client = client

    async def get(self, path: str, status: int = 200, **options: Any) -> str:
        """Return the page at a path, whose status must be this."""
        reply = await self.client.get(path, **options)
        assert reply.status_code == status, reply.text
        return reply.text

    async def post(self, path: str, *, page: str = "/ui/tasks", **fields: Any) -> httpx2.Response:
        """Post a form with the token of a page."""
        found = FORM_TOKEN.search(await self.get(page))
        assert found is not None
        return await self.client.post(path, data={"token": unescape(found[1]), **fields})

    async def sign_in(self, *scopes: Scope, owner: str = "") -> str:
        """Sign in with a new key; return its id."""
        key = await self.rig.key(*scopes, owner=owner)
        shown = key["authorization"].removeprefix("Bearer ")
        reply = await self.client.post("/ui/signin", data={"key": shown})
        assert reply.status_code == 303, reply.text
        return shown.split("_")[1]


def make_faces(rig: Rig) -> ASGIApp:
    """Return the API and the pages over a service, as the wiring makes them."""
    gate, metrics = make_gate(rig.service, rig.settings, rig.clock), Metrics()
    api = build_app(rig.service, rig.settings, metrics, rig.clock, gate=gate)
    return mount(api, build_web(rig.service, rig.settings, metrics, rig.clock, gate))


MakeWeb = Callable[..., Awaitable[Web]]


@pytest.fixture
async def make_web(make_rig: MakeRig) -> AsyncIterator[MakeWeb]:
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Web:
            rig = await make_rig(**settings)
            rig.app = make_faces(rig)
            client = await stack.enter_async_context(make_client(rig.app, headers=BROWSER))
            return Web(rig, client)

        yield make


@pytest.fixture
async def web(make_web: MakeWeb) -> Web:
    return await make_web()


@pytest.fixture
async def locked(make_web: MakeWeb) -> Web:
    """A service that needs TOKEN."""
    return await make_web(token=SecretStr(TOKEN))
