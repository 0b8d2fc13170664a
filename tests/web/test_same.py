"""The same submission as commands and as Python: what is copied does what it says."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Raw

from tasker.cli.params import read_params
from tasker.model import Task
from tasker.web.forms.exact import Number
from tasker.web.same import MOST, Request, cli, curl, python, request_of, same_as, shown

URL = "http://localhost:5000"
PARAMS: list[Any] = [
    [], [4, 2], ["Hello", "4", "", "-x", "it's", "@file", "a=b"], [[1, 2]], [{"a": 1}], [-5], [None, True, 1.5],
    {}, {"prompt": "Once upon\na time", "max_tokens": 40}, {"a": {"b": [1]}, "c": None},
    {"text": "$(rm -rf /) `x` \"'"},
]  # fmt: skip


def a_task(params: Any, **options: Any) -> Task:
    return msgspec.convert(
        {
            **dict.fromkeys(field.name for field in msgspec.structs.fields(Task) if field.required),
            "task_id": UUID(int=1),
            "type": "echo",
            "params": Raw(json.dumps(params).encode()),
            "status": "pending",
            "queue": "default",
            "priority": 0,
            "attempt": 0,
            "tries_left": 1,
            "created_at": datetime(2026, 1, 2, tzinfo=UTC),
            "usage": Raw(b"{}"),
            "tags": [],
            "metadata": Raw(b"{}"),
            **options,
        },
        Task,
    )


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_every_snippet_holds_the_params(params: Any) -> None:
    request = request_of(a_task(params), URL, has_keys=False)
    words = shlex.split(curl(request).replace("\\\n", ""))
    assert json.loads(words[words.index("-d") + 1]) == params
    assert f"{URL}/type/echo/task" in words
    words = shlex.split(cli(request))[3:]
    given = [word for word in words if word != "--"]
    assert json.loads(json.dumps(read_params(given) if given else [], default=lambda raw: json.loads(bytes(raw)))) == (
        params or []
    )
    found: list[Any] = []
    namespace = {"tasker": type("Client", (), {"submit_params": lambda _, *args: found.append(args)})()}
    line = next(line for line in python(request).splitlines() if "submit_params" in line)
    exec(line.partition("=")[2].strip(), namespace)
    assert found == [("echo", params)]


def test_options_come_along() -> None:
    task = a_task([1], queue="llm", priority=-3, tags=["a b"])
    by_name = {one.name: one.text for one in same_as(request_of(task, URL, has_keys=True))}
    assert json.loads(shlex.split(by_name["curl"].replace("\\\n", ""))[-1]) == {
        "type": "echo", "params": [1], "queue": "llm", "priority": -3, "tags": ["a b"],
    }  # fmt: skip
    assert "$TASKER_TOKEN" in by_name["curl"]
    assert by_name["CLI"] == "tasker run echo --queue=llm --priority=-3 '--tag=a b' 1"
    assert "SubmitOptions(queue='llm', priority=-3, tags=['a b'])" in by_name["Python"]


def test_numbers_keep_their_digits() -> None:
    request = request_of(a_task([]), URL, has_keys=False)._replace(params=[Number("0.10")])
    for one in same_as(request):
        assert "0.10" in one.text


@pytest.mark.parametrize(("options", "file"), [({}, "@params.json"), ({"queue": "llm"}, "@task.json")])
def test_large_params_are_read_from_a_file(options: dict[str, str], file: str) -> None:
    """With options curl sends the whole body, which needs another file."""
    large = ["x" * MOST]
    by_form = Request("echo", shown(list(large)), dict(options), URL, has_keys=False)
    assert request_of(a_task(large, **options), URL, has_keys=False) == by_form
    for one in same_as(by_form):
        assert len(one.text) < 400
        assert ".json" in one.text
    assert file in curl(by_form)
