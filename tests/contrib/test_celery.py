"""The application of docs/celery.md, one of whose tasks has moved, and the service that runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from billiard.exceptions import TimeLimitExceeded
from celery.exceptions import MaxRetriesExceededError, TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError

from tasker.client import InvalidRequest, NotFound
from tasker.contrib.celery import App, AsyncResult, Signature, chain, chord, group, shared_task, signature
from tests.contrib.pages import write_files
from tests.server import Server, clean_environment, run_server

MORE = """
import time
from datetime import date

from celery.exceptions import Ignore

from tasker.contrib.celery import shared_task


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)


@shared_task
def add(x, y=0):
    return x + y


@shared_task
def fail(kind: str) -> None:
    raise {"value": ValueError("no"), "odd": Odd(1, 2)}[kind]


@shared_task(bind=True, default_retry_delay=0, max_retries=2)
def again(self, times: int) -> int:
    if self.request.retries < times:
        raise self.retry(exc=LookupError("again"))
    return self.request.retries


@shared_task(
    autoretry_for=(ConnectionError,), dont_autoretry_for=(ConnectionResetError,), default_retry_delay=0, max_retries=1
)
def connect(kind: str) -> None:
    raise {"refused": ConnectionRefusedError, "reset": ConnectionResetError}[kind]("no")


@shared_task(bind=True, time_limit=60)
def hang(self) -> None:
    self.update_state(meta={"current": 1, "total": 4, "status": "first"})
    while not self.context.cancelled:
        time.sleep(0.01)
    raise RuntimeError("stopped")


@shared_task(bind=True)
def anything(self, *args, **kwargs):
    return [list(args), kwargs, self.request.id, self.name]


@shared_task
def ignored(day: date) -> None:
    assert day == date(2026, 11, 30)
    raise Ignore()
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A service with the moved task and those of MORE, and the folder of their modules, which this process imports."""
    folder = tmp_path_factory.mktemp("application")
    write_files("celery.md", folder)
    (folder / "shop_more.py").write_text(MORE)
    with run_server(folder, "shop.mail", "shop_more") as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKER_URL", server.url)
        patch.delenv("TASKER_TOKEN", raising=False)
        patch.syspath_prepend(folder)
        yield server, folder


@pytest.fixture
def more(served: Any) -> Any:
    import shop_more

    return shop_more


def test_a_task_of_celery_calls_the_one_that_has_moved(served: Any) -> None:
    from shop.mail import send
    from shop.reports import app, report

    app.conf.task_always_eager = True
    task_id = report.delay("ada").get()

    result = send.AsyncResult(task_id)
    assert result.get(timeout=60) == "Your report, ada (try 1)"
    assert (result.state, result.ready(), result.successful(), result.failed()) == ("SUCCESS", True, True, False)
    assert (result.name, result.traceback, result.queue, result.retries) == ("shop.mail.send", None, "default", 0)
    assert result.date_done > datetime.now(UTC) - timedelta(minutes=5)
    assert result == send.AsyncResult(task_id)
    assert str(result) == task_id


def test_the_example_of_the_page_runs(served: Any) -> None:
    server, folder = served
    done = subprocess.run(
        [sys.executable, "call.py"],
        cwd=folder,
        env=clean_environment(TASKER_URL=server.url),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Hello, ada@example.org (try 1)\nPENDING\n", "")


def test_arguments_reach_the_function_in_every_way(more: Any) -> None:
    assert more.add.delay(1, 2).get(60) == 3
    assert more.add.delay(1, y=2).get(60) == 3
    assert more.add.apply_async(kwargs={"x": 1}).get(60) == 1
    args, kwargs, task_id, name = (result := more.anything.delay(1, [2], three=None)).get(60)
    assert (args, kwargs, task_id, name) == ([1, [2]], {"three": None}, result.id, "shop_more.anything")
    with pytest.raises(TypeError, match="x"):
        more.add.delay()
    with pytest.raises(InvalidRequest):
        more.fail.delay(7)
    assert more.ignored.delay("2026-11-30").get(60) is None


def test_the_function_is_still_one(more: Any) -> None:
    assert more.add(1, y=2) == 3
    assert more.anything(1)[:2] == [[1], {}]
    with pytest.raises(LookupError, match="again"):
        more.again(1)


def test_get_raises_what_the_task_raised(more: Any) -> None:
    failed = more.fail.delay("value")
    with pytest.raises(ValueError, match=r"^no$"):
        failed.get(60)
    assert (failed.state, failed.failed(), type(failed.result)) == ("FAILURE", True, ValueError)
    assert failed.traceback.endswith("ValueError: no\n")
    assert isinstance(failed.get(propagate=False), ValueError)
    odd = more.fail.delay("odd").get(60, propagate=False)
    assert (type(odd).__name__, type(odd).__module__, str(odd)) == ("Odd", "shop_more", "(1, 2)")


def test_a_task_asks_to_be_run_again(more: Any) -> None:
    result = more.again.delay(2)
    assert result.get(60) == 2
    assert result.retries == 2
    with pytest.raises(LookupError, match="again"):
        more.again.delay(3).get(60)


def test_exceptions_run_a_task_again_by_themselves(more: Any) -> None:
    result = more.connect.delay("refused")
    with pytest.raises(ConnectionRefusedError):
        result.get(60)
    assert result.retries == 1
    result = more.connect.delay("reset")
    with pytest.raises(ConnectionResetError):
        result.get(60)
    assert result.retries == 0


def test_options_reach_the_service(more: Any, served: Any) -> None:
    client = App(served[0].url).client
    now = datetime.now(UTC)
    task_id = str(uuid4())
    result = more.add.apply_async(
        (1,),
        task_id=task_id,
        eta=now.replace(tzinfo=None) + timedelta(hours=1),
        expires=7200,
        queue="slow",
        priority=-7,
    )
    task = client.get(task_id)
    assert (task.run_at, task.queue, task.priority) == (now + timedelta(hours=1), "slow", -7)
    assert abs(task.deadline - now - timedelta(hours=2)) < timedelta(minutes=1)
    assert (result.id, result.state, result.result, result.get.__name__) == (task_id, "PENDING", None, "get")
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=0)
    result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(60)
    assert (result.state, result.failed()) == ("REVOKED", False)
    result.revoke()
    with pytest.raises(ValueError, match="task_id: expected a UUID, got 'my own'"):
        more.add.apply_async((1,), task_id="my own")
    sent = App(served[0].url).send_task("shop_more.add", [1, 2], countdown=0)
    assert sent.get(60) == 3
    sent.forget()
    assert sent.state == "PENDING"
    assert AsyncResult(sent.id).state == "PENDING"
    with pytest.raises(NotFound):
        AsyncResult(sent.id).get()


def test_a_running_task_shows_its_progress_and_is_stopped(more: Any, served: Any) -> None:
    client = App(served[0].url).client
    result = more.hang.delay()
    next(event for event in client.events(result.id) if event.type == "progress")
    assert result.state == "PROGRESS"
    assert result.info == {"current": 1, "total": 4, "status": "first"}
    result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(60)
    with pytest.raises(TimeLimitExceeded):
        more.hang.apply_async(time_limit=0.2).get(60)


def test_a_task_that_has_expired_counts_as_revoked(more: Any, served: Any) -> None:
    App(served[0].url).client.queues.pause("paused")
    result = more.add.apply_async((1,), queue="paused", expires=0.3)
    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(60)
    assert (result.state, result.failed(), result.retries) == ("REVOKED", False, 0)


def test_a_group_gives_its_results_in_order(more: Any, served: Any) -> None:
    results = group(more.add.s(n).clone((1,)) for n in range(3)).delay()
    assert results.get(60) == [1, 2, 3]
    assert (len(results), results.ready(), results.successful(), results.failed()) == (3, True, True, False)
    assert results.completed_count() == 3
    assert results[2].get() == 3
    assert App(served[0].url).client.groups.get(results.id).tasks.completed == 3
    assert signature("shop_more.add", [1]).set(priority=5).delay().get(60) == 1
    assert more.add.signature((2,), countdown=0).delay(3).get(60) == 5


@pytest.mark.parametrize(
    ("use", "way"),
    [
        (lambda add: add.apply_async(link=add.s()), "docs/steps.md"),
        (lambda add: add.apply_async(soft_time_limit=3), "time_limit"),
        (lambda add: add.apply_async(unheard_of=3), "docs/celery.md"),
        (lambda add: add.apply(), "as a function"),
        (lambda add: add.map([1]), "group"),
        (lambda add: add.s(1) | add.s(2), "docs/steps.md"),
        (lambda add: group(add.s(1)) | add.s(2), "docs/steps.md"),
        (lambda add: chain(add.s(1)), "docs/steps.md"),
        (lambda add: chord([add.s(1)]), "docs/steps.md"),
        (lambda add: add.AsyncResult(str(uuid4())).then(print), "webhook"),
        (lambda add: shared_task(rate_limit="10/m")(_nothing), "queue"),
        (lambda add: shared_task(_async), "async def"),
        (lambda add: add.retry(args=(1,)), "new task"),
        (lambda add: add.update_state(meta={"mine": 1}), "context"),
    ],
)  # fmt: skip
def test_what_does_not_work_names_the_way(more: Any, use: Any, way: str) -> None:
    with pytest.raises(NotImplementedError, match=way):
        use(more.add)


def _nothing() -> None: ...


async def _async() -> None: ...


def test_without_the_exception_retries_end_with_celerys(more: Any) -> None:
    with pytest.raises(MaxRetriesExceededError):
        more.again.retry()


def test_a_file_that_is_served_by_its_path_is_refused(tmp_path: Path) -> None:
    from tasker.tasktypes.registry import Registry, load

    (tmp_path / "jobs.py").write_text("from tasker.contrib.celery import shared_task\n\n@shared_task\ndef f(): ...\n")
    registry = Registry()
    load(registry, [str(tmp_path / "jobs.py")])
    assert "by its name" in registry.faults[0].detail


def test_a_signature_is_a_value(more: Any) -> None:
    call = more.add.s(1)
    assert isinstance(call, Signature)
    assert call.clone(priority=3) != call
    assert call.clone() == more.add.s(1)
