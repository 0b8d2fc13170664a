"""What the functions of tasks ask of the service about their steps, and what it answers.

`Context` asks; the worker answers (`Stepper`). On a loop these are calls, from a child process they are frames; so all
of them are plain values. Times are the service's: a function passes durations.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, Protocol

from msgspec import Struct

from tasker.model.steps import Child, Step, Wait

StepEvent = Literal["step_started", "step_failed"]
"""`step_completed` is stored by the service, together with the step."""

CHILDREN_AT_ONCE = 500
"""Most children in one StartChildren; the params of all of them take at most BYTES_AT_ONCE, unless it is one alone."""
BYTES_AT_ONCE = 128 * 1024


class Request(Struct, frozen=True, array_like=True, tag=str.lower):
    """A request about the steps of the running attempt."""


class StoreStep(Request, frozen=True):
    """Store the result of a step (JSON text), which took `took` seconds. Answer: Steps with the step."""

    key: str
    name: str
    value: bytes
    took: float


class Sleep(Request, frozen=True):
    """Begin a sleep, unless it is stored: for `delay`, or until a time. Answer: Steps with the step."""

    key: str
    name: str
    delay: timedelta | None = None
    until: datetime | None = None


class Ask(Request, frozen=True):
    """Ask a question, unless it is stored. Answer: Steps with the step.

    question: JSON text of a Question, whose parts no msgpack frame can hold as they are.
    """

    key: str
    name: str
    question: bytes
    timeout: timedelta | None = None


class CloseQuestion(Request, frozen=True):
    """End the time of a question; `default` is JSON text. Answer: Steps with the step, which may have an answer."""

    key: str
    default: bytes | None = None


class ChildOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options of submissions that a parent may give its children; None for the type's own."""

    queue: str | None = None
    priority: int | None = None
    delay: timedelta | None = None
    timeout: timedelta | None = None
    concurrency_key: str | None = None
    tags: tuple[str, ...] = ()


class StartChildren(Request, frozen=True):
    """Start children of one type, of the places from `first` on, unless they are stored. Answer: Steps with the step.

    params: JSON texts, arrays or objects, as in submissions. total: of all chunks of the step.
    """

    key: str
    name: str
    type_name: str
    params: tuple[bytes, ...]
    first: int
    total: int
    max_in_flight: int | None = None
    is_detached: bool = False
    options: ChildOptions | None = None


class RunChildrenAgain(Request, frozen=True):
    """Retry the failed and cancelled children of a step. Answer: Steps with the step."""

    key: str


class CollectChildren(Request, frozen=True):
    """Read the children of a step from the place `first` on. Answer: Children; go on after the last of them."""

    key: str
    first: int = 0


class Await(Request, frozen=True):
    """Wait in memory, for at most `patience` seconds, until something of `wait` is there.

    Answer: Steps, of those that are there; with `wait.until` reached, also the sleeps and questions of `keys` whose
    time is over. None of them if the patience is over.
    """

    wait: Wait
    keys: tuple[str, ...]
    patience: float


class Answer(Struct, frozen=True, array_like=True, tag=str.lower):
    """An answer of the service."""


class Steps(Answer, frozen=True):
    steps: tuple[Step, ...]


class Children(Answer, frozen=True):
    children: tuple[Child, ...]


class Refused(Answer, frozen=True):
    """Nothing was done, for this reason; `problem` is a row of PROBLEMS."""

    problem: str
    detail: str


class Superseded(Answer, frozen=True):
    """The attempt is no longer the current one: its function has to end."""


AnyRequest = StoreStep | Sleep | Ask | CloseQuestion | StartChildren | RunChildrenAgain | CollectChildren | Await
AnyAnswer = Steps | Children | Refused | Superseded


class Stepper(Protocol):
    """Answers the requests of one attempt, on the service's loop. stored: the steps at its beginning."""

    stored: tuple[Step, ...]

    async def answer(self, request: AnyRequest) -> AnyAnswer:
        """Answer a request. Never raises, except CancelledError; waits while the store is unavailable."""


class Parking(BaseException):
    """Unwinds a function that has to wait, or whose attempt is superseded. `except Exception` does not catch it.

    wait: what the task waits for; None if the attempt is superseded.
    """

    def __init__(self, wait: Wait | None) -> None:
        super().__init__("the task waits, and goes on later in another attempt")
        self.wait = wait
