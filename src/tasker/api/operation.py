"""What an operation of the API is, and how a resource declares its operations beside their handlers.

A resource is a class whose handlers are decorated with their Operation; `operations_of` returns its table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from tasker.api.calls import Call, Parameter
from tasker.api.replies import Reply, Stream
from tasker.model.keys import Scope

HTML = "text/html"
_H = TypeVar("_H", bound=Callable[..., Awaitable[Reply | Stream]])


class Answer(NamedTuple):
    """A reply that is not a problem: its meaning, the type of its body (None: empty), and its documented headers.

    item: the type of the items of a stream, if the reply may be one; several types in a tuple. receipt: the body for a
    key without the scope `read`, if it differs.
    """

    description: str
    body: Any = None
    headers: tuple[str, ...] = ()
    item: Any = None
    receipt: type[Struct] | None = None


async def _no_handler(_: Call) -> Reply:
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a client can ask for; as a decorator it declares the handler, whose name is the operation's id.

    scope: what the caller's key must have; "any": any key will do, for operations that show nothing of anybody's tasks;
    "public": no key, for the paths of auth.PUBLIC_PATHS alone. request_headers, and `headers` of the answers, are names
    of rows in openapi.py; `problems` of rows in PROBLEMS. body: a struct, or "submission" (SubmissionBody), "batch"
    (many of these), or "params" (of the task type in the path); example: such a body; is_optional: the body may be left
    out. media: the media type of its replies; streams: those of a 200 that is sent event by event; page: whether a
    browser gets an HTML page instead.
    """

    method: str
    path: str
    summary: str
    answers: dict[int, Answer]
    scope: Scope | Literal["any", "public"] = "read"
    problems: tuple[str, ...] = ()
    parameters: Sequence[Parameter] = ()
    request_headers: tuple[str, ...] = ()
    body: Literal["submission", "batch", "params"] | type[Struct] | None = None
    example: Any = None
    is_optional: bool = False
    media: str = "application/json"
    streams: tuple[str, ...] = ()
    page: bool = False
    documented: bool = True
    tag: str = ""
    name: str = ""
    handler: Callable[[Call], Awaitable[Reply | Stream]] = _no_handler

    @property
    def public(self) -> bool:
        return self.scope == "public"

    @property
    def medias(self) -> tuple[str, ...]:
        return (self.media, *self.streams, *((HTML,) if self.page else ()))

    def __call__(self, handler: _H) -> _H:
        """Declare a resource's handler."""
        vars(handler)["operation"] = self
        return handler


class Resource(Protocol):
    """A class of handlers. tag: the section of the docs that its operations belong to."""

    tag: str


def operations_of(resource: Resource) -> list[Operation]:
    """Return a resource's operations, in the order of its handlers."""
    declared = {
        name: vars(member).get("operation") for name, member in vars(type(resource)).items() if callable(member)
    }
    return [
        replace(operation, tag=resource.tag, name=name, handler=getattr(resource, name))
        for name, operation in declared.items()
        if operation is not None
    ]


READ_PROBLEMS = ("unknown-field", "unavailable")
"""Of every operation that reads the store; queries are checked for unknown parameters."""
ONE_PROBLEMS = ("not-found", *READ_PROBLEMS)
"""Of operations on one thing, by its id."""
QUERY_PROBLEMS = ("invalid-request", *READ_PROBLEMS)
"""Of operations with query parameters."""
BODY_PROBLEMS = (
    "malformed-json",
    "too-deep",
    "duplicate-key",
    "bad-request",
    "request-timeout",
    "payload-too-large",
    "unsupported-media-type",
    "unsupported-encoding",
)
"""Of every operation with a body, before its members are read."""
INPUT_PROBLEMS = (
    "invalid-request",
    "unknown-field",
    "invalid-params",
    "number-out-of-range",
    "invalid-unicode",
    "too-many-items",
)
"""Of the members of a body."""
WRITE_PROBLEMS = (*BODY_PROBLEMS, *INPUT_PROBLEMS, "cross-origin", "unavailable")
"""Of operations that change something as their body says."""
SUBMIT_PROBLEMS = (
    *BODY_PROBLEMS,
    *INPUT_PROBLEMS,
    "cross-origin",
    "budget-exhausted",
    "expired",
    "idempotency-in-flight",
    "idempotency-key-reuse",
    "not-unique",
    "limit-reached",
    "queue-full",
    "unavailable",
)
"""Of every submission of tasks."""
TYPE_PROBLEMS = ("unknown-type", "type-not-loaded")
"""Of bodies that name a task type."""
