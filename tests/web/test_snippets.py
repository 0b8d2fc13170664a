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
from tasker.web.snippets import MOST, cli, curl, python, snippets

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
    task = a_task(params)
    words = shlex.split(curl(task, URL, {}, has_keys=False).replace("\\\n", ""))
    assert json.loads(words[words.index("-d") + 1]) == {"type": "echo", "params": params}
    words = shlex.split(cli(task))[3:]
    given = [word for word in words if word != "--"]
    assert json.loads(json.dumps(read_params(given) if given else [], default=lambda raw: json.loads(bytes(raw)))) == (
        params or []
    )
    found: list[Any] = []
    namespace = {"client": type("Client", (), {"submit_params": lambda _, *args: found.append(args)})()}
    line = next(line for line in python(task, URL, {}).splitlines() if "submit_params" in line)
    exec(line.strip(), namespace)
    assert found == [("echo", params)]


def test_options_come_along() -> None:
    task = a_task([1], queue="llm", priority=-3, tags=["a b"])
    by_name = {one.name: one.text for one in snippets(task, URL, has_keys=True)}
    assert json.loads(shlex.split(by_name["curl"].replace("\\\n", ""))[-1]) == {
        "type": "echo", "params": [1], "queue": "llm", "priority": -3, "tags": ["a b"],
    }  # fmt: skip
    assert "$TASKER_TOKEN" in by_name["curl"]
    assert by_name["CLI"] == "tasker run echo --queue llm --priority=-3 --tag 'a b' 1"
    assert "SubmitOptions(queue='llm', priority=-3, tags=['a b'])" in by_name["Python"]


def test_large_params_are_read_from_a_file() -> None:
    task = a_task(["x" * MOST])
    for one in snippets(task, URL, has_keys=False):
        assert len(one.text) < 400
        assert ".json" in one.text
