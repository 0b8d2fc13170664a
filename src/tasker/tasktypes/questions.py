"""Questions of a task to people: `ask` shows one, and waits for its answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import UNSET, Raw, Struct

from tasker.errors import InputTimeout, ResultError
from tasker.model.steps import Question, Step, Wait
from tasker.rules.lifecycle import MAX_DELAY
from tasker.tasktypes.codecs import Codec, codec_of
from tasker.tasktypes.durable import Durable
from tasker.tasktypes.operations import Operation, ask_for, stored_or, wait_for
from tasker.tasktypes.signature import ABSENT
from tasker.tasktypes.steps import Ask, CloseQuestion
from tasker.tasktypes.stored import read_stored, value_of
from tasker.validation.durations import read_duration
from tasker.validation.encoding import NotJson, encode_strict

MAX_QUESTION = 64 * 1024
"""Bytes of a question with its schema, as JSON."""


class Asking(Struct, frozen=True):
    """A question, and how its answer is read. question: JSON text of a Question; default: JSON text."""

    name: str
    question: bytes
    timeout: timedelta | None
    default: bytes | None
    codec: Codec


def make_asking(
    name: str,
    type_: Any,
    *,
    message: str,
    choices: Sequence[Any] | None,
    timeout: timedelta | float | str | None,
    default: Any,
) -> Asking:
    """Return a question. type_: of the answer, or its JSON Schema (a dict). Raises ValueError."""
    codec = codec_of(Any if isinstance(type_, dict) else type_)
    if choices is None and get_origin(type_) is Literal:
        choices = get_args(type_)  # in the order in which they are written
    schema = dict(type_) if isinstance(type_, dict) else codec.schema()
    if choices is not None:
        schema["enum"] = _decoded(name, "choices", choices)
        if not schema["enum"]:
            raise ValueError(f"question {name!r}: choices are empty")
    standby = None if default is ABSENT else _encoded(name, codec, default)
    if standby is not None and choices is not None and msgspec.json.decode(standby) not in schema["enum"]:
        raise ValueError(f"question {name!r}: the default is none of the choices")
    length = None if timeout is None else _read_timeout(name, timeout)
    if standby is not None and length is None:
        raise ValueError(f"question {name!r}: a default needs a timeout")
    shown = Raw(_json(name, "schema", schema))
    question = msgspec.json.encode(
        Question(name=name, message=str(message), schema=shown, default=UNSET if standby is None else Raw(standby))
    )
    if len(question) > MAX_QUESTION:
        raise ValueError(f"question {name!r} takes {len(question):,} bytes as JSON, more than {MAX_QUESTION:,}")
    return Asking(name, question, length, standby, codec)


def ask(durable: Durable, key: str, asking: Asking) -> Operation[Any]:
    """Ask a question, wait for the answer and return it. Raises InputTimeout."""
    step: Step = yield from stored_or(durable, Ask(key, asking.name, asking.question, asking.timeout), key, "input")
    if step.finished_at is None:
        step = yield from wait_for(durable, key, Wait(until=step.until, inputs=(key,)))
    if step.finished_at is None:  # its time is over
        step = yield from ask_for(durable, CloseQuestion(key, asking.default), key)
    value = value_of(step)
    if value is None:
        raise InputTimeout(asking.name)
    return read_stored(key, asking.codec, value)


def _read_timeout(name: str, timeout: timedelta | float | str) -> timedelta:
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    try:
        return read_duration(seconds, MAX_DELAY, zero=False)
    except ValueError as error:
        raise ValueError(f"question {name!r}: timeout: {error}") from None


def _encoded(name: str, codec: Codec, default: Any) -> bytes:
    try:
        return codec.encode(default)
    except ResultError as error:
        raise ValueError(f"question {name!r}: the default is not of the type of the answer: {error}") from None


def _decoded(name: str, what: str, values: Sequence[Any]) -> list[Any]:
    found: list[Any] = msgspec.json.decode(_json(name, what, list(values)))
    return found


def _json(name: str, what: str, value: Any) -> bytes:
    try:
        return encode_strict(value)
    except NotJson as error:
        raise ValueError(f"question {name!r}: {what}: {error}") from None
