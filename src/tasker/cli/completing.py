"""`tasker __complete`, which the scripts of `tasker completion` call: print what may stand in the last word's place.

cyclopts knows commands, options and choices, and prints them; see its `App._run_complete` for the form of the lines.
Names are asked from the service. It has half a second to answer, and what goes wrong here prints nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from tasker.cli.exits import Exit

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.completion import CompletionContext

    from tasker.client import Tasker

Found = Iterable[tuple[str, str]]
_WORDS = "CYCLOPTS_COMPLETION_WORDS"
"""The variable with the words, each of them ended by a unit separator."""
_END = "\x1f"
_PATIENCE = 0.5
"""Seconds for each step of a request: a person waits."""
_MOST = 200
"""Names that are asked for."""
_FILES = {"file", "targets", "archive"}
"""Names of positional arguments that are files."""
_PLAIN = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
"""Names that a line can show."""


def complete(build: Callable[..., App], commands: Iterable[tuple[str, str, str]]) -> int:
    """Print the candidates for the last word. build: makes the parser for words. commands: names, modules, helps."""
    words = os.environ.get(_WORDS, _END).split(_END)[:-1] or [""]
    if len(words) == 1 and not words[0].startswith("-"):  # without the parser, which takes 100 ms
        print(f"\n{_END}begin")
        _print(((name, help) for name, _, help in commands), words[0])
        return Exit.OK
    from cyclopts import Parameter

    values = _Values(words)
    chosen = Parameter(completer=values.find)
    build(words, default_parameter=chosen)(["__complete"], exit_on_error=False, result_action="return_value")
    if values.are_files:
        print(f"{_END}files")
    _print(_find_flags(words), words[-1])
    return Exit.OK


def _print(found: Found, begin: str) -> None:
    for value, help in found:
        if value.startswith(begin) and _PLAIN.fullmatch(value):
            print(f"{value}\t{' '.join(_PLAIN.findall(help))}")


class _Values:
    """What may stand for the argument that the last word belongs to. are_files: it is a file of any name."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self.are_files = False

    def find(self, context: CompletionContext) -> list[tuple[str, str]]:
        """Return what the service, or the file of profiles, has."""
        is_option = context.argument.name.startswith("-")
        name = context.argument.name.lstrip("-").lower().replace("-", "_")
        self.are_files = not is_option and name in _FILES
        if name == "profile" or self._words[0] == "profile":
            return _find_profiles()
        if is_option and name == "status":
            return _find_statuses(self._words[-1])
        if is_option or name in {"task_id", "type"}:
            find = _OPTIONS.get(name)
        else:
            find = None if context.index else _POSITIONAL.get(self._words[0])
        return [] if find is None else [one for one in _ask(self._words, find) if _PLAIN.fullmatch(one[0])]


def _ask(words: Sequence[str], find: Callable[[Tasker], Found]) -> list[tuple[str, str]]:
    """Ask the service that the words name; nothing if it does not answer."""
    from tasker.cli.service import connect
    from tasker.errors import TaskerError

    try:
        with closing(connect(_given(words, "--url"), _given(words, "--profile"))) as client:
            return list(find(client.with_options(timeout=_PATIENCE, retries=0)))
    except TaskerError:
        return []


def _given(words: Sequence[str], option: str) -> str | None:
    """Return the value of an option among the words that are complete."""
    for place, word in enumerate(words[:-1]):
        if word == option and place + 2 < len(words):
            return words[place + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _find_flags(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the params of a task type as the options of `tasker run TYPE`."""
    names = [word for word in words[1:-1] if not word.startswith("-")]
    if words[0] != "run" or not names or not words[-1].startswith("-"):
        return
    for param, schema in _ask(words, lambda client: _params_of(client, names[0])):
        yield f"--{param.replace('_', '-')}", schema


def _params_of(client: Tasker, name: str) -> Found:
    properties: Mapping[str, Any] = client.types.get(name).input_schema.get("properties", {})
    return [(param, schema.get("description", "")) for param, schema in properties.items()]


def _find_profiles() -> list[tuple[str, str]]:
    from tasker.cli.client_config import read_client_config
    from tasker.errors import ConfigError

    try:
        return [(profile.name, profile.url) for profile in read_client_config().profiles.values()]
    except ConfigError:
        return []


def _find_statuses(text: str) -> list[tuple[str, str]]:
    """Return what a list of statuses, with commas, may become."""
    from tasker.model import Status

    given = text.partition("=")[2] if text.startswith("--") else text
    before = given[: given.rfind(",") + 1]
    return [(f"{before}{status}", "") for status in Status if status not in before.split(",")]


def _types(client: Tasker) -> Found:
    return ((one.name, one.description.strip().partition("\n")[0]) for one in client.types.find_many())


def _queues(client: Tasker) -> Found:
    return ((one.name, f"{one.pending} pending, {one.running} running") for one in client.queues.find_many())


def _groups(client: Tasker) -> Found:
    return ((one.name, "") for one in client.groups.find_many(limit=_MOST))


def _schedules(client: Tasker) -> Found:
    return ((one.name, str(one.task.get("type", ""))) for one in islice(client.schedules.find_many(), _MOST))


def _tasks(client: Tasker) -> Found:
    return ((str(one.task_id), f"{one.type} {one.status}") for one in client.find_many(limit=20))


def _webhooks(client: Tasker) -> Found:
    return ((str(one.webhook_id), one.url) for one in client.webhooks.find_many(limit=20))


def _bulk(client: Tasker) -> Found:
    return ((str(one.bulk_id), f"{one.action} {one.state}") for one in client.bulk.find_many(limit=20))


def _failures(client: Tasker) -> Found:
    return ((one.failure_id, f"{one.type} {one.exception or ''} {one.message or ''}") for one in _newest(client))


def _newest(client: Tasker) -> Iterator[Any]:
    return client.failures.find_many(window="7d", limit=20)


_OPTIONS = {
    "type": _types,
    "queue": _queues,
    "group": _groups,
    "parent": _tasks,
    "task_id": _tasks,
    "error": _failures,
    "bulk": _bulk,
}
"""What finds the values of options, and of positional arguments of these names."""
_POSITIONAL = {
    "type": _types,
    "queue": _queues,
    "group": _groups,
    "schedule": _schedules,
    "webhook": _webhooks,
    "bulk": _bulk,
    "failure": _failures,
}
"""What finds the first positional argument, by the command."""
