"""Every way to submit a task, as one call: params go in, the verdict comes out."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from html import unescape
from pathlib import Path
from typing import Any

import httpx2

from tasker.cli import main
from tasker.cli.params import kinds_of_schema
from tasker.client import InvalidRequest, SubmitOptions
from tasker.errors import Fault
from tasker.tasktypes.tasktype import TaskType
from tasker.web.forms.exact import exact
from tasker.web.forms.fields import fill
from tasker.web.forms.shapes import shape_of
from tests.client.shells import Ask
from tests.web.forms.controls import controls_of, sent

Verdict = Mapping[str, str]
"""The faults of an input by their JSON Pointers within the params; none if it is taken."""
Face = Callable[[TaskType, Any], Verdict]
LATER = 3600
"""Seconds until the tasks start: nothing is to run."""

_FORM = re.compile(r'<form method="post"[^>]* id="form">(.*?)</form>', re.DOTALL)
_FAULT = re.compile(r'<li><a href="#[^"]*"><bdi>(.*?)</bdi></a>: <bdi>(.*?)</bdi></li>')
_PRINTED = re.compile(r"^  (/params\S*|--\S+): (.*)$", re.MULTILINE)


def by_rest(http: httpx2.Client) -> Face:
    """POST /task, once for each input."""
    found: dict[str, Verdict] = {}

    def ask(task_type: TaskType, params: Any) -> Verdict:
        body = json.dumps({"type": task_type.name, "params": params, "delay": LATER})
        if body not in found:
            reply = http.post("/task", content=body, headers={"content-type": "application/json"})
            found[body] = _read_reply(reply, "/params")
        return found[body]

    return ask


def by_typed_path(http: httpx2.Client) -> Face:
    """POST /type/{name}/task, whose body is the params; it is only checked."""

    def ask(task_type: TaskType, params: Any) -> Verdict:
        headers = {"prefer": "handling=validate"}
        return _read_reply(http.post(f"/type/{task_type.name}/task", json=params, headers=headers), "")

    return ask


def by_form(http: httpx2.Client) -> Face:
    """The form of the dashboard, as a browser without scripts sends it; it is only checked."""
    tokens: dict[str, str] = {}

    def ask(task_type: TaskType, params: Any) -> Verdict:
        path = f"/ui/type/{task_type.name}"
        if path not in tokens:
            found = _FORM.search(http.get(path, headers={"accept": "text/html"}).text)
            assert found is not None
            tokens[path] = dict(controls_of(found[1]))["token"]
        pairs = dict(sent(fill(shape_of(task_type.input_schema), exact(params))))
        reply = http.post(path, data={**pairs, "token": tokens[path], "do": "check", "view": "form"})
        faults = {unescape(name): unescape(detail) for name, detail in _FAULT.findall(reply.text)}
        assert reply.status_code == (422 if faults else 200), reply.text
        return {"" if name == "params" else "/" + name.replace(".", "/"): detail for name, detail in faults.items()}

    return ask


def by_client(ask_client: Ask) -> Face:
    """A client: `submit_params`."""

    def ask(task_type: TaskType, params: Any) -> Verdict:
        options = SubmitOptions(delay=LATER)
        return _caught(lambda: ask_client(lambda client: client.submit_params(task_type.name, params, options=options)))

    return ask


def by_arguments(ask_client: Ask) -> Face:
    """A client: `submit` with the arguments of a function."""

    def ask(task_type: TaskType, params: Any) -> Verdict:
        args, kwargs = (params, {}) if isinstance(params, list) else ((), params)
        options = SubmitOptions(delay=LATER)
        return _caught(
            lambda: ask_client(lambda client: client.submit(task_type.name, *args, options=options, **kwargs))
        )

    return ask


def by_words(url: str) -> Face:
    """`tasker run`, with a word for each param: a text as it is where the type takes one, all else as JSON."""

    def ask(task_type: TaskType, params: Any) -> Verdict:
        if isinstance(params, list):
            return _run(url, task_type.name, [json.dumps(one) for one in params])
        kinds = _kinds_of(task_type)
        return _run(url, task_type.name, [_word(name, value, kinds) for name, value in params.items()])

    return ask


def by_flags(url: str) -> Face:
    """`tasker run`, with the type's own flags, and a word for each param that a flag cannot say."""

    def ask(task_type: TaskType, params: Any) -> Verdict:
        kinds = _kinds_of(task_type)
        words = [word for name, value in dict(params).items() for word in _flag(name, value, kinds)]
        return _run(url, task_type.name, words, end=False)

    return ask


def by_file(url: str, file: Path) -> Face:
    """`tasker run`, with a file that holds all params."""

    def ask(task_type: TaskType, params: Any) -> Verdict:
        file.write_text(json.dumps(params))
        return _run(url, task_type.name, [f"@{file}"])

    return ask


def by_batch(http: httpx2.Client, corpus: Sequence[tuple[TaskType, Any]]) -> Face:
    """POST /batch: all of the corpus in one request."""
    lines = [{"type": one.name, "params": params, "delay": LATER} for one, params in corpus]
    items = http.post("/batch", json=lines).json()["items"]
    assert len(items) == len(lines)
    verdicts = {
        json.dumps(line): _read_faults(item.get("problem", {}).get("errors", ()), "/params")
        for line, item in zip(lines, items, strict=True)
    }

    def ask(task_type: TaskType, params: Any) -> Verdict:
        line = {"type": task_type.name, "params": params, "delay": LATER}
        return verdicts[json.dumps(line)]

    return ask


def _word(name: str, value: Any, kinds: Mapping[str, frozenset[str]]) -> str:
    is_text = isinstance(value, str) and "string" in kinds.get(name, ()) and not value.startswith("@")
    return f"{name}={value}" if is_text else f"{name}:={json.dumps(value)}"


def _flag(name: str, value: Any, kinds: Mapping[str, frozenset[str]]) -> Sequence[str]:
    taken, flag = kinds.get(name, frozenset()), name.replace("_", "-")
    if "array" in taken and not isinstance(value, list):  # a flag that may be repeated stands for one element
        return [f"{name}:={json.dumps(value)}"]
    match value:
        case True | False if "boolean" in taken and taken <= {"boolean", "null"}:
            return [f"--{flag}" if value else f"--no-{flag}"]
        case str() if "string" in taken:
            return [f"--{flag}", value]
        case int() | float() | dict() | list() if taken and not taken & {"string", "boolean"}:
            return [f"--{flag}", json.dumps(value)]
    return [f"{name}:={json.dumps(value)}"]


def _kinds_of(task_type: TaskType) -> dict[str, frozenset[str]]:
    """Return the kinds of JSON that each param takes."""
    schema = task_type.input_schema
    definitions = {"$defs": schema.get("$defs", {})}
    return {name: kinds_of_schema({**one, **definitions}) for name, one in schema["properties"].items()}


def _run(url: str, name: str, words: Sequence[str], *, end: bool = True) -> Verdict:
    """Return the pointers that the command names, as flags or as they are, with the text that it prints."""
    out, err = io.StringIO(), io.StringIO()
    options = ["--detach", "--delay", str(LATER), "--url", url]
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["run", *options, name, *(["--"] if end else []), *words])
    faults = dict(_PRINTED.findall(err.getvalue()))
    assert code == (2 if faults else 0), err.getvalue()
    return {_pointer(place): detail for place, detail in faults.items()}


def _pointer(place: str) -> str:
    if place.startswith("/"):
        return place.removeprefix("/params")
    flag, slash, rest = place.removeprefix("--").partition("/")
    return "/" + flag.replace("-", "_").replace(".", "/") + slash + rest


def _caught(submit: Callable[[], Any]) -> Verdict:
    try:
        submit()
    except InvalidRequest as error:
        return _shown(error.faults, "/params")
    return {}


def _shown(faults: Sequence[Fault], prefix: str) -> Verdict:
    return {fault.pointer.removeprefix(prefix): fault.detail for fault in faults}


def _read_reply(reply: httpx2.Response, prefix: str) -> Verdict:
    assert reply.status_code in (202, 204, 422), reply.text
    return _read_faults(reply.json()["errors"], prefix) if reply.status_code == 422 else {}


def _read_faults(errors: Sequence[Mapping[str, str]], prefix: str) -> Verdict:
    return {error["pointer"].removeprefix(prefix): error["detail"] for error in errors}
