"""The kit of `tasker.testing.arun`, and clients over an application in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tasker.client import SubmitOptions
from tasker.client.errors import NotFound, TaskFailed
from tasker.config.settings import Settings
from tasker.testing import AsyncKit, StillOpen, arun, client
from tasker.wiring.app import open_app
from tests.testing import kit_tasks
from tests.testing.kit_tasks import boom, double


@pytest.fixture
async def t() -> AsyncIterator[AsyncKit]:
    async with arun(kit_tasks) as kit:
        yield kit


async def test_it_does_what_the_other_kit_does(t: AsyncKit) -> None:
    handle = await t.submit("welcome_async", "eve")
    assert [ran.type for ran in await t.drain()] == ["welcome_async"]
    with pytest.raises(StillOpen, match="is pending"):
        await handle
    ran = await t.advance(days=1)
    assert [one.type for one in ran] == ["welcome_async", "double", "double", "double", "welcome_async"]
    assert await handle == [2, 4, 6]
    await t.assert_submitted("double", 3, times=1)
    await t.assert_not_submitted("email")
    assert len(await t.submitted()) == 4


async def test_who_waits_lets_it_run(t: AsyncKit) -> None:
    assert await t.run(double, 4) == 8
    with pytest.raises(TaskFailed) as failed:
        await t.run(boom, "nowhere")
    assert isinstance(failed.value.__cause__, LookupError)
    assert await asyncio.gather(*(t.run("double", number) for number in range(5))) == [0, 2, 4, 6, 8]


async def test_events_of_a_task_are_followed_to_its_end(t: AsyncKit) -> None:
    handle = await t.submit(double, 1)
    assert [event.type async for event in handle.events()] == ["created", "started", "completed"]


async def test_gpt_and_failures_are_set(t: AsyncKit) -> None:
    t.gpt.reply("Hello there")
    t.fail_next("double", OSError("no"))
    assert await t.run("gpt", "hi") == "Hello there"
    with pytest.raises(TaskFailed, match="OSError: no"):
        await t.run("double", 1)


async def test_a_group_is_waited_for(t: AsyncKit) -> None:
    for number in range(3):
        await t.submit("double", number, options=SubmitOptions(group="numbers"))
    assert (await t.client.groups.wait("numbers")).tasks.completed == 3
    await t.submit("double", 1, options=SubmitOptions(group="later", delay=timedelta(hours=1)))
    with pytest.raises(StillOpen, match="the group later is open"):
        await t.client.groups.wait("later")


async def test_another_client_reaches_the_kit(t: AsyncKit) -> None:
    async with client(t) as other:
        assert await other.run("double", 2) == 4
        with pytest.raises(NotFound):
            await other.get("0197b7c8-0000-7000-8000-000000000000")


async def test_a_client_reaches_an_app_without_a_port(tmp_path: object) -> None:
    settings = Settings(data_dir=tmp_path, in_process=True)
    async with open_app(settings) as app, client(app) as tasker:
        handle = await tasker.submit("reverse", "abc")
        assert [event.type async for event in handle.events()][-1] == "completed"
        assert await handle == "cba"
