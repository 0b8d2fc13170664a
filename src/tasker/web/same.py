"""What the run form of a task type does, as commands to copy. Numbers keep their digits."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import NamedTuple
from urllib.parse import quote

from tasker.client.options import SubmitOptions
from tasker.web.forms.exact import Value, write

_MOST = 8 * 1024
"""Characters of params that a command shows; larger ones are read from a file."""
_FILE = "params.json"
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
    """A submission: of a type, to a service. has_keys: whether the service asks for a key."""

    type: str
    params: Value
    options: Mapping[str, Value]
    url: str
    has_keys: bool

    @property
    def is_long(self) -> bool:
        """Whether its params are read from a file."""
        return len(write(self.params)) > _MOST


def same_as(request: Request) -> list[Same]:
    """Return a submission as curl, CLI and Python."""
    return [
        Same("same-curl", "curl", curl(request)),
        Same("same-cli", "CLI", cli(request)),
        Same("same-python", "Python", python(request)),
    ]


def curl(request: Request) -> str:
    """Return a command of curl; without options the body is the params alone."""
    path, body = f"/type/{quote(request.type, safe='')}/task", write(request.params)
    if request.options:
        path, body = "/task", write({"type": request.type, "params": request.params, **request.options})
    lines = [f"curl -X POST {shlex.quote(request.url + path)}", "-H 'Content-Type: application/json'"]
    if request.has_keys:
        lines.append('-H "Authorization: Bearer $TASKER_TOKEN"')
    lines.append(f"-d @{_FILE}" if request.is_long else f"-d {shlex.quote(body)}")
    return " \\\n  ".join(lines)


def cli(request: Request) -> str:
    """Return a command of `tasker`."""
    words = ["tasker", "run", request.type]
    given = [name for name in ("queue", "priority", "delay") if name in request.options]
    words += [f"--{name}={_bare(request.options[name])}" for name in given]
    tags = request.options.get("tags")
    words += [f"--tag={_bare(tag)}" for tag in tags] if isinstance(tags, list) else []
    params = request.params
    is_by_name = isinstance(params, dict) and all(_NAME.fullmatch(name) for name in params) and not request.is_long
    if is_by_name and isinstance(params, dict):
        words += [f"{name}:={write(value)}" for name, value in params.items()]
    else:
        words.append(f"@{_FILE}")
    return shlex.join(words) + _missing(request.options, _FLAGS)


def python(request: Request) -> str:
    """Return a program with Tasker's client."""
    begin, params = "", _literal(request.params)
    if request.is_long:
        begin, params = "import json\n\n", f'json.load(open("{_FILE}"))'
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
