"""A submission as commands to copy: what a run form does, and what submits a task again. Numbers keep their digits."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import NamedTuple
from urllib.parse import quote

from tasker.client.options import SubmitOptions
from tasker.model import Task
from tasker.web.forms.exact import ABSENT, Absent, Number, Value, parse, write

MOST = 8 * 1024
"""Characters of params that a command shows; larger ones are read from a file."""
_FILE, _WHOLE_FILE = "params.json", "task.json"
"""Files of large params, and of the whole body that holds them."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FLAGS = frozenset({"queue", "priority", "delay", "tags"})
"""Options that `tasker run` takes."""
_ARGUMENTS = frozenset(field.name for field in fields(SubmitOptions))
"""Options that the Python client takes."""


class Same(NamedTuple):
    """A command. id: of its element on the page."""

    id: str
    name: str
    text: str


class Request(NamedTuple):
    """A submission: of a type, to a service.

    params: ABSENT if they are too large to be shown. has_keys: whether the service asks for a key.
    """

    type: str
    params: Value | Absent
    options: Mapping[str, Value]
    url: str
    has_keys: bool


def shown(params: Value) -> Value | Absent:
    """Return params, or ABSENT if they are too large for a command."""
    return params if len(write(params)) <= MOST else ABSENT


def request_of(task: Task, url: str, *, has_keys: bool) -> Request:
    """Return what submits a task again, with those of its options that differ from what every task has."""
    text = bytes(task.params)
    options: dict[str, Value] = {} if task.queue == "default" else {"queue": task.queue}
    if task.priority:
        options["priority"] = Number(str(task.priority))
    if task.tags:
        options["tags"] = list(task.tags)
    return Request(task.type, ABSENT if len(text) > MOST else parse(text.decode()), options, url, has_keys)


def same_as(request: Request) -> list[Same]:
    """Return a submission as curl, CLI and Python."""
    return [
        Same("same-curl", "curl", curl(request)),
        Same("same-cli", "CLI", cli(request)),
        Same("same-python", "Python", python(request)),
    ]


def curl(request: Request) -> str:
    """Return a command of curl; without options the body is the params alone."""
    path = "/task" if request.options else f"/type/{quote(request.type, safe='')}/task"
    lines = [f"curl -X POST {shlex.quote(request.url + path)}", "-H 'Content-Type: application/json'"]
    if request.has_keys:
        lines.append('-H "Authorization: Bearer $TASKER_TOKEN"')
    if isinstance(request.params, Absent):
        lines.append(f"-d @{_WHOLE_FILE if request.options else _FILE}")
    else:
        whole = {"type": request.type, "params": request.params, **request.options}
        lines.append(f"-d {shlex.quote(write(whole if request.options else request.params))}")
    return " \\\n  ".join(lines)


def cli(request: Request) -> str:
    """Return a command of `tasker`."""
    words = ["tasker", "run", request.type]
    given = [name for name in ("queue", "priority", "delay") if name in request.options]
    words += [f"--{name}={_bare(request.options[name])}" for name in given]
    tags = request.options.get("tags")
    words += [f"--tag={_bare(tag)}" for tag in tags] if isinstance(tags, list) else []
    params = _words(request.params)
    if any(word.startswith("-") for word in params):
        words.append("--")
    return shlex.join([*words, *params]) + _missing(request.options, _FLAGS)


def _words(params: Value | Absent) -> list[str]:
    """Return the words for params; those by name whose names are no words of a command are read from a file."""
    if isinstance(params, list):
        return [write(one) for one in params]
    if isinstance(params, dict) and all(map(_NAME.fullmatch, params)):
        return [f"{name}:={write(value)}" for name, value in params.items()]
    return [f"@{_FILE}"]


def python(request: Request) -> str:
    """Return a program with Tasker's client."""
    if isinstance(request.params, Absent):
        begin, params = "import json\n\n", f'json.load(open("{_FILE}"))'
    else:
        begin, params = "", _literal(request.params)
    given = {name: value for name, value in request.options.items() if name in _ARGUMENTS}
    call = f"{request.type!r}, {params}"
    names = "Tasker"
    if given:
        names = "SubmitOptions, Tasker"
        call += f", options=SubmitOptions({', '.join(f'{name}={_literal(value)}' for name, value in given.items())})"
    return (
        f"{begin}from tasker.client import {names}\n\n"
        f"with Tasker({request.url!r}) as tasker:\n"
        f"    handle = tasker.submit_params({call})\n"
        f"    print(handle.result())" + _missing(request.options, _ARGUMENTS)
    )


def _missing(options: Iterable[str], known: frozenset[str]) -> str:
    """Return a comment about the options that a command does not take."""
    names = [name for name in options if name not in known]
    return f"\n# without {', '.join(names)}: only with curl" if names else ""


def _bare(value: Value) -> str:
    return value if isinstance(value, str) else write(value)


def _literal(value: Value) -> str:
    """Return a value as Python writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {_literal(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, str | bool) or value is None:
        return repr(value)
    return write(value)
