"""The backend of Django's tasks, with the project of docs/django.md and a service that runs its tasks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.checks import run_checks
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone

from tasker.client import InvalidRequest, TaskCancelled
from tests.contrib.pages import write_files
from tests.server import Server, clean_environment, run_server

IS_OLD = django.VERSION < (6,)
OTHER_NAMES = {"django.tasks": "django_tasks", '"shop",': '"shop", "django_tasks",'} if IS_OLD else {}
TAKES_OPTIONS = not (6, 0) <= django.VERSION < (6, 1)
"""Whether Django's decorator passes on options of a backend."""
if not TAKES_OPTIONS:
    OTHER_NAMES = {"retry=5, timeout=60, ": ""}
MORE_TASKS = """
from __future__ import annotations

from asyncio import Event
from datetime import date
from typing import TYPE_CHECKING

from django.tasks import task

from tasker import Retry
from tasker import task as tasker_task
from tasker.contrib.celery import shared_task

if TYPE_CHECKING:
    from somewhere import Unknown


@task
def fail(text: str) -> None:
    raise LookupError(text)


@task
def fail_twice() -> None:
    raise SystemExit("no")


@task
async def hang() -> None:
    await Event().wait()


@task
def anything(*args, **kwargs):
    return [list(args), kwargs]


@task(takes_context=True)
async def describe(context, day: date):
    return [context.task_result.id, context.attempt, context.task_result.attempts, day.isoformat()]


@task
def unresolved(what: Unknown, default: "Unknown" = None):
    return [what, default]


@task
def returns_what_json_has_not():
    return {1, 2}


def not_a_task() -> None: ...


@task
def odd_annotation(what: type):
    return what


@task(takes_context=True)
def once_more(context):
    if context.attempt == 1:
        raise Retry(after=0)


@shared_task
def moved_from_celery(x):
    return x + 1


@tasker_task
def of_tasker(x: int) -> int:
    return x + 2


@task
def default_of_another_kind(unit: type = int):
    return unit.__name__
"""
SETTINGS = "from mysite.settings import *\n\nINSTALLED_APPS += ['more']\nDATABASES['default']['NAME'] = ':memory:'\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the project, which this process has set up."""
    folder = tmp_path_factory.mktemp("project")
    write_files("django.md", folder, OTHER_NAMES)
    (folder / "more").mkdir()
    text = MORE_TASKS
    for old, new in OTHER_NAMES.items():
        text = text.replace(old, new)
    (folder / "more" / "tasks.py").write_text(text)
    (folder / "settings_of_tests.py").write_text(SETTINGS)
    sys.path.insert(0, str(folder))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings_of_tests"
    yield folder
    sys.path.remove(str(folder))
    del os.environ["DJANGO_SETTINGS_MODULE"]
    connections.close_all()


@pytest.fixture(scope="module")
def served(project: Path) -> Iterator[Server]:
    """A service that runs the tasks of the project; the environment of this process names it."""
    environment = {"DJANGO_SETTINGS_MODULE": "settings_of_tests"}
    with (
        run_server(project, "tasker.contrib.django.tasks", env=environment) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TASKER_URL", server.url)
        patch.delenv("TASKER_TOKEN", raising=False)
        django.setup()
        yield server


@pytest.fixture
def backend(served: Server) -> Any:
    from tasker.contrib.django.framework import task_backends

    return task_backends["default"]


def ended(result: Any) -> Any:
    result.task.get_backend().client.wait(result.id, 60)
    result.refresh()
    return result


def test_a_task_runs_with_the_arguments_it_was_given(backend: Any) -> None:
    from shop.tasks import greet

    result = ended(greet.enqueue("Ada", times=2))

    assert result.return_value == "Hello, Ada! Hello, Ada! "
    again = greet.get_result(result.id)
    assert (again.args, again.kwargs) == (["Ada"], {"times": 2})
    assert again == result
    assert ended(greet.enqueue("Ada")).return_value == "Hello, Ada! "
    assert ended(greet.enqueue(name="Bo")).kwargs == {"name": "Bo"}


def test_arguments_that_the_signature_has_not_are_refused(backend: Any) -> None:
    from shop.tasks import greet

    with pytest.raises(TypeError, match="times"):
        greet.enqueue("Ada", 1, times=2)
    with pytest.raises(InvalidRequest) as caught:
        greet.enqueue(7)
    assert [fault.pointer for fault in caught.value.faults] == ["/params/0"]
    with pytest.raises(TypeError):
        greet.enqueue(object())


def test_each_task_is_a_type_with_its_schema(backend: Any) -> None:
    found = backend.client.find_type("shop.tasks.greet")

    assert found["input_schema"]["properties"]["name"] == {"type": "string", "description": "Who is greeted."}
    assert found["description"] == "Say hello."
    receipt = backend.client.find_type("shop.tasks.send_receipt")
    assert receipt["queue"] == "mail"
    assert receipt["input_schema"]["required"] == ["order_id"]


def test_any_arguments_travel_together(backend: Any) -> None:
    from more.tasks import anything

    result = ended(anything.enqueue(1, [2], three={"four": None}))

    assert result.return_value == [[1, [2]], {"three": {"four": None}}]
    assert (result.args, result.kwargs) == ([1, [2]], {"three": {"four": None}})
    assert ended(anything.enqueue()).return_value == [[], {}]


def test_other_tasks_of_the_project_are_served_too(backend: Any) -> None:
    from more.tasks import moved_from_celery

    assert moved_from_celery.delay(1).get(60) == 2
    assert backend.client.run("of_tasker", 1) == 3
    with transaction.atomic():
        moved_from_celery.delay_on_commit(5)
        assert not list(backend.client.find_many(type="more.tasks.moved_from_celery", q="5"))
    (task,) = backend.client.find_many(type="more.tasks.moved_from_celery", q="5")
    assert task.params == [5]


def test_annotations_that_cannot_be_used_take_any_json(backend: Any) -> None:
    from more.tasks import default_of_another_kind, odd_annotation, unresolved

    assert ended(unresolved.enqueue({"a": 1})).return_value == [{"a": 1}, None]
    assert ended(odd_annotation.enqueue("a")).return_value == "a"
    assert ended(default_of_another_kind.enqueue()).return_value == "int"


async def test_an_async_task_has_its_context(backend: Any) -> None:
    from more.tasks import describe

    result = await describe.aenqueue(day="2026-11-30")
    backend.client.wait(result.id, 60)
    await result.arefresh()

    assert result.return_value == [result.id, 1, 1, "2026-11-30"]


def test_options_reach_the_service(backend: Any) -> None:
    from shop.tasks import greet, send_receipt

    later = timezone.now() + timedelta(hours=1)
    result = greet.using(priority=-100, run_after=later, queue_name="mail").enqueue("Ada")
    task = backend.client.get(result.id)
    assert (task.priority, task.queue, task.run_at) == (-100, "mail", later)
    assert greet.get_result(result.id).task == result.task
    receipt = ended(send_receipt.enqueue(order_id=7))
    task = backend.client.get(receipt.id)
    assert (task.queue, task.tries_left, task.progress.fraction) == ("mail", 4 if TAKES_OPTIONS else 0, 0.5)
    backend.client.cancel(result.id)
    assert [error.exception_class for error in ended(result).errors] == [TaskCancelled]
    assert result.status == "FAILED"


def test_a_failure_has_its_exception(backend: Any) -> None:
    from more.tasks import fail, fail_twice, returns_what_json_has_not

    result = ended(fail.enqueue("why"))
    (error,) = result.errors
    assert (result.status, error.exception_class) == ("FAILED", LookupError)
    assert error.traceback.endswith("LookupError: why\n")
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value
    result = ended(replace(fail_twice, retry=2).enqueue())
    assert [error.exception_class for error in result.errors] == [SystemExit, SystemExit]
    assert result.attempts == 2
    (error,) = ended(returns_what_json_has_not.enqueue()).errors
    assert error.exception_class is TypeError


def test_an_end_without_an_exception_says_why(backend: Any) -> None:
    from more.tasks import hang

    from tasker.contrib.django.results import AttemptFailed

    (error,) = ended(replace(hang, timeout=0.1).enqueue()).errors
    assert error.exception_class is AttemptFailed
    assert "0.1 s" in error.traceback


def test_a_task_is_submitted_when_the_transaction_commits(backend: Any) -> None:
    from shop.tasks import greet

    from tasker.contrib.django.framework import TaskResultDoesNotExist

    with transaction.atomic():
        kept = greet.enqueue("Ada")
        assert kept.enqueued_at is None
        with pytest.raises(TaskResultDoesNotExist):
            greet.get_result(kept.id)
        with transaction.atomic():
            undone = greet.enqueue("Bo")
            transaction.set_rollback(True)

    assert kept.enqueued_at is not None
    assert ended(kept).return_value == "Hello, Ada! "
    with pytest.raises(TaskResultDoesNotExist):
        greet.get_result(undone.id)


def test_what_json_cannot_hold_is_refused_before_the_commit(backend: Any) -> None:
    from more.tasks import anything

    with transaction.atomic():
        with pytest.raises(ValueError, match="/params/args/0: it holds NaN"):
            anything.enqueue(float("nan"))
        kept = anything.enqueue(1)
    assert ended(kept).return_value == [[1], {}]


def test_without_the_option_a_task_is_submitted_at_once(backend: Any) -> None:
    from django.conf import settings
    from shop.tasks import greet

    with override_settings(TASKS={"default": {**settings.TASKS["default"], "OPTIONS": {}}}), transaction.atomic():
        result = greet.enqueue("Ada")
        assert greet.get_result(result.id).enqueued_at == result.enqueued_at


def test_what_no_worker_knows_is_no_task(backend: Any) -> None:
    from more import tasks

    from tasker.contrib.django.framework import InvalidTask, TaskResultDoesNotExist

    with pytest.raises(InvalidTask, match=r"more\.tasks\.not_a_task"):
        replace(tasks.anything, func=tasks.not_a_task).enqueue()
    any_queue = {"default": {"BACKEND": "tasker.contrib.django.TaskerBackend", "QUEUES": []}}
    with override_settings(TASKS=any_queue), pytest.raises(InvalidTask, match="expected letters"):
        tasks.anything.using(queue_name="with blanks")
    builtin = backend.client.submit("sum", 1, 2)
    with pytest.raises(TaskResultDoesNotExist):
        backend.get_result(builtin.task_id)


def test_the_worker_sends_the_signals_of_an_attempt(backend: Any, served: Server) -> None:
    from more.tasks import once_more
    from shop.tasks import greet

    def states(result: Any) -> list[str]:
        return re.findall(f"id={ended(result).id} .* state=([A-Z]+)", served.text())

    assert states(greet.enqueue("signals")) == ["RUNNING", "SUCCESSFUL"]
    assert states(replace(once_more, retry=2).enqueue()) == ["RUNNING", "RUNNING", "SUCCESSFUL"]


@pytest.mark.parametrize(
    ("options", "url", "ids"),
    [
        ({}, None, ["tasker.E001"]),
        ({"URL": "localhost:5000"}, None, ["tasker.E002"]),
        ({"URl": "http://localhost"}, "http://localhost", ["tasker.W003"]),
        ({}, "http://localhost", []),
    ],
)
def test_check_says_what_is_wrong_with_the_settings(
    served: Server, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], url: str | None, ids: list[str]
) -> None:
    from tasker.contrib.django import TaskerBackend

    monkeypatch.delenv("TASKER_URL")
    if url:
        monkeypatch.setenv("TASKER_URL", url)
    assert [message.id for message in TaskerBackend("default", {"OPTIONS": options}).check()] == ids


def test_djangos_own_check_asks_the_backend(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKER_URL")
    assert "tasker.E001" in [message.id for message in run_checks()]


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_command_of_manage_becomes_tasker(served: Server, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    from django.core.management import execute_from_command_line

    calls: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *given: calls.append(given))
    execute_from_command_line(["manage.py", f"tasker_{command}", "--port", "5001"])

    ((program, words, environment),) = calls
    assert program == sys.executable
    assert words == [sys.executable, "-m", "tasker", command, "tasker.contrib.django.tasks", "--port", "5001"]
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == sys.path[0]


def test_the_example_enqueues(served: Server, project: Path) -> None:
    environment = clean_environment(TASKER_URL=served.url, DJANGO_SETTINGS_MODULE="mysite.settings")
    done = subprocess.run(
        [sys.executable, "enqueue.py"], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "READY"
