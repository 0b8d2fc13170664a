"""What commands share that use a running service: connect to it, read params, show results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tasker.cli.given import NOTHING_GIVEN, Given
from tasker.cli.params import Accepts, UsageError, read_accepts, read_params
from tasker.cli.targets import Target, find_target
from tasker.client import NotAllowed, NotFound, Tasker

if TYPE_CHECKING:
    from tasker.client import AsyncTasker

_Client = TypeVar("_Client", "Tasker", "AsyncTasker")


def connect(url: str | None = None, profile: str | None = None) -> Tasker:
    """Return a client of the service at `url` or of a profile, else of the one that `find_target` finds.

    Raises UsageError, ConfigError.
    """
    return _connect(Tasker, find_target(url, profile))


def connect_async(url: str | None = None, profile: str | None = None) -> AsyncTasker:
    """Return a client for coroutines, as `connect` does."""
    from tasker.client import AsyncTasker

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


def read_params_of(
    client: Tasker, type: str, words: Sequence[str], given: Given = NOTHING_GIVEN
) -> list[Any] | dict[str, Any]:
    """Return the params of a task of `type` from the words of a command line. Raises UsageError.

    given: what the words say that are read already.
    """

    def ask() -> Accepts:
        task_type = given.task_type if given.is_asked else _find_type(client, type)
        return read_accepts(task_type) if task_type else Accepts({})

    return read_params(words, ask, given.split.params)


def _find_type(client: Tasker, type: str) -> dict[str, Any] | None:
    try:
        return client.find_type(type)
    except (NotFound, NotAllowed):  # the submission will say so; and a key that may submit may lack the right to read
        return None


def to_text(value: Any) -> str:
    """Return a result as text: a string as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def to_json(value: Any) -> str:
    """Return a value of the client as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def to_line(value: Any) -> str:
    """Return a value of the client as JSON on one line."""
    return msgspec.json.encode(value).decode()
