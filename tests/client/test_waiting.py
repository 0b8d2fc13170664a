"""How the client waits: polls, then a stream. Its core does no I/O, so that an hour takes no time here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tasker.client import NotAllowed, Task, Unreachable, WaitTimeout
from tasker.client.core.effects import Close, Open, Pause, ReadLines, Reply, Request
from tasker.client.core.exchange import Exchange
from tasker.client.core.tasks import TaskCalls
from tests.client.scripted import TASK_ID, problem, task

ENDED = [
    b'data: {"task_id":"%b","sequence":3,"type":"completed","time":"2026-01-02T03:04:05Z","attempt":1}'
    % TASK_ID.encode()
]
HEARTBEAT: list[bytes] = [b": still here", b""]


class World:
    """Answers to effects in turn, and the time that each takes. An answer may be an exception."""

    def __init__(self, *answers: tuple[float, Any]) -> None:
        self.answers = list(answers)
        self.time = 0.0
        self.asked: list[str] = []

    def wait(self, timeout: timedelta | float | None = None) -> Task:
        call = TaskCalls(Exchange("http://tasker", now=lambda: self.time)).wait(TASK_ID, timeout)
        go_on: Callable[[Any], Any] = call.send
        answer: Any = None
        while True:
            try:
                effect = go_on(answer)
            except StopIteration as end:
                assert self.answers == []
                found: Task = end.value
                return found
            answer = self._perform(effect)
            go_on = call.throw if isinstance(answer, Exception) else call.send

    def _perform(self, effect: Any) -> Any:
        if isinstance(effect, (Pause, Close)):
            self.time += effect.seconds if isinstance(effect, Pause) else 0
            return None
        self.asked.append(_describe(effect))
        took, answer = self.answers.pop(0)
        self.time += took
        return msgspec.structs.replace(answer, elapsed=took) if isinstance(answer, Reply) else answer


def _describe(effect: Request | Open | ReadLines) -> str:
    if isinstance(effect, ReadLines):
        return "read"
    if isinstance(effect, Open):
        return f"open {effect.request.target}"
    return f"poll {effect.headers.get('Prefer', 'at once')}"


def reply(status: int, body: Any) -> Reply:
    return Reply(
        status=status, phrase="", url="http://tasker", headers={}, content=msgspec.json.encode(body), elapsed=0
    )


OPEN, DONE, CUT = reply(200, task("running")), reply(200, task()), reply(504, {})
STREAM = f"open /events?task_id={TASK_ID}&event=completed%2Cfailed%2Ccancelled"


def test_a_stream_follows_a_poll_that_took_long() -> None:
    world = World((60, OPEN), (0, reply(200, {})), (0, OPEN), (15, HEARTBEAT), (15, HEARTBEAT), (1, ENDED), (0, DONE))
    assert world.wait().status == "completed"
    assert world.asked == ["poll wait=60", STREAM, "poll at once", "read", "read", "read", "poll wait=60"]


def test_a_task_that_ends_before_the_stream_begins_is_noticed() -> None:
    world = World((60, OPEN), (0, reply(200, {})), (0, DONE), (0, DONE))
    assert world.wait().status == "completed"


def test_a_stream_follows_a_poll_that_a_proxy_cut_off() -> None:
    world = World((30, CUT), (0, reply(200, {})), (0, OPEN), (15, HEARTBEAT), (3, ENDED), (0, DONE))
    assert world.wait().status == "completed"
    assert world.asked[:2] == ["poll wait=60", STREAM]


def test_a_stream_is_left_in_time_for_a_timeout() -> None:
    world = World((60, OPEN), (0, reply(200, {})), (0, OPEN), (15, HEARTBEAT), (15, HEARTBEAT), (52, OPEN))
    with pytest.raises(WaitTimeout):
        world.wait(142)
    assert world.asked[-1] == "poll wait=52"
    assert world.time == 142


def test_no_stream_begins_for_the_last_minute() -> None:
    world = World((60, OPEN), (10, OPEN))
    with pytest.raises(WaitTimeout):
        world.wait(70)
    assert world.asked == ["poll wait=60", "poll wait=10"]


def test_a_stream_that_breaks_is_followed_by_a_poll() -> None:
    world = World((60, OPEN), (0, reply(200, {})), (0, OPEN), (20, Unreachable("", "broken")), (5, DONE))
    assert world.wait().status == "completed"


def test_where_no_stream_is_allowed_polls_go_on() -> None:
    world = World((60, OPEN), (0, reply(403, problem("forbidden", 403))), (60, OPEN), (60, OPEN), (5, DONE))
    assert world.wait().status == "completed"
    assert world.asked.count(STREAM) == 1


def test_polls_that_are_cut_off_become_shorter() -> None:
    world = World((10, CUT), (0, reply(403, problem("forbidden", 403))), (8, OPEN), (5, DONE))
    assert world.wait().status == "completed"
    assert world.asked[2:] == ["poll wait=8", "poll wait=8"]


def test_a_stream_without_news_ends_after_some_minutes() -> None:
    hearts = [(15.0, HEARTBEAT)] * 20
    world = World((60, OPEN), (0, reply(200, {})), (0, OPEN), *hearts, (0, DONE))
    assert world.wait().status == "completed"


def test_a_service_that_stays_away_is_given_up_with_the_timeout() -> None:
    world = World(*[(1, Unreachable("", "away"))] * 3)
    with pytest.raises(Unreachable):
        world.wait(2.5)
    assert len(world.answers) < 2


def test_a_refusal_ends_the_wait() -> None:
    with pytest.raises(NotAllowed):
        World((0, reply(403, problem("forbidden", 403)))).wait()
