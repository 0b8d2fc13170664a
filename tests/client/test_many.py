"""`batch` and `map`: many tasks, in both clients."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasker.client import (
    AsyncTasker,
    InvalidRequest,
    Mapped,
    SubmitOptions,
    TaskCancelled,
    Tasker,
    TaskFailed,
    Unavailable,
)
from tasker.client.core.effects import NOTHING, Close, Emit, Pull
from tasker.client.core.effects import Reply as EffectReply
from tasker.client.core.exchange import Exchange
from tasker.client.core.mapping import MapCalls
from tests import sample_tasks
from tests.client import shells
from tests.client.scripted import Reply, Script, play, problem
from tests.server import Server


@pytest.fixture(params=shells.SHELLS)
def client(request: pytest.FixtureRequest, service: Server) -> Iterator[Tasker]:
    with shells.connect(request.param, service.url) as client:
        yield client


def rows(count: int) -> Iterator[dict[str, Any]]:
    return ({"type": "sum", "params": [number, 1]} for number in range(count))


def test_each_row_of_a_batch_is_answered_in_order(client: Tasker) -> None:
    key = str(uuid4())
    bad = {"type": "sum", "params": [1, "x"]}
    first = list(client.batch([*rows(3), bad, *rows(1)], idempotency_key=key, chunk=2, group=f"g-{key}"))
    assert [(one.index, one.line, one.status) for one in first] == [
        (0, 1, 202), (1, 2, 202), (2, 3, 202), (3, 4, 422), (4, 5, 202),
    ]  # fmt: skip
    assert first[3].problem.errors[0].pointer == "/params/1"  # type: ignore[union-attr,index]
    assert client.groups.wait(f"g-{key}", 30).tasks.completed == 4
    again = list(client.batch([*rows(3), bad, *rows(1)], idempotency_key=key, chunk=2, group=f"g-{key}"))
    assert [one.task_id for one in again] == [one.task_id for one in first]
    assert again[0].replayed


def test_a_batch_is_checked_only(client: Tasker) -> None:
    bad = {"type": "sum", "params": [1]}
    assert [one.status for one in client.batch([*rows(1), bad], validate=True)] == [204, 422]


def test_a_batch_takes_rows_as_they_are_needed(client: Tasker) -> None:
    taken = itertools.count()
    answers = client.batch(({"type": "sum", "params": [next(taken), 1]} for _ in iter(int, 1)), chunk=3)
    assert [next(answers).index for _ in range(4)] == [0, 1, 2, 3]
    assert next(taken) == 6
    answers.close()  # type: ignore[attr-defined]


def _items(count: int, **summary: Any) -> str:
    items = [
        {"index": place, "line": place + 1, "status": 202, "task_id": str(UUID(int=place))} for place in range(count)
    ]
    return "".join(json.dumps(one) + "\n" for one in [*items, {"accepted": count, "refused": 0, **summary}])


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_a_batch_that_breaks_off_is_sent_again_under_its_key(shell: str) -> None:
    """What has been answered stays; the rest is not sent twice under two keys."""
    ending = problem("shutting-down", 503)
    replies = (Reply(200, _items(2)), Reply(0), Reply(200, _items(1, problem=ending)), Reply(200, _items(2)))
    with play(*replies) as script, _open(shell, script) as client:
        found = list(client.batch(rows(4), chunk=2))
    assert [one.index for one in found] == [0, 1, 2, 3]
    keys = [request.headers["Idempotency-Key"] for request in script.asked]
    assert keys[1] == keys[2] == keys[3] != keys[0]
    assert (
        script.asked[1].body
        == script.asked[3].body
        == b'{"type":"sum","params":[2,1]}\n{"type":"sum","params":[3,1]}\n'
    )
    assert {request.headers["Content-Type"] for request in script.asked} == {"application/jsonl"}


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_why_a_batch_ends_early_is_raised_after_what_is_stored(shell: str) -> None:
    reply = Reply(200, _items(1, problem=problem("shutting-down", 503)))
    with play(reply) as script, _open(shell, script, retries=1) as client:
        answers = client.batch(rows(2))
        assert next(answers).index == 0
        with pytest.raises(Unavailable, match="no"):
            next(answers)
    assert len(script.asked) == 2


def _open(shell: str, script: Script, **options: Any) -> Any:
    async def sleep(seconds: float) -> None:
        pass

    return shells.connect(shell, script.url, sleep=sleep if shell == "async" else lambda seconds: None, **options)


def results(found: Iterator[Mapped[Any]]) -> list[Any]:
    return [one.result() for one in sorted(found, key=lambda one: one.index)]


def test_each_row_is_a_task_of_its_own(client: Tasker) -> None:
    assert results(client.map("sum", [(number, 1) for number in range(7)], max_in_flight=3)) == [*range(1, 8)]
    assert results(client.map("sum", [{"a": 1, "b": 2}, (3, 4)])) == [3, 7]
    assert results(client.map(sample_tasks.echo, [1, "b", [3]])) == [1, "b", [3]]
    assert results(client.map(sample_tasks.echo.options(priority=3), [])) == []


def test_a_failure_is_raised_by_its_row_alone(client: Tasker) -> None:
    found = {one.row: one for one in client.map(sample_tasks.explode, ["a", "b", 3])}
    assert found[3].task_id is None
    with pytest.raises(InvalidRequest, match="/params/0"):
        found[3].result()
    for name in ("a", "b"):
        with pytest.raises(TaskFailed, match=f"ValueError: {name}"):
            found[name].result()
    tag = f"t-{uuid4().hex}"
    [later] = client.map("sum", [(1, 1)], options=SubmitOptions(tags=[tag]))
    assert [one.task_id for one in client.find_many(tag=tag)] == [later.task_id]


def test_rows_are_yielded_as_they_end(client: Tasker, tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    found = client.map(sample_tasks.wait_for_file, [str(file) for file in files])
    files[1].write_text("second")
    assert (one := next(found)).index == 1
    assert one.result() == "second"
    files[0].write_text("first")
    assert next(found).result() == "first"
    assert list(found) == []


def test_more_rows_are_taken_as_tasks_end(client: Tasker, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(4)]
    taken: list[str] = []
    found = client.map("wait_for_file", (taken.append(str(file)) or str(file) for file in files), max_in_flight=2)  # type: ignore[func-returns-value]
    files[0].write_text("x")
    assert next(found).index == 0
    assert taken == [str(file) for file in files[:2]]
    for file in files:
        file.write_text("x")
    assert {one.index for one in found} == {1, 2, 3}


def test_one_task_may_stand_for_several_rows(client: Tasker) -> None:
    once = SubmitOptions(cache=60)
    value = uuid4().hex
    first = list(client.map(sample_tasks.echo, [value, value], options=once))
    assert [one.result() for one in first] == [value, value]
    assert first[0].task_id == first[1].task_id
    [again] = client.map(sample_tasks.echo, [value], options=once)  # it has ended before it is asked for
    assert again.task_id == first[0].task_id


def test_a_cancelled_task_has_no_result_for_its_row(client: Tasker, tmp_path: Path) -> None:
    tag = f"t-{uuid4().hex}"
    (tmp_path / "first").write_text("x")
    files = [str(tmp_path / name) for name in ("first", "never")]
    found = client.map("wait_for_file", files, options=SubmitOptions(tags=[tag]))
    assert next(found).result() == "x"
    for task in client.find_many(tag=tag, status=["pending", "running"]):
        client.cancel(task.task_id)
    with pytest.raises(TaskCancelled):
        next(found).result()


def _event(sequence: int, task_id: str, status: str, *, whole: bool = True) -> str:
    task = {"task_id": task_id, "type": "sum", "status": status, "result": 6, "created_at": "2026-01-02T03:04:05Z"}
    event = {"task_id": task_id, "sequence": 3, "type": status, "time": "2026-01-02T03:04:05Z", "attempt": 1,
             "cursor": f"c{sequence}", **({"task": task} if whole else {})}  # fmt: skip
    return f"id: c{sequence}\nevent: {status}\ndata: {json.dumps(event)}\n\n"


def test_open_tasks_are_looked_at_when_nothing_is_heard_of_them() -> None:
    """By the core alone: pieces of a stream may come together, or an event in several."""
    ids = [str(UUID(int=place)) for place in range(2)]
    ended = {"type": "sum", "status": "completed", "result": 7, "created_at": "2026-01-02T03:04:05Z"}
    answers = [
        _reply({}), _reply(_items(2)), [b": the events", b""], [], [b": still here", b""],
        *(_reply({**ended, "task_id": one}) for one in ids),
    ]  # fmt: skip
    flow = MapCalls(Exchange("http://tasker")).map("sum", iter([(1, 2)] * 2), max_in_flight=5, options=None)
    answer, found = None, []
    while (effect := _next(flow, answer)) is not None:
        if isinstance(effect, Emit):
            found.append(effect.value.result())
        if isinstance(effect, Pull):
            answer = next(effect.source, NOTHING)
        else:
            answer = None if isinstance(effect, (Emit, Close)) else answers.pop(0)
    assert (found, answers) == ([7, 7], [])


def _next(flow: Any, answer: Any) -> Any:
    try:
        return flow.send(answer)
    except StopIteration:
        return None


def _reply(body: Any) -> EffectReply:
    text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return EffectReply(status=200, phrase="", url="http://tasker", headers={}, content=text, elapsed=0)


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_no_end_is_missed_when_the_stream_breaks(shell: str) -> None:
    """A stream that breaks before its first event has no place to go on from: the open tasks are looked at."""
    ids = [str(UUID(int=place)) for place in range(3)]
    task = {"task_id": ids[1], "type": "sum", "status": "completed", "result": 7, "created_at": "2026-01-02T03:04:05Z"}
    pending = {"type": "sum", "status": "pending", "created_at": "2026-01-02T03:04:05Z"}
    first, last = {**pending, "task_id": ids[0]}, {**pending, "task_id": ids[2]}
    replies = (
        Reply(200, ""),                                                      # the stream, which breaks
        Reply(200, _items(3)),
        Reply(200, ": the events\n\n: still here\n\n"),                      # the stream, again
        Reply(200, first), Reply(200, task), Reply(200, last),               # what is open is looked at
        Reply(200, _event(1, ids[0], "completed")),                          # the stream, a third time
        Reply(200, first), Reply(200, last),
        Reply(200, _event(2, ids[2], "completed", whole=False)),             # and a fourth
        Reply(200, last),
        Reply(200, {**task, "task_id": ids[2]}),                             # its event came without it
    )  # fmt: skip
    with play(*replies) as script, _open(shell, script) as client:
        found = {one.index: one.result() for one in client.map("sum", [(1, 2)] * 3)}
    assert found == {0: 6, 1: 7, 2: 7}
    streams = [request for request in script.asked if request.path.startswith("/events")]
    assert "event=completed%2Cfailed%2Ccancelled&tag=map-" in streams[0].path
    assert [request.headers["Last-Event-ID"] for request in streams] == [None, None, None, "c1"]


async def test_rows_may_come_asynchronously(service: Server) -> None:
    async def rows() -> AsyncIterator[tuple[int, int]]:
        for number in range(5):
            yield number, 1

    async def submissions() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "sum", "params": [1, 2]}

    async with AsyncTasker(service.url) as client:
        assert sorted([one.result() async for one in client.map("sum", rows(), max_in_flight=2)]) == [1, 2, 3, 4, 5]
        assert [one.status async for one in client.batch(submissions())] == [202]


def test_what_cannot_be_asked_for() -> None:
    with Tasker("http://127.0.0.1:9") as client:
        with pytest.raises(ValueError, match="max_in_flight must be"):
            list(client.map("sum", [], max_in_flight=0))
        with pytest.raises(ValueError, match="chunk must be"):
            list(client.batch([], chunk=0))
        with pytest.raises(ValueError, match="row 1 is not sent, for /params/0: it holds NaN"):
            list(client.batch([{"type": "sum", "params": [1]}, {"type": "sum", "params": [float("nan")]}]))
        with pytest.raises(TypeError, match="is no task: put @task on it"):
            list(client.map(str, ["a"]))  # type: ignore[call-overload]
