"""Typed calls and handles, in both clients, against a real service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tasker import task
from tasker.client import (
    AsyncTasker,
    Conflict,
    InvalidRequest,
    NotFound,
    SubmitOptions,
    TaskCancelled,
    Tasker,
    TaskFailed,
    UnexpectedReply,
    WaitTimeout,
)
from tasker.client.core.waiting import _Waiting
from tests.client import shells, typed_tasks
from tests.client.typed_tasks import Size, measure, sign
from tests.server import Server, run_server


@task(name="measure")
async def narrow(name: str) -> int:
    """The same task type as a program sees it that expects another result."""
    raise NotImplementedError


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("own"), typed_tasks.__file__) as server:
        yield server


@pytest.fixture(params=shells.SHELLS)
def client(request: pytest.FixtureRequest, own: Server) -> Iterator[Tasker]:
    with shells.connect(request.param, own.url) as client:
        yield client


def test_a_task_is_called_like_its_function(client: Tasker) -> None:
    assert client.run(measure, "a") == Size(3, "a")
    assert client.run(measure, "a", width=4) == Size(4, "a")
    assert client.run(measure.options(tags=["b"]), name="a") == Size(3, "a")
    assert client.run("measure", "a") == {"width": 3, "name": "a"}
    handle = client.submit(measure.options(tags=["b"], priority=1), "a", options=SubmitOptions(priority=2))
    assert (handle.get().tags, handle.get().priority) == (("b",), 2)
    assert handle.result(30) == Size(3, "a")
    assert client.handle_of(handle.task_id, measure).result() == Size(3, "a")
    assert client.handle_of(str(handle.task_id)).result() == {"width": 3, "name": "a"}


def test_a_result_that_does_not_fit_the_function_is_told(client: Tasker) -> None:
    with pytest.raises(UnexpectedReply, match=r"/task/.*the result does not fit the function here: .*int"):
        client.run(narrow, "a")


def test_output_and_log_are_read_as_they_come(client: Tasker) -> None:
    handle = client.submit(measure, "a")
    assert [*handle.output()] == ["one line\u2028of two\n", "done"]
    assert [(entry.level, entry.message) for entry in handle.logs()] == [
        ("debug", "measuring"),
        ("warning", "measured"),
    ]
    assert [entry.fields for entry in handle.logs(follow=True)] == [{"width": 3}, {}]
    assert [entry.message for entry in handle.logs(level="info")] == ["measured"]
    assert [entry.message for entry in handle.logs(level="info", follow=True)] == ["measured"]
    assert [entry.message for entry in handle.logs(tail=1, follow=True)] == ["measured"]
    assert [*handle.logs(tail=0)] == []


def test_a_task_is_replayed_with_other_params(client: Tasker) -> None:
    handle = client.submit(measure, "a")
    assert handle.replay(width=9).result(30) == Size(9, "a")
    assert handle.replay(name="b", options=SubmitOptions(tags=["c"])).get().tags == ("c",)
    assert handle.replay().result(30) == Size(3, "a")
    assert client.submit(measure, "a", width=5).replay(name="b").result(30) == Size(5, "b")


def test_a_secret_is_not_replayed_as_its_mask(client: Tasker) -> None:
    handle = client.submit(sign, "hush", times=2)
    with pytest.raises(InvalidRequest, match=r"/params/token: .* stands for a secret"):
        handle.replay(times=3)
    assert handle.replay(token="longer", times=3).result(30) == 18


def test_a_handle_ends_its_task(client: Tasker) -> None:
    handle = client.submit(measure.options(delay=3600), "a")
    assert handle.url == client.url_of(handle.task_id)
    with pytest.raises(WaitTimeout):
        handle.result(0)
    with pytest.raises(Conflict):
        handle.delete()
    handle.cancel()
    with pytest.raises(TaskCancelled):
        handle.result(30)
    handle.retry()
    assert handle.result(30) == Size(3, "a")
    handle.delete()
    with pytest.raises(NotFound):
        handle.get()


def test_replies_are_shown_raw(client: Tasker) -> None:
    raw = client.with_raw_response
    submitted = raw.submit(measure, "a")
    assert submitted.status == 202
    assert submitted.request_id == submitted.headers["request-id"]
    handle = submitted.parse()
    assert raw.run(measure, "a").parse() == Size(3, "a")
    assert raw.get(handle.task_id).parse().task_id == handle.task_id
    assert raw.wait(handle.task_id, 30).content.startswith(b'{"task_id":')
    assert raw.result(handle.task_id).parse() == {"width": 3, "name": "a"}
    assert raw.delete(handle.task_id).status == 204


def test_options_hold_for_one_client_alone(client: Tasker) -> None:
    other = client.with_options(timeout=5, retries=0)
    assert other.run(measure, "a") == Size(3, "a")
    assert other.groups is not client.groups


def test_statistics(client: Tasker) -> None:
    client.run(measure, "a")
    assert client.stats(window="1h", group="type").open.running == 0


async def test_awaiting_and_following_a_handle(own: Server) -> None:
    async with AsyncTasker(own.url) as client:
        handle = await client.submit(measure, "a")
        types = [event.type async for event in handle]
        assert (types[0], types[-1], types.count("output")) == ("created", "completed", 2)
        assert await handle == Size(3, "a")
        found = await asyncio.gather(*(client.run(measure, str(number)) for number in range(20)))
        assert [size.name for size in found] == [str(number) for number in range(20)]


async def test_a_task_goes_on_when_its_wait_is_cancelled(service: Server, tmp_path: Path) -> None:
    file = tmp_path / "content"
    async with AsyncTasker(service.url) as client:
        running = asyncio.create_task(client.run("wait_for_file", str(file)))
        async for event in client.follow(after="oldest", event=["started"], type="wait_for_file"):
            task = await client.get(event.task_id)  # type: ignore[union-attr]
            if task.params == [str(file)]:
                break
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        file.write_text("here")
        assert await client.result(task.task_id, 30) == "here"


async def test_a_failure_is_awaited_as_an_exception(service: Server) -> None:
    async with AsyncTasker(service.url) as client:
        handle: Any = await client.submit("explode", "no good")
        with pytest.raises(TaskFailed, match="ValueError: no good") as caught:
            await handle
        assert (caught.value.attempt, caught.value.url) == (1, handle.url)


def test_a_stream_tells_of_the_end(service: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real service: what follows a poll that took long."""
    monkeypatch.setattr(_Waiting.__init__, "__defaults__", (timedelta(seconds=60), True, 0))
    paths: list[str] = []
    with Tasker(service.url) as client, Tasker(service.url) as other, ThreadPoolExecutor(1) as threads:
        handle = client.submit("wait_for_file", str(tmp_path / "content"))
        client._driver.http.event_hooks = {"request": [lambda request: paths.append(request.url.path)]}
        wait = threads.submit(handle.wait)
        for event in other.follow(after="oldest", event=["started"]):
            if event.task_id == handle.task_id:  # type: ignore[union-attr]
                break
        (tmp_path / "content").write_text("here")
        assert wait.result(30).result == "here"
    assert paths == ["/events", *[f"/task/{handle.task_id}"] * 2]


def test_threads_share_a_client(service: Server) -> None:
    with Tasker(service.url) as client, ThreadPoolExecutor(8) as threads:
        sums = threads.map(lambda number: client.run("sum", number, 1), range(40))
        texts = threads.map(lambda number: next(client.map("sum", [(number, 2)])).result(), range(8))
        assert list(sums) == [*range(1, 41)]
        assert list(texts) == [*range(2, 10)]
