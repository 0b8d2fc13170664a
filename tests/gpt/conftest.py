"""Runs the `gpt` function as a worker would, against a server of the test's own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import timedelta
from io import StringIO
from typing import Any, Protocol

import pytest
import structlog
from pydantic import SecretStr
from tests.gpt.fault_server import FaultServer
from tests.gpt.recorder import Recorder

from tasker.builtin.gpt.task import Gpt
from tasker.config.settings import GptSettings
from tasker.logs.setup import configure_logs
from tasker.testing import ManualClock

KEY = "sk-proj-5up3r53cr3tk3y0fth3t35t"


class Ask(Protocol):
    def __call__(self, server: FaultServer, *params: Any, **named: Any) -> Coroutine[Any, Any, str]: ...


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def connect(clock: ManualClock) -> AsyncIterator[Callable[..., Gpt]]:
    """Return a maker of the `gpt` type for the server; what it opens is closed after the test."""
    made: list[Gpt] = []

    def connect(server: FaultServer, **settings: Any) -> Gpt:
        fields: dict[str, Any] = {"api_key": SecretStr(KEY), "base_url": server.url, "timeout": timedelta(seconds=20)}
        fields |= settings
        made.append(Gpt(GptSettings(**fields), clock))
        return made[-1]

    yield connect
    for gpt in made:
        await gpt.aclose()


@pytest.fixture
def ask(connect: Callable[..., Gpt], recorder: Recorder) -> Ask:
    """Return a way to run one task against the server; a server keeps its Gpt."""
    known: dict[str, Gpt] = {}

    async def ask(server: FaultServer, *params: Any, **named: Any) -> str:
        if server.url not in known:
            known[server.url] = connect(server)
        gpt = known[server.url]
        return await gpt.function(recorder.context, *(params or ("Once upon a time",)), **named)

    return ask


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Return what the server logs at its most talkative."""
    names = ["", "asyncio", "httpcore2", "httpx2", "openai"]
    before = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    stream = StringIO()
    configure_logs("debug", "json", stream)
    yield stream
    logging.captureWarnings(False)
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)
