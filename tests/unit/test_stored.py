"""StoredTask.has_become: whether a stored task is the one of an archive, by table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from tasker.model.archive import StoredAttempt, StoredEvent, StoredKey, StoredTask
from tasker.testing import START

ERROR = '{"type":"/problems/task-failed","title":"The task failed","detail":"no"}'
ATTEMPT = StoredAttempt(attempt=1, worker="w", started_at=START, finished_at=START, ending="failed", error=ERROR)
EVENTS = [
    StoredEvent(sequence=number, attempt=1, type=type, time=START, data="{}")
    for number, type in ((2, "started"), (3, "output"), (4, "retrying"), (6, "output"))
]
KEY = StoredKey(key="k", fingerprint=b"f", expires_at=START, reply="")
RUNNING = StoredTask(
    task_id=UUID("01a20cbf-4de7-7f49-82b5-e8e26ef64288"), type="sum", queue="default", status="running", reason=None,
    priority=0, created_at=START, run_at=None, due_at=START, attempt=2, tries=1, max_attempts=3, crashes=0,
    interruptions=0, worker="w", started_at=START, finished_at=None, ending=None, cancel_requested_at=None, sequence=4,
    policy="{}", tags=["a"], metadata="{}", usage="{}", progress=None, error=None, params="[1]", result=None,
    attempts=[ATTEMPT], events=EVENTS, keys=[KEY],
)  # fmt: skip
PENDING = structs.replace(RUNNING, status="pending", reason="queued", attempt=1, worker=None, started_at=None)
CANCELLED = structs.replace(PENDING, status="cancelled", reason=None, finished_at=START, cancel_requested_at=START)
FAILED = structs.replace(RUNNING, status="failed", finished_at=START, ending="failed", error=ERROR)
COMPLETED = structs.replace(RUNNING, status="completed", finished_at=START, ending="succeeded", result="1")
RETRIED = structs.replace(
    FAILED, status="pending", finished_at=None, ending=None, worker=None, started_at=None, sequence=8, error=None,
    attempts=[ATTEMPT, structs.replace(ATTEMPT, attempt=2)],
)  # fmt: skip
LATER = START + timedelta(seconds=1)


def changed(task: StoredTask, **fields: Any) -> StoredTask:
    return structs.replace(task, **fields)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PENDING, PENDING), (RUNNING, RUNNING), (COMPLETED, COMPLETED), (FAILED, FAILED), (CANCELLED, CANCELLED),
        (PENDING, RUNNING), (PENDING, CANCELLED), (PENDING, COMPLETED), (PENDING, changed(PENDING, due_at=LATER)),
        (RUNNING, COMPLETED), (RUNNING, FAILED), (RUNNING, RETRIED), (RUNNING, changed(RUNNING, progress="{}")),
        (FAILED, RETRIED), (CANCELLED, changed(PENDING, sequence=5)), (COMPLETED, changed(COMPLETED, keys=[])),
        (RUNNING, changed(RUNNING, events=[*EVENTS, structs.replace(EVENTS[0], sequence=7)])),
    ],
)  # fmt: skip
def test_a_task_can_become(before: StoredTask, after: StoredTask) -> None:
    assert before.has_become(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (RUNNING, PENDING), (COMPLETED, PENDING), (RETRIED, FAILED), (COMPLETED, RUNNING), (FAILED, COMPLETED),
        (COMPLETED, changed(COMPLETED, result="2")), (COMPLETED, changed(RETRIED, sequence=99)),
        (FAILED, changed(FAILED, error=ERROR.replace("no", "other"))),
        (CANCELLED, changed(CANCELLED, finished_at=LATER)),
        (RUNNING, changed(COMPLETED, attempts=[])), (RUNNING, changed(COMPLETED, events=EVENTS[:-1])),
        (RUNNING, changed(COMPLETED, attempts=[structs.replace(ATTEMPT, ending="crashed")])),
        (RUNNING, changed(COMPLETED, events=[structs.replace(event, data="[]") for event in EVENTS])),
        (changed(COMPLETED, keys=[]), COMPLETED),
    ],
)  # fmt: skip
def test_a_task_cannot_become(before: StoredTask, after: StoredTask) -> None:
    assert not before.has_become(after)


@pytest.mark.parametrize(
    "other",
    [
        {"task_id": UUID(int=1)}, {"type": "max"}, {"queue": "q"}, {"priority": 1}, {"created_at": LATER},
        {"run_at": LATER}, {"max_attempts": 4}, {"policy": '{"a":1}'}, {"tags": []}, {"metadata": '{"a":1}'},
        {"params": "[1.0]"},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_fields_of_the_submission_never_change(other: dict[str, Any]) -> None:
    assert not PENDING.has_become(changed(COMPLETED, **other))
