"""Children of a task: `call`, `map` and `spawn` start them, and wait for their results."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct

from tasker.errors import ChildFailed, StepChanged
from tasker.model import Status
from tasker.model.steps import Child, Step, Wait
from tasker.tasktypes.codecs import Codec, codec_of, returned_by
from tasker.tasktypes.durable import Durable
from tasker.tasktypes.operations import Operation, ask_for, take, wait_for
from tasker.tasktypes.options import MARK
from tasker.tasktypes.signature import is_context
from tasker.tasktypes.steps import (
    BYTES_AT_ONCE,
    CHILDREN_AT_ONCE,
    ChildOptions,
    Children,
    CollectChildren,
    RunChildrenAgain,
    StartChildren,
)
from tasker.tasktypes.stored import read_stored
from tasker.validation.encoding import NotJson, encode_strict

Target = str | Callable[..., Any]
"""A task type by its name, or by its function."""


class Brood(Struct, frozen=True, kw_only=True):
    """The children of one step. params: JSON texts. may_fail: failures are values. codec: of their results."""

    key: str
    name: str
    type_name: str
    params: Sequence[bytes]
    codec: Codec
    may_fail: bool = False
    max_in_flight: int | None = None
    is_detached: bool = False
    options: ChildOptions | None = None


def type_name_of(target: Target) -> str:
    """Return the name of a target's task type. Raises TypeError if it is no task."""
    if isinstance(target, str):
        return target
    options = getattr(target, MARK, None)
    if options is None:
        raise TypeError(f"{target!r:.200} is no task: put @task on it, or give the name of a task type")
    name: str = options.name or target.__name__
    return name


def codec_of_target(target: Target) -> Codec:
    """Return the codec of a target's results; of those of a type by its name, any JSON."""
    return codec_of(Any if isinstance(target, str) else returned_by(target))


def encode_params(target: Target, args: Sequence[Any], kwargs: Mapping[str, Any], most: int) -> bytes:
    """Return the params of one child as JSON text. Raises TypeError, ValueError (what JSON cannot hold; too large)."""
    try:
        text = encode_strict(merge_params(target, args, kwargs))
    except NotJson as error:
        raise ValueError(f"the params of {type_name_of(target)}: {error}") from None
    if len(text) > most:
        raise ValueError(
            f"the params of {type_name_of(target)} take {len(text):,} bytes, more than {most:,}: pass a reference"
        )
    return text


def merge_params(target: Target, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any] | dict[str, Any]:
    """Return the params of a call as one sequence, or by name if some are. Raises TypeError."""
    return {**_named(target, args), **kwargs} if kwargs else tuple(args)


def _named(target: Target, args: Sequence[Any]) -> dict[str, Any]:
    """Return arguments by position under the names of their parameters."""
    if not args:
        return {}
    if isinstance(target, str):
        raise TypeError(f"give all params of {target!r} by position, or all by name")
    hints = inspect.get_annotations(inspect.unwrap(target))
    parameters = inspect.signature(target).parameters.values()
    names = [
        one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD and not _is_context(hints, one.name)
    ]
    if len(args) > len(names):
        raise TypeError(f"{type_name_of(target)} takes {len(names)} params by position beside those by name")
    return dict(zip(names, args, strict=False))


def _is_context(hints: Mapping[str, Any], name: str) -> bool:
    hint = hints.get(name)
    return is_context(hint) or (isinstance(hint, str) and hint.rpartition(".")[2] in ("Context", "SyncContext"))


def start(durable: Durable, brood: Brood) -> Operation[Step]:
    """Start the children of a step, unless they are stored; run those again that failed before this try of the task."""
    step = durable.find(brood.key, "children")
    if step is not None and step.total != len(brood.params):
        raise StepChanged(
            brood.key, f"it has started {step.total:,} children, and would start {len(brood.params):,} now"
        )
    if step is None or not (yield from _are_all_stored(durable, step)):
        for chunk in _chunks(brood):
            step = yield from ask_for(durable, chunk, brood.key)
    assert step is not None
    if _has_to_run_again(brood, step):
        step = yield from ask_for(durable, RunChildrenAgain(brood.key), brood.key)
    return step


def _has_to_run_again(brood: Brood, step: Step) -> bool:
    return step.may_run_again and not brood.may_fail and step.failed + step.cancelled > 0


def _are_all_stored(durable: Durable, step: Step) -> Operation[bool]:
    """Tell whether the last chunk of a step was stored before its attempt ended."""
    if not step.open_children:
        return True
    last = yield from _collect_from(durable, step.key, step.total - 1)
    return bool(last)


def _chunks(brood: Brood) -> Iterator[StartChildren]:
    first = 0
    while first < len(brood.params):
        params = _take_chunk(brood.params, first)
        yield StartChildren(
            brood.key,
            brood.name,
            brood.type_name,
            params,
            first,
            len(brood.params),
            brood.max_in_flight,
            brood.is_detached,
            brood.options,
        )
        first += len(params)


def _take_chunk(params: Sequence[bytes], first: int) -> tuple[bytes, ...]:
    """Return as many params as one request may have, at least one."""
    size = 0
    for end in range(first, min(first + CHILDREN_AT_ONCE, len(params))):
        size += len(params[end])
        if size > BYTES_AT_ONCE and end > first:
            return tuple(params[first:end])
    return tuple(params[first : first + CHILDREN_AT_ONCE])


def results(durable: Durable, brood: Brood) -> Operation[list[Any]]:
    """Start children, wait for the end of all, and return their results in order, or raise the first failure."""
    if not brood.params:
        return []
    return (yield from collect(durable, brood, (yield from start(durable, brood))))


def collect(durable: Durable, brood: Brood, step: Step) -> Operation[list[Any]]:
    """Wait for the end of all children of a step, and return their results in order, or raise the first failure."""
    while step.open_children:
        step = yield from wait_for(durable, brood.key, Wait(children=(brood.key,)))
        if _has_to_run_again(brood, step):  # before this try, some were asked to stop
            step = yield from ask_for(durable, RunChildrenAgain(brood.key), brood.key)
    found: list[Any] = []
    while len(found) < step.total:
        children = yield from _collect_from(durable, brood.key, len(found))
        if not children:
            raise StepChanged(brood.key, f"its child number {len(found) + 1:,} is gone")
        found += (_result_of(brood, child) for child in children)
    return found


def _collect_from(durable: Durable, key: str, first: int) -> Operation[tuple[Child, ...]]:
    durable.begin()
    request = CollectChildren(key, first)
    try:
        answer = take(durable, request, (yield request))
    finally:
        durable.end()
    assert isinstance(answer, Children)
    return answer.children


def _result_of(brood: Brood, child: Child) -> Any:
    """Return a child's result, or its failure. Raises ChildFailed, StepChanged."""
    if child.status is Status.COMPLETED:
        return read_stored(brood.key, brood.codec, child.result)
    failure = ChildFailed(child.task_id, child.error)
    if not brood.may_fail:
        raise failure
    return failure


def first_id(durable: Durable, brood: Brood) -> Operation[UUID]:
    """Start one child, and return its id."""
    yield from start(durable, brood)
    children = yield from _collect_from(durable, brood.key, 0)
    return children[0].task_id
