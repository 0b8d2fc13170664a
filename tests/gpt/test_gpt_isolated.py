"""`gpt` alone in a child process, as after several ends of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import msgspec
import psutil
import pytest
from pydantic import SecretStr
from tests.gpt.conftest import KEY
from tests.gpt.fault_server import fault_server, refuses, says
from tests.gpt.recorder import Recorder

from tasker.builtin import builtin_registry
from tasker.config.prices import ModelPrice
from tasker.config.settings import SECRET_VARIABLES, GptSettings
from tasker.executor.attempt import Stop
from tasker.executor.executor import Executor
from tasker.model import Claim, Policy
from tasker.rules.lifecycle import Failed, Outcome, Succeeded
from tasker.testing import START


@asynccontextmanager
async def executor(settings: GptSettings) -> AsyncIterator[Executor]:
    executor = Executor(
        builtin_registry(settings), targets=(), processes=1, cancel_grace=timedelta(seconds=5), child_max_tasks=10,
        child_max_memory=None, max_result=1 << 20, gpt=settings, secrets=SECRET_VARIABLES,
    )  # fmt: skip
    await executor.open()
    yield executor
    await executor.close()


async def run(settings: GptSettings, recorder: Recorder) -> Outcome:
    claim = Claim(
        task_id=UUID(int=1), attempt=4, type="gpt", params=b'{"prompt": "Hi", "max_tokens": 8}', queue="llm",
        priority=0, policy=Policy(timeout=timedelta(seconds=60)), tries=0, crashes=0, interruptions=3,
        started_at=START, worker="w",
    )  # fmt: skip
    async with executor(settings) as alone:
        return await alone.run(claim, recorder, Stop(), isolate=True)


async def test_openai_from_a_child(recorder: Recorder) -> None:
    async with fault_server(says("Hello", " there")) as server:
        prices = {"*": ModelPrice(1000.0, 10_000.0)}
        settings = GptSettings(api_key=SecretStr(KEY), base_url=server.url, prices=prices)
        outcome = await run(settings, recorder)
    assert outcome == Succeeded(b'"Hello there"')
    assert recorder.used["cost"] == 0.037
    assert "".join(recorder.chunks) == "Hello there"
    assert recorder.used["input_tokens"] == 7
    assert server.exchanges[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_failure_from_a_child_keeps_its_problem(recorder: Recorder) -> None:
    async with fault_server(refuses(429, {"message": f"slow down, {KEY}"}, **{"Retry-After": "7"})) as server:
        outcome = await run(GptSettings(api_key=SecretStr(KEY), base_url=server.url), recorder)
    assert isinstance(outcome, Failed)
    assert (outcome.problem.type, outcome.problem.retryable) == ("/problems/gpt-unavailable", True)
    assert outcome.after == timedelta(seconds=7)
    assert KEY not in msgspec.json.encode(outcome).decode()


@pytest.mark.crash
async def test_the_local_model_from_a_child_ends_with_it(recorder: Recorder) -> None:
    outcome = await run(GptSettings(provider="local"), recorder)
    assert isinstance(outcome, Succeeded)
    assert msgspec.json.decode(outcome.result) == "".join(recorder.chunks) != ""
    assert recorder.used["provider"] == "local"
    names = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert not [name for name in names if "local_server" in name]
