"""The body of a message: the event, and the task as GET shows it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec import Raw, structs

from tasker.api.replies import encode_task
from tasker.model import Event, Progress, Status, Task, TaskProblem
from tasker.testing import START
from tasker.webhooks.payload import MAX_PAYLOAD, make_body

TASK_ID = UUID("0198f7a0-0000-7000-8000-000000000001")
TASK = Task(
    task_id=TASK_ID,
    type="sum",
    params=Raw(b"[4, 2]"),
    status=Status.COMPLETED,
    reason=None,
    queue="default",
    priority=0,
    result=Raw(b"6"),
    error=None,
    progress=None,
    attempt=1,
    tries_left=0,
    created_at=START,
    run_at=None,
    started_at=START,
    finished_at=START,
    next_attempt_at=None,
    expires_at=None,
    cancel_requested_at=None,
    usage=Raw(b"{}"),
    tags=["a"],
    metadata=Raw(b'{"b": 1}'),
)
EVENT = Event(
    sequence=3, task_id=TASK_ID, attempt=1, type="completed", time=START + timedelta(seconds=1), data=Raw(b"{}")
)


def render(task: Task) -> bytes:
    return encode_task(task, tracebacks=False)


def body(event: Event = EVENT, **changes: Any) -> dict[str, Any]:
    text = make_body(event, structs.replace(TASK, **changes), render)
    assert len(text) <= MAX_PAYLOAD
    return dict(json.loads(text))


def test_it_has_the_event_and_the_task() -> None:
    told = body()
    assert told == {
        "type": "task.completed",
        "timestamp": "2026-01-02T03:04:06.678901Z",
        "data": json.loads(render(TASK)),
        "event": {"sequence": 3, "attempt": 1, "data": {}},
    }
    assert told["data"]["result"] == 6


def test_it_has_the_data_of_the_event() -> None:
    told = body(structs.replace(EVENT, type="output", data=Raw(b'{"chunk":"Once"}')))
    assert (told["type"], told["event"]["data"]) == ("task.output", {"chunk": "Once"})


def test_it_has_no_traceback() -> None:
    error = TaskProblem(type="/problems/task-raised", title="t", detail="d", traceback="Traceback: secret")
    assert "secret" not in json.dumps(body(status=Status.FAILED, error=error))


def test_a_large_message_goes_without_params_and_result() -> None:
    told = body(result=Raw(b'"' + b"x" * MAX_PAYLOAD + b'"'))
    assert told["truncated"] is True
    assert "result" not in told["data"]
    assert "params" not in told["data"]
    assert told["data"]["metadata"] == {"b": 1}
    assert "truncated" not in body(result=Raw(b'"' + b"x" * (MAX_PAYLOAD // 2) + b'"'))


def test_it_never_exceeds_the_limit() -> None:
    told = body(structs.replace(EVENT, data=Raw(b'{"chunk":"' + b"x" * MAX_PAYLOAD + b'"}')))
    assert told["truncated"] is True
    assert told["data"]["status"] == "completed"
    assert told["event"] == {"sequence": 3, "attempt": 1, "data": {}}


WIDE = "x" * MAX_PAYLOAD


@pytest.mark.parametrize(
    ("name", "wide"),
    [
        ("params", Raw(f'"{WIDE}"'.encode())),
        ("result", Raw(f'"{WIDE}"'.encode())),
        ("metadata", Raw(f'{{"a":"{WIDE}"}}'.encode())),
        ("usage", Raw(f'{{"model":"{WIDE}"}}'.encode())),
        ("progress", Progress(message=WIDE)),
        ("error", TaskProblem(type="/problems/task-failed", title="t", detail=WIDE)),
        ("tags", [WIDE]),
    ],
)
def test_any_large_part_of_a_task_is_left_out(name: str, wide: Any) -> None:
    told = body(**{name: wide})
    assert told["truncated"] is True
    assert name not in told["data"]
    assert told["data"]["task_id"] == str(TASK_ID)
