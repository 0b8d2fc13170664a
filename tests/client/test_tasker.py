"""The client against a real service."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasker.client import (
    Conflict,
    Handle,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Question,
    SubmitOptions,
    TaskCancelled,
    Tasker,
    TaskFailed,
    WaitTimeout,
)
from tests.client import shells
from tests.server import Server, run_server

LATER = SubmitOptions(delay=3600)
TOKEN = "a-token-for-this-test"


@pytest.fixture(params=shells.SHELLS)
def client(request: pytest.FixtureRequest, service: Server) -> Iterator[Tasker]:
    """Both clients have to do the same."""
    with shells.connect(request.param, service.url) as client:
        yield client


def test_run_returns_the_result(client: Tasker) -> None:
    assert client.run("sum", 4, 2) == 6
    assert client.run("reverse", text="Hello Seemplicity") == "yticilpmeeS olleH"


def test_a_task_under_an_id_of_ones_own_is_one_task(client: Tasker) -> None:
    task_id, submission = uuid4(), {"type": "sum", "params": [4, 2]}
    assert [client.put(task_id, submission, wait=True).result for _ in range(2)] == [6, 6]
    assert client.put(task_id, submission).attempt == 1
    with pytest.raises(Conflict):
        client.put(task_id, {"type": "sum", "params": [4, 3]})
    with pytest.raises(InvalidRequest):
        client.put(uuid4(), {"type": "sum", "params": ["four", 2]}, wait=True)
    assert client.get(task_id).result == 6


def test_a_task_that_was_put_is_waited_for(client: Tasker, tmp_path: Path) -> None:
    file, task_id = tmp_path / "content", uuid4()
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(client.put, task_id, {"type": "wait_for_file", "params": [str(file)]}, wait=True)
        file.write_text("here")
        assert ended.result(30).result == "here"


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
    options = SubmitOptions(idempotency_key=f"client-test-key-{uuid4()}")
    first = client.submit("sum", 4, 2, options=options)
    assert client.submit("sum", 4, 2, options=options).task_id == first.task_id
    with pytest.raises(InvalidRequest):
        client.submit("sum", 4, 3, options=options)


def test_lists_and_attempts(client: Tasker) -> None:
    tag = f"listed-{uuid4().hex}"
    options = SubmitOptions(tags=[tag], metadata={"by": "test"})
    handles = [client.submit("sum", 1, number, options=options) for number in range(3)]
    for handle in handles:
        handle.wait(timeout=30)
    listed = list(client.find_many(tag=tag, status="completed", type="sum", queue="default"))
    assert [task.task_id for task in listed] == [handle.task_id for handle in reversed(handles)]
    assert len(list(client.find_many(tag=tag, limit=2))) == 2
    task = client.get(handles[0].task_id, attempts=True)
    assert task.attempts is not None
    assert [attempt.ending for attempt in task.attempts] == ["succeeded"]
    assert (task.tags, task.metadata) == ((tag,), {"by": "test"})


def _until_asked(handle: Handle[Any], name: str, times: int = 1) -> Question | None:
    """Follow a task's events until it asks this, perhaps for the second time."""
    for event in handle.events():
        times -= event.type == "input_required" and event.name == name
        if times == 0:
            return handle.get().input
    raise AssertionError(f"it has ended and did not ask {name!r}")


def test_a_task_that_asks_is_answered(client: Tasker) -> None:
    handle = client.submit("order", 5)
    asked = _until_asked(handle, "approve")
    assert asked is not None
    assert (asked.name, asked.message, asked.expires_at) == ("approve", "Ship for 5?", None)
    for value, place in (("yes", "/value"), ({"ok": 1, "by": "ann"}, "/value/ok"), ({"ok": True}, "/value/by")):
        with pytest.raises(InvalidRequest, match=place):
            handle.input("approve", value)
    with pytest.raises(Conflict, match="does not ask 'word'"):
        handle.input("word", "fast")
    for _ in range(2):
        client.input(handle.task_id, "approve", {"ok": True, "by": "ann"}, asked_at=asked.asked_at)
    with pytest.raises(Conflict, match="answered already"):
        client.input(handle.task_id, "approve", {"ok": False, "by": "bob"}, asked_at=asked.asked_at)
    word = _until_asked(handle, "word")
    assert word is not None
    assert word.schema["enum"] == ["fast", "slow"]
    handle.input("word", "slow")
    assert handle.result(timeout=30) == ["receipt of 5", "ann", "slow"]
    assert [(step.key, step.kind, step.state) for step in handle.steps()] == [
        ("charge", "step", "completed"),
        ("echo", "children", "completed"),
        ("approve", "input", "completed"),
        ("word", "input", "completed"),
    ]
    whole = client.get(handle.task_id, steps=True, children=True, attempts=True)
    assert whole.steps is not None
    assert whole.steps[0].value == "receipt of 5"
    [child] = whole.child_tasks or ()
    assert (child.type, child.parent_id, child.root_id) == ("echo", handle.task_id, handle.task_id)
    assert [task.task_id for task in client.find_many(parent=handle.task_id)] == [child.task_id]
    types = [event.type for event in handle.events()]
    assert {"step_started", "step_completed", "input_required", "input_given"} < set(types)


def test_steps_are_kept_or_forgotten(client: Tasker) -> None:
    handle = client.submit("order", 5)
    _until_asked(handle, "approve")
    handle.input("approve", {"ok": False, "by": "bob"})
    _until_asked(handle, "word")
    handle.input("word", "fast")
    with pytest.raises(TaskFailed, match="refused by bob"):
        handle.result(timeout=30)
    options: dict[str, Any]
    for options in ({"forget": ["nope"]}, {"from_": "nope"}, {"from_": "word", "forget": ["word"]}):
        with pytest.raises(InvalidRequest):
            client.retry(handle.task_id, **options)
    replay = client.replay(handle.task_id, keep_steps=True)
    with pytest.raises(TaskFailed, match="refused by bob"):  # with the answer that was copied
        replay.result(timeout=30)
    assert client.retry(handle.task_id, from_="approve").task_id == handle.task_id
    _until_asked(handle, "approve", times=2)
    assert [step.key for step in handle.steps()] == ["charge", "echo", "approve"]
    with pytest.raises(Conflict, match=r"pending|running"):
        client.retry(handle.task_id)
    handle.cancel()


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
