"""The client against a real service."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasker.client import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    SubmitOptions,
    TaskCancelled,
    Tasker,
    TaskFailed,
    WaitTimeout,
)
from tests.server import Server, run_server

LATER = SubmitOptions(delay=3600)
TOKEN = "a-token-for-this-test"


@pytest.fixture
def client(service: Server) -> Iterator[Tasker]:
    with Tasker(service.url) as client:
        yield client


def test_run_returns_the_result(client: Tasker) -> None:
    assert client.run("sum", 4, 2) == 6
    assert client.run("reverse", text="Hello Seemplicity") == "yticilpmeeS olleH"


@pytest.mark.parametrize("value", [None, "", "é\U0001f468\u200d\U0001f469", 10**30, [1, -1], {"a": 1}])
def test_values_come_back_as_they_went(value: object, client: Tasker) -> None:
    assert client.run("echo", value) == value


def test_a_handle_follows_its_task(client: Tasker, tmp_path: Path) -> None:
    file = tmp_path / "content"
    handle = client.submit("wait_for_file", str(file))
    with pytest.raises(WaitTimeout) as caught:
        handle.wait(0)
    assert caught.value.task_id == handle.task_id
    assert not handle.status().is_terminal
    file.write_text("here")
    assert handle.result(timeout=30) == "here"
    assert handle.get().result == "here"
    assert handle.status() == "completed"


def test_a_handle_yields_its_tasks_events(client: Tasker) -> None:
    handle = client.submit("sum", 4, 2)
    events = [*handle.events()]
    assert [(event.sequence, event.type) for event in events] == [(1, "created"), (2, "started"), (3, "completed")]
    assert events[-1].task is not None
    assert events[-1].task.result == 6
    assert [*handle.events(after=3)] == []


def test_a_failure_has_type_message_and_traceback(client: Tasker, service: Server) -> None:
    with pytest.raises(TaskFailed, match="ValueError: no good") as caught:
        client.run("explode", "no good")
    error = caught.value
    assert (error.type, error.message, error.attempt) == ("ValueError", "no good", 1)
    assert error.url == f"{service.url}/task/{error.task_id}"
    assert error.traceback is not None
    assert "sample_tasks.py" in error.traceback


def test_a_task_that_fails_itself_has_its_problem_as_type(client: Tasker) -> None:
    with pytest.raises(TaskFailed) as caught:
        client.run("fail", "as it says")
    assert (caught.value.type, caught.value.message) == ("task-failed", "as it says")


def test_a_cancelled_task_has_no_result(client: Tasker) -> None:
    handle = client.submit("sum", 4, 2, options=LATER)
    assert handle.cancel().status == "cancelled"
    with pytest.raises(TaskCancelled):
        handle.result()
    with pytest.raises(Conflict):
        handle.cancel()


def test_every_fault_of_the_params_is_raised(client: Tasker) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.submit("sum", "a", None)
    assert [fault.pointer for fault in caught.value.faults] == ["/params/0", "/params/1"]


def test_what_is_not_there(client: Tasker) -> None:
    with pytest.raises(NotFound):
        client.get("01a20cbf-4de7-7f49-82b5-e8e26ef64288")
    with pytest.raises(InvalidRequest, match="no such task type"):
        client.submit("no_such_type")


def test_one_key_makes_one_task(client: Tasker) -> None:
    options = SubmitOptions(idempotency_key="client-test-key")
    first = client.submit("sum", 4, 2, options=options)
    assert client.submit("sum", 4, 2, options=options).task_id == first.task_id
    with pytest.raises(InvalidRequest):
        client.submit("sum", 4, 3, options=options)


def test_lists_and_attempts(client: Tasker) -> None:
    options = SubmitOptions(tags=["listed"], metadata={"by": "test"})
    handles = [client.submit("sum", 1, number, options=options) for number in range(3)]
    for handle in handles:
        handle.wait(timeout=30)
    listed = list(client.find_many(tag="listed", status="completed", type="sum", queue="default"))
    assert [task.task_id for task in listed] == [handle.task_id for handle in reversed(handles)]
    assert len(list(client.find_many(tag="listed", limit=2))) == 2
    task = client.get(handles[0].task_id, attempts=True)
    assert task.attempts is not None
    assert [attempt.ending for attempt in task.attempts] == ["succeeded"]
    assert (task.tags, task.metadata) == (("listed",), {"by": "test"})


def test_the_token_opens_the_service(tmp_path: Path) -> None:
    with run_server(tmp_path, env={"TASKER_TOKEN": TOKEN}) as server:
        with Tasker(server.url) as stranger, pytest.raises(NotAllowed):
            stranger.run("sum", 4, 2)
        with Tasker(server.url, TOKEN) as client:
            assert client.run("sum", 4, 2) == 6
        assert TOKEN not in server.text()


def test_the_public_name_is_imported_when_it_is_used() -> None:
    program = "import sys, tasker; assert 'httpx2' not in sys.modules; tasker.Tasker; assert 'httpx2' in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_everything_is_followed(client: Tasker) -> None:
    first = client.submit("sum", 4, 2)
    first.wait()
    events = client.follow(after="oldest", event=["created", "completed"], type="sum")
    mine = [event for event in itertools.islice(events, 2) if event.task_id == first.task_id]  # type: ignore[union-attr]
    known = mine[-1].cursor if mine else None
    second = client.submit("sum", 4, 3)
    second.wait()
    for event in client.follow(after=known or "oldest", event=["completed"]):
        if event.task_id == second.task_id:  # type: ignore[union-attr]
            assert event.task.result == 7  # type: ignore[union-attr]
            break
