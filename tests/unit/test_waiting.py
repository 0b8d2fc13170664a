"""What a pending task waits for, and about when it starts: by table."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import Raw, structs

from tasker.model import Status, Task
from tasker.model.history import History
from tasker.model.queues import MOST_BEFORE, Place, QueueSettings, QueueState, Rate
from tasker.model.tasks import Asked, ChildCounts
from tasker.rules.waiting import Situation, ask_again_in, describe, estimate
from tasker.testing import START, make_draft

SECOND = timedelta(seconds=1)
RATE = Rate(limit=600, per=60 * SECOND, burst=10)


def task(reason: str | None = "queued", **fields: Any) -> Task:
    draft = make_draft()
    plain = Task(
        task_id=draft.task_id, type="sum", params=Raw(b"[]"), status=Status.PENDING, reason=reason, queue="q",
        priority=0, result=None, error=None, progress=None, attempt=0, tries_left=1, created_at=START, run_at=None,
        started_at=None, finished_at=None, next_attempt_at=None, expires_at=None, cancel_requested_at=None,
        usage=Raw(b"{}"), tags=[], metadata=Raw(b"{}"),
    )  # fmt: skip
    return structs.replace(plain, **fields)


def state(*, running: int = 0, tokens: float = 10, **settings: Any) -> QueueState:
    return QueueState(settings=QueueSettings(name="q", **settings), running=running, tokens=tokens)


LATER = START + 41 * SECOND
ASKED = Asked(name="approve", message="Ship 17?", schema=Raw(b"{}"), asked_at=START)


@pytest.mark.parametrize(
    ("given", "situation", "reason", "words"),
    [
        (task("scheduled", run_at=LATER), {}, "scheduled", "starts in 41 s"),
        (task("retrying", next_attempt_at=LATER, attempt=1), {}, "retrying", "retry in 41 s"),
        (task("retrying", next_attempt_at=START + timedelta(hours=5), attempt=1), {}, "retrying", "retry in 5 h"),
        (task("snoozed", next_attempt_at=LATER, attempt=1), {}, "snoozed", "snoozed, goes on in 41 s"),
        (task("dependencies"), {}, "dependencies", "tasks that it depends on"),
        (task("budget_exhausted"), {}, "budget_exhausted", "budget of the day used up"),
        (task("sleeping", next_attempt_at=LATER), {}, "sleeping", "sleeps, goes on in 41 s"),
        (task("sleeping", next_attempt_at=START), {}, "sleeping", "next in line"),
        (task("waiting_for_children"), {}, "waiting_for_children", "its children"),
        (
            task("waiting_for_children", children=ChildCounts(pending=1, completed=7)), {},
            "waiting_for_children", "1 of its children has not ended",
        ),
        (
            task("waiting_for_children", children=ChildCounts(pending=1900, running=2), next_attempt_at=LATER), {},
            "waiting_for_children", "1,902 of its children have not ended",
        ),
        (task("input_required"), {}, "input_required", "an answer"),
        (task("input_required", input=ASKED), {}, "input_required", "an answer to `approve`"),
        (
            task("input_required", input=structs.replace(ASKED, expires_at=LATER), next_attempt_at=LATER), {},
            "input_required", "an answer to `approve`, for 41 s more",
        ),
        (task("input_required", input=ASKED, next_attempt_at=START), {}, "input_required", "next in line"),
        (task("scheduled", run_at=LATER), {"state": state(paused=True)}, "scheduled", "starts in 41 s"),
        (task(), {"state": state(paused=True), "has_worker": False}, "paused", "queue paused"),
        (task(), {"has_worker": False}, "queued", "no worker has this type"),
        (task(), {"state": state(concurrency=3, running=3)}, "concurrency_limited", "3 of 3 slots busy"),
        (task(), {"state": state(concurrency=2, running=3)}, "concurrency_limited", "3 of 2 slots busy"),
        (
            task(), {"state": state(concurrency_per_key=1), "place": Place(before=0, key_running=1)},
            "concurrency_limited", "1 of 1 slots of its concurrency key busy",
        ),
        (
            task("concurrency_limited"), {"state": state(concurrency_per_key=2)},
            "concurrency_limited", "2 of 2 slots of its concurrency key busy",
        ),
        (
            task(), {"state": state(rate=RATE, tokens=3), "place": Place(before=0, weight=5)},
            "rate_limited", "rate of the queue used up: 600 in 60 s",
        ),
        (task(), {"state": state(rate=RATE), "place": Place(before=0, weight=5)}, "queued", "next in line"),
        (task(), {}, "queued", "next in line"),
        (task(), {"place": Place(before=1)}, "queued", "1 task is before it"),
        (task(), {"place": Place(before=12)}, "queued", "12 tasks are before it"),
        (task(), {"place": Place(before=1000)}, "queued", "1,000 tasks are before it"),
        (task(), {"place": Place(before=MOST_BEFORE)}, "queued", "more than 1,000 tasks are before it"),
    ],
)  # fmt: skip
def test_why_it_waits(given: Task, situation: dict[str, Any], reason: str, words: str) -> None:
    assert describe(given, Situation(**situation), START) == (reason, words)


@pytest.mark.parametrize(
    ("given", "situation", "seconds"),
    [
        (task("scheduled", run_at=LATER), {}, 41),
        (task("dependencies"), {}, None),
        (task("sleeping", next_attempt_at=LATER), {}, 41),
        (task("waiting_for_children", next_attempt_at=LATER), {}, None),
        (task("input_required", next_attempt_at=LATER), {}, None),
        (task(), {"place": Place(before=0)}, 0),
        (task(), {"place": Place(before=0), "has_worker": False}, None),
        (task(), {"place": Place(before=0), "state": state(paused=True)}, None),
        (task(), {"place": Place(before=5), "running": 3}, None),
        (task(), {"place": Place(before=5), "running": 3, "run_time": 10 * SECOND}, 20),
        (task(), {"place": Place(before=MOST_BEFORE), "running": 3, "run_time": SECOND}, None),
        (task(), {"place": Place(before=19, weight=5), "state": state(rate=RATE, tokens=4)}, 2),
    ],
)
def test_estimated_start(given: Task, situation: dict[str, Any], seconds: int | None) -> None:
    expected: datetime | None = None if seconds is None else START + seconds * SECOND
    assert estimate(given, Situation(**situation), START) == expected


RUNNING = {"status": Status.RUNNING, "reason": None}


@pytest.mark.parametrize(
    ("given", "run_time", "seconds"),
    [
        (task(), None, 1),
        (task(), 30, 30),
        (task(estimated_start_at=LATER), 30, 71),
        (task("scheduled", run_at=LATER), 30, 41),
        (task("dependencies"), None, 1),
        (task("sleeping", next_attempt_at=LATER), 30, 41),
        (task("waiting_for_children"), 30, 1),
        (task("waiting_for_children", next_attempt_at=LATER), 30, 1),
        (task("input_required"), 30, 60),
        (task("input_required", next_attempt_at=LATER), 30, 41),
        (task("input_required", next_attempt_at=START + 900 * SECOND), 30, 60),
        (task(**RUNNING, started_at=START - 10 * SECOND), 30, 20),
        (task(**RUNNING, started_at=START - 100 * SECOND), 30, 10),
        (task(**RUNNING, started_at=START - 9000 * SECOND), 30, 60),
        (task(**RUNNING, started_at=START), None, 1),
    ],
)
def test_when_to_ask_again(given: Task, run_time: int | None, seconds: int) -> None:
    assert ask_again_in(given, None if run_time is None else run_time * SECOND, START) == seconds * SECOND


def test_history_is_a_moving_average() -> None:
    history = History()
    assert history.run_time("gpt") is None
    history.note("gpt", 10 * SECOND)
    assert history.run_time("gpt") == 10 * SECOND
    for _ in range(100):
        history.note("gpt", 20 * SECOND)
    assert abs(history.run_time("gpt") - 20 * SECOND) < SECOND
    assert history.run_time("sum") is None
