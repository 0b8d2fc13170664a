"""What commands share that use a running service: connect to it, follow a task to its end, show results."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from tasker.cli.exits import Exit
from tasker.cli.faults import explain
from tasker.cli.params import Accepts, UsageError, read_accepts, read_params
from tasker.cli.targets import Target, find_target
from tasker.cli.terminal import note, show
from tasker.client import AsyncTasker, ClientError, NotAllowed, NotFound, Task, Tasker, WaitTimeout
from tasker.logs.printing import escape, has_colours
from tasker.model import Progress

_Client = TypeVar("_Client", Tasker, AsyncTasker)
_GLANCE = timedelta(seconds=1)
"""Time between updates of the progress on a terminal."""


def connect(url: str | None = None, profile: str | None = None) -> Tasker:
    """Return a client of the service at `url` or of a profile, else of the one that `find_target` finds.

    Raises UsageError, ConfigError.
    """
    return _connect(Tasker, find_target(url, profile))


def connect_async(url: str | None = None, profile: str | None = None) -> AsyncTasker:
    """Return a client for coroutines, as `connect` does."""
    return _connect(AsyncTasker, find_target(url, profile))


def _connect(kind: type[_Client], target: Target) -> _Client:
    token = target.token
    if token is not None and not (token.isascii() and token.isprintable()):
        raise UsageError(
            f"{target.token_origin}: expected visible ASCII characters, got a value that has others (not shown)"
        )
    try:
        return kind(target.url, token)
    except ValueError as error:
        raise UsageError(f"{target.origin}: {error}") from error


def read_params_of(client: Tasker, type: str, words: Sequence[str]) -> list[Any] | dict[str, Any]:
    """Return the params of a task of `type` from the words of a command line. Raises UsageError."""
    return read_params(words, lambda: _ask(client, type))


def _ask(client: Tasker, type: str) -> Accepts:
    try:
        return read_accepts(client.find_type(type))
    except (NotFound, NotAllowed):  # the submission will say so; and a key that may submit may lack the right to read
        return Accepts({})


def follow(client: Tasker, task_id: UUID, timeout: float | None, *, as_json: bool) -> int:
    """Wait for a task and print its result; meanwhile show its progress on a terminal."""
    watched = has_colours(sys.stderr)
    try:
        task = _watch(client, task_id, timeout) if watched else client.wait(task_id, timeout)
    except KeyboardInterrupt:
        note(f"\nNo longer waiting; the task goes on. Wait again: tasker get {task_id} --wait")
        return Exit.INTERRUPTED
    except WaitTimeout as error:
        note(f"tasker: {error}. Wait again: tasker get {task_id} --wait")
        return Exit.WAIT_TIMED_OUT
    return report(client, task, as_json=as_json)


def _watch(client: Tasker, task_id: UUID, timeout: float | None) -> Task:
    """Wait in short steps and keep one line of the terminal up to date."""
    waited, told = timedelta(0), None
    limit = timedelta.max if timeout is None else timedelta(seconds=timeout)
    try:
        while True:
            step = min(_GLANCE, limit - waited)
            try:
                return client.wait(task_id, step)
            except WaitTimeout as error:
                waited += step
                if waited >= limit:
                    raise WaitTimeout(error.task, limit) from None
                asked = error.task.input
                if asked is not None and asked != told:
                    _overwrite("")
                    note(f"It asks {asked.name}: {asked.message} (tasker input {task_id})")
                told = asked
                _overwrite(describe_progress(error.task))
    finally:
        _overwrite("")


def _overwrite(text: str) -> None:
    print(f"\r\x1b[K{escape(text)}", end="", file=sys.stderr, flush=True)


def describe_progress(task: Task) -> str:
    """Return one line about the state of an open task."""
    reason = f" ({task.reason})" if task.reason else ""
    return f"{task.type} {task.status}{reason}{_describe_numbers(task.progress)}"


def _describe_numbers(progress: Progress | None) -> str:
    if progress is None:
        return ""
    fraction = "" if progress.fraction is None else f" {progress.fraction:.0%}"
    counted = "" if progress.current is None else f" {progress.current:g}"
    total = "" if progress.total is None else f"/{progress.total:g}"
    return f"{fraction}{counted}{total} {progress.message or ''}".rstrip()


def report(client: Tasker, task: Task, *, as_json: bool) -> int:
    """Print the result of a task that has ended, or why there is none; return the exit code."""
    if as_json:
        show(to_json(task))
    try:
        result = client.result_of(task)
    except ClientError as error:
        return explain(error)
    if not as_json:
        show(to_text(result))
    return Exit.OK


def to_text(value: Any) -> str:
    """Return a result as text: a string as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def to_json(value: Any) -> str:
    """Return a value of the client as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
