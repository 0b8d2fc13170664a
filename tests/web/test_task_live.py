"""The stream of a task's page: what was said comes once, and the rest when it changes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from html import unescape
from uuid import UUID

from tasker.model import Event
from tasker.model.keys import ANYBODY
from tasker.rules.lifecycle import Succeeded
from tasker.service.feed import HEARTBEAT
from tasker.web.frame import Frame
from tasker.web.sessions import Sessions
from tasker.web.task_live import TaskStream, gathered, stable
from tests.web.conftest import Web
from tests.web.stories import Story
from tests.web.test_live import listening
from tests.web.test_task import say

LIMIT = 20
_PARTIAL = re.compile(r'<hx-partial hx-target="#([^"]+)" hx-swap="([^"]+)">(.*?)</hx-partial>', re.DOTALL)


class Page:
    """What a browser makes of a stream."""

    def __init__(self) -> None:
        self.output = ""
        self.log: list[str] = []
        self.parts: dict[str, str] = {}
        self.last_id = 0

    def take(self, chunk: bytes) -> None:
        lines = [line for line in chunk.decode().split("\n") if line]
        data = "\n".join(line.removeprefix("data: ") for line in lines if line.startswith("data: "))
        for target, swap, html in _PARTIAL.findall(data):
            if target == "out":
                assert swap == "beforeend"
                self.output += unescape(re.sub("<[^>]+>", "", html))
            elif target == "log":
                assert swap == "beforeend"
                self.log += re.findall(r"<li.*?</li>", html)
            else:
                assert swap == "outerMorph"
                self.parts[target] = html
        for line in lines:
            if line.startswith("id: "):
                self.last_id = int(line.removeprefix("id: "))


def stream_of(web: Web, task_id: str, seen: str = "") -> TaskStream:
    rig = web.rig
    frame = Frame(Sessions(rig.service.keys, None, rig.clock), rig.clock, engine="SQLite")  # type: ignore[arg-type]
    return TaskStream(frame, rig.service, ANYBODY, UUID(task_id), base="../", level="all", seen=seen)


async def follow(page: Page, messages: AsyncGenerator[bytes, None], until: str) -> None:
    """Take messages until the output ends with a text."""
    async with asyncio.timeout(LIMIT):
        while not page.output.endswith(until):
            page.take(await anext(messages))


async def test_what_is_said_comes_once_over_an_interruption(web: Web) -> None:
    rig = web.rig
    task_id = await rig.submit()
    claim = await rig.driver.claim_one(types=("sum",))
    page, told = Page(), ""
    for number in range(4):  # the stream breaks off, and the browser comes back with the last id
        async with aclosing(stream_of(web, task_id).messages(page.last_id)) as messages:
            for part in range(30):
                text = f"<{number}.{part}>\n"
                told += text
                await say(rig, claim.lease, ("output", {"chunk": text}), ("log", {"level": "info", "message": text}))
            await follow(page, messages, until=text)
    assert page.output == told
    assert len(page.log) == 120
    assert 'data-status="running"' in page.parts["t-head"]


async def test_parts_come_when_they_change(web: Web) -> None:
    rig = web.rig
    task_id = await rig.submit()
    page = Page()
    async with aclosing(stream_of(web, task_id).messages(0)) as messages, asyncio.timeout(LIMIT):
        while "t-head" not in page.parts:
            page.take(await anext(messages))
        assert 'data-status="pending"' in page.parts.pop("t-head")
        assert "It waits" in page.parts["t-trouble"]
        claim = await rig.driver.claim_one(types=("sum",))
        while 'data-status="running"' not in page.parts.get("t-head", ""):
            page.take(await anext(messages))
        assert "It waits" not in page.parts["t-trouble"]
        page.parts.clear()
        await rig.driver.finish(claim, Succeeded(b"6"))
        while 'data-status="completed"' not in page.parts.get("t-head", ""):
            page.take(await anext(messages))
    assert "<bdi>6</bdi>" in page.parts["t-data"]


async def test_a_page_that_is_up_to_date_gets_nothing(web: Web) -> None:
    task_id = await web.rig.submit()
    await web.rig.finish()
    page = await web.get(f"/ui/task/{task_id}")
    live = re.search(r'hx-sse:connect="[^"]*\?after=(\d+)&amp;seen=([^"]+)"', page)
    assert live is not None
    messages = stream_of(web, task_id, live[2]).messages(int(live[1]))
    async with aclosing(messages), asyncio.timeout(LIMIT):
        assert (await anext(messages)).startswith(b":")
        coming = asyncio.ensure_future(anext(messages))
        done, _ = await asyncio.wait([coming], timeout=0.3)
        assert not done
        coming.cancel()
        await asyncio.wait([coming])


async def test_the_stream_of_another_owners_task_is_refused(web: Web) -> None:
    rig = web.rig
    key = await rig.key("submit", owner="me")
    task_id = (await rig.client.post("/task", json={"type": "sum", "params": [1, 2]}, headers=key)).json()["task_id"]
    await web.sign_in("read", owner="you")
    await web.get(f"/ui/task/{task_id}/live", 404)


async def test_last_event_id_takes_precedence_and_is_checked(web: Web) -> None:
    task_id = await web.rig.submit()
    claim = await web.rig.driver.claim_one(types=("sum",))
    await say(web.rig, claim.lease, ("output", {"chunk": "first"}))
    path = f"/ui/task/{task_id}/live?after=0"
    async with listening(web, path) as stream:
        last = re.findall(r"^id: (\d+)$", await stream.text_with("first"), re.MULTILINE)[-1]
    await say(web.rig, claim.lease, ("output", {"chunk": "second"}))
    async with listening(web, path, **{"last-event-id": last}) as stream:
        assert "first" not in await stream.text_with("second")
    reply = await web.client.get(f"/ui/task/{task_id}/live?after=1", headers={"last-event-id": "x"})
    assert reply.status_code == 422


def an_event(number: int, data: bytes = b"{}") -> Event:
    return Event(sequence=number, task_id=None, attempt=1, type="log", time=None, data=data)  # type: ignore[arg-type]


async def test_events_are_gathered() -> None:
    """Two messages are at least a pause apart; what comes meanwhile is in the second."""
    go_on = asyncio.Event()

    async def source() -> AsyncGenerator[list[Event], None]:
        yield [an_event(1)]
        yield [an_event(2)]
        yield [an_event(3)]
        await go_on.wait()
        yield []
        yield [an_event(4)]

    found: list[list[int]] = []
    async with asyncio.timeout(LIMIT):
        async for events in gathered(source(), lambda: 0.05):
            found.append([event.sequence for event in events])
            if len(found) == 2:
                go_on.set()
    assert found[0] == [1]
    assert [number for events in found for number in events] == [1, 2, 3, 4]
    assert [] in found


async def test_a_gathering_is_bounded() -> None:
    """What a task has said in megabytes comes in several messages, without a wait for the pause."""

    async def source() -> AsyncGenerator[list[Event], None]:
        for _ in range(20):
            yield [an_event(1, b" " * 16 * 1024)] * 25

    async with asyncio.timeout(LIMIT):
        sizes = [sum(len(event.data) for event in events) async for events in gathered(source(), lambda: 0.05)]
    assert max(sizes) <= 1024 * 1024
    assert sum(sizes) == 20 * 25 * 16 * 1024


async def test_a_gathering_that_is_left_ends_its_source() -> None:
    ended = []

    async def source() -> AsyncGenerator[list[Event], None]:
        try:
            while True:
                yield [an_event(1)]
                await asyncio.sleep(3600)
        finally:
            ended.append(True)

    async with aclosing(gathered(source(), lambda: 0)) as events:
        assert len(await anext(events)) == 1
    assert ended == [True]


async def test_steps_and_questions_come_as_they_happen(web: Web) -> None:
    story = await Story(web.rig.engine, web.rig.clock).begin()
    page = Page()
    async with aclosing(stream_of(web, str(story.task_id)).messages(0)) as messages, asyncio.timeout(LIMIT):
        while "t-head" not in page.parts:
            page.take(await anext(messages))
        await story.tell("step_started", name="charge", key="charge", kind="step")
        while "charge" not in page.parts["t-steps"]:
            page.take(await anext(messages))
        assert "runs" in page.parts["t-steps"]
        await story.step("charge", 7)
        while "done" not in page.parts["t-steps"]:
            page.take(await anext(messages))
        await story.ask("approve")
        await story.park()
        while "It asks" not in page.parts["t-asks"]:
            page.take(await anext(messages))
        asked = page.parts.pop("t-asks")
        assert 'action="../task/' in asked
        web.rig.clock.advance(timedelta(hours=1))
        await web.rig.service.steps.answer(ANYBODY, story.task_id, "approve", b'{"approved":true}')
        while "t-asks" not in page.parts:
            page.take(await anext(messages))
    assert "<form" not in page.parts["t-asks"]
    assert any("step charge is done" in line for line in page.log)
    assert any("approve was answered" in line for line in page.log)


async def test_time_alone_does_not_send_a_form_again(web: Web) -> None:
    """What is typed into it, and what was refused, stays."""
    story = await Story(web.rig.engine, web.rig.clock).begin()
    await story.ask("approve", seconds=90_000)
    page = Page()
    async with aclosing(stream_of(web, str(story.task_id)).messages(0)) as messages, asyncio.timeout(LIMIT):
        while "t-asks" not in page.parts:
            page.take(await anext(messages))
        page.parts.clear()
        web.rig.clock.advance(timedelta(seconds=20))
        await story.step("meanwhile")
        while "t-steps" not in page.parts:
            page.take(await anext(messages))
    assert "t-asks" not in page.parts


async def test_children_are_counted_though_their_ends_are_no_events_of_the_parent(web: Web) -> None:
    story = await Story(web.rig.engine, web.rig.clock).begin()
    await story.children("render", [1, 2, 3])
    await story.park()
    page = Page()
    async with aclosing(stream_of(web, str(story.task_id)).messages(0)) as messages, asyncio.timeout(LIMIT):
        while "3 pending" not in page.parts.get("t-children", ""):
            page.take(await anext(messages))
        for number in (1, 2):  # with the first come the events from before the stream
            await story.run_children(Succeeded(b"1"))
            async with asyncio.timeout(HEARTBEAT / 2):
                while f"{number} completed" not in page.parts["t-children"]:
                    page.take(await anext(messages))
        assert "1 of its 3 children" in page.parts["t-trouble"]


def test_relative_times_do_not_make_a_part_another() -> None:
    one = '<p>asked <time datetime="x" title="y">3 s ago</time>, <b>now</b></p>'
    assert stable(one) == stable(one.replace("3 s ago", "1 h ago"))
    assert stable(one) != stable(one.replace("now", "later"))
    assert stable(one) != stable(one.replace('"x"', '"z"'))
