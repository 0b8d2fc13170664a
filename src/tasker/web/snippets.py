"""The same submission as a command of a shell, and as Python: to copy from a page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from tasker.model import Task

MOST = 8 * 1024
"""Bytes of params that a snippet may hold; larger ones are read from a file."""
_FILE = "params.json"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Snippet(NamedTuple):
    """A snippet, and the name of what it is for."""

    name: str
    text: str


def snippets(task: Task, url: str, *, has_keys: bool) -> list[Snippet]:
    """Return what submits the task again, with the options that it was given. url: of the service."""
    options = _options(task)
    return [
        Snippet("curl", curl(task, url, options, has_keys=has_keys)),
        Snippet("CLI", cli(task)),
        Snippet("Python", python(task, url, options)),
    ]


def curl(task: Task, url: str, options: dict[str, Any], *, has_keys: bool) -> str:
    """Return a command of curl."""
    head = [f"curl -X POST {shlex.quote(url + '/task')}", "-H 'Content-Type: application/json'"]
    if has_keys:
        head.append('-H "Authorization: Bearer $TASKER_TOKEN"')
    if len(bytes(task.params)) > MOST:
        return " \\\n  ".join([*head, "-d @task.json"])
    body = msgspec.json.encode({"type": task.type, "params": task.params, **options}).decode()
    return " \\\n  ".join([*head, f"-d {shlex.quote(body)}"])


def cli(task: Task) -> str:
    """Return a command of `tasker`. Params by name are given as JSON, which keeps them exact."""
    words = ["tasker", "run", task.type]
    if task.queue != "default":
        words += ["--queue", task.queue]
    if task.priority:
        words += [f"--priority={task.priority}"]
    for tag in task.tags:
        words += ["--tag", tag]
    params = [f"@{_FILE}"] if len(bytes(task.params)) > MOST else _words(task.params)
    if any(word.startswith("-") for word in params):
        words.append("--")
    return shlex.join([*words, *params])


def _words(params: msgspec.Raw) -> list[str]:
    """Return the words for params; those by name whose names are no words of a command are read from a file."""
    if bytes(params)[:1] == b"[":
        return [_text(one) for one in msgspec.json.decode(params, type=list[msgspec.Raw])]
    named = msgspec.json.decode(params, type=dict[str, msgspec.Raw])
    if all(_NAME.fullmatch(name) for name in named):
        return [f"{name}:={_text(value)}" for name, value in named.items()]
    return [f"@{_FILE}"]


def _text(raw: msgspec.Raw) -> str:
    return msgspec.json.format(bytes(raw), indent=-1).decode()


def python(task: Task, url: str, options: dict[str, Any]) -> str:
    """Return a program with Tasker's client."""
    if len(bytes(task.params)) > MOST:
        begin, params = ["import json"], f'json.load(open("{_FILE}"))'
    else:
        begin, params = [], repr(msgspec.json.decode(task.params))
    more = ", ".join(f"{name}={value!r}" for name, value in options.items())
    names = "SubmitOptions, Tasker" if options else "Tasker"
    call = [repr(task.type), params, *([f"options=SubmitOptions({more})"] if options else ())]
    lines: Sequence[str] = (
        *begin,
        f"from tasker.client import {names}",
        "",
        f"with Tasker({url!r}) as client:",
        f"    handle = client.submit_params({', '.join(call)})",
        "    print(handle.result())",
    )
    return "\n".join(lines)


def _options(task: Task) -> dict[str, Any]:
    """Return the options that differ from what every task has."""
    given = {"queue": task.queue if task.queue != "default" else None, "priority": task.priority or None,
             "tags": task.tags or None}  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}
