"""Operations: generators that yield what has to be done, and get what came of it.

So one piece of logic serves `async def` and `def`: a context only carries out what an operation yields.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from tasker.errors import ChildrenRefused, Fail
from tasker.model.steps import Step, StepKind, Wait
from tasker.tasktypes.durable import Durable
from tasker.tasktypes.steps import AnyAnswer, AnyRequest, Await, Parking, Refused, StartChildren, Steps, Superseded

PATIENCE = 1.0
"""Seconds that a call waits in memory before the attempt parks."""
LONGEST_PATIENCE = 5.0
"""Seconds that a call waits at a time while a step of the function runs."""

_PASSING = ("internal", "unavailable")
"""Problems of refusals that another try may not meet."""

T = TypeVar("T")


class Invoke(Struct, frozen=True):
    """Call the function of a step, and await what it returns."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Pause(Struct, frozen=True):
    """Wait between two tries of a step."""

    seconds: float


Effect = AnyRequest | Invoke | Pause
Operation = Generator[Effect, Any, T]


def stored_or(durable: Durable, request: AnyRequest, key: str, kind: StepKind) -> Operation[Step]:
    """Return a stored step, or what comes of the request that stores it."""
    step = durable.find(key, kind)
    return step if step is not None else (yield from ask_for(durable, request, key))


def ask_for(durable: Durable, request: AnyRequest, key: str) -> Operation[Step]:
    """Make a request, as an active call; return its step."""
    durable.begin()
    try:
        return (yield from store(durable, request, key))
    finally:
        durable.end()


def store(durable: Durable, request: AnyRequest, key: str) -> Operation[Step]:
    """Make a request of a call that is active already; return its step."""
    step = _find_in(take(durable, request, (yield request)), key)
    if step is None:
        raise AssertionError(f"the answer has no step {key!r}")
    return step


def take(durable: Durable, request: AnyRequest, answer: AnyAnswer) -> AnyAnswer:
    """Return an answer, its steps remembered. Raises Parking, and ChildrenRefused or Fail with a refusal's problem."""
    if isinstance(answer, Steps):
        for step in answer.steps:
            durable.keep(step)
    elif isinstance(answer, Superseded):
        durable.stop()
        raise Parking(None)
    elif isinstance(answer, Refused):
        if isinstance(request, StartChildren) and answer.problem not in _PASSING:
            raise ChildrenRefused(answer.problem, answer.detail)
        raise Fail(answer.detail, retry=answer.problem in _PASSING, problem=answer.problem)
    return answer


def _find_in(answer: AnyAnswer, key: str) -> Step | None:
    assert isinstance(answer, Steps)
    return next((step for step in answer.steps if step.key == key), None)


def wait_for(durable: Durable, key: str, wait: Wait) -> Operation[Step]:
    """Wait for a step in memory; if that takes too long, park."""
    token = durable.begin_wait(wait)
    try:
        patience = PATIENCE
        while True:
            seen = durable.activity
            request = Await(wait, (key,), patience)
            answer = yield request
            durable.check()
            step = _find_in(take(durable, request, answer), key)
            if step is not None:
                return step
            durable.park(seen)
            patience = min(2 * patience, LONGEST_PATIENCE) if durable.is_busy else PATIENCE
    finally:
        durable.end_wait(token)
