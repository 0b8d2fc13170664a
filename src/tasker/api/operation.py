"""Operations of the API, and the decorators by which a resource declares them at its handlers.

A resource is a class whose handlers are decorated with their operations (`@get("/task/{task_id}", ...)`), from which
come the routes, the OpenAPI document and the docs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from tasker.api.calls import Call, Parameter
from tasker.api.replies import Reply, Stream
from tasker.model.keys import Scope

HTML = "text/html"
_H = TypeVar("_H", bound=Callable[..., Awaitable[Reply | Stream]])


BODY_PROBLEMS = (
    "malformed-json",
    "too-deep",
    "duplicate-key",
    "bad-request",
    "request-timeout",
    "invalid-request",
    "unknown-field",
    "number-out-of-range",
    "invalid-unicode",
    "too-many-items",
)
"""Problems of every operation with a body."""
WRITE_PROBLEMS = ("cross-origin", "payload-too-large", "unsupported-media-type", "unsupported-encoding")
"""Problems of every operation but GET: the guards check the headers of a body even if the operation ignores it."""
STORE_PROBLEMS = ("invalid-params", "budget-exhausted", "expired", "not-unique", "limit-reached", "queue-full")
"""Problems of every submission of a task."""
SUBMIT_PROBLEMS = (*STORE_PROBLEMS, "idempotency-in-flight", "idempotency-key-reuse")
"""Problems of submissions with an Idempotency-Key."""
TYPE_PROBLEMS = ("unknown-type", "type-not-loaded")
"""Problems of bodies that name a task type."""


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
    """An operation of the API. As a decorator it declares its handler; the handler's name is the operation's id.

    scope: the scope that the caller's key needs. "any": any key, for operations that show nothing of anybody's tasks.
    "public": no key; allowed only for auth.PUBLIC_PATHS.
    problems: names in PROBLEMS, besides the usual ones (see `all_problems`).
    request_headers, and `headers` of the answers: names of headers in openapi.py.
    body: a struct, or "submission" (SubmissionBody), "batch" (many of these), or "params" (of the type in the path).
    example: of the body. is_optional: the body may be left out.
    media: the media type of replies. streams: media types of a 200 that is sent event by event. page: whether a browser
    gets an HTML page instead. is_audited: False for what the audit log leaves out although it is no GET.
    """

    method: str
    path: str
    summary: str
    answers: dict[int, Answer]
    scope: Scope | Literal["any", "public"] = "read"
    problems: tuple[str, ...] = ()
    usual: bool = True
    parameters: Sequence[Parameter] = ()
    request_headers: tuple[str, ...] = ()
    body: Literal["submission", "batch", "params"] | type[Struct] | None = None
    example: Any = None
    is_optional: bool = False
    media: str = "application/json"
    streams: tuple[str, ...] = ()
    page: bool = False
    is_audited: bool = True
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

    @property
    def all_problems(self) -> tuple[str, ...]:
        """Its own problems, and the usual ones of its kind unless it is public or `usual` is False."""
        if self.public or not self.usual:
            return self.problems
        of_body = BODY_PROBLEMS if self.body is not None else ()
        of_query = ("invalid-request",) if self.parameters else ()
        of_path = ("not-found",) if "{" in self.path else ()
        of_write = WRITE_PROBLEMS if self.method != "GET" else ()
        return (*of_path, *of_query, *of_body, *self.problems, "unknown-field", *of_write, "unavailable")

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


def ok(
    description: str,
    body: Any = None,
    headers: tuple[str, ...] = (),
    item: Any = None,
    receipt: type[Struct] | None = None,
) -> dict[int, Answer]:
    """Return the answers of an operation that has a 200 alone."""
    return {200: Answer(description, body, headers, item, receipt)}


get = partial(Operation, "GET")
post = partial(Operation, "POST")
patch = partial(Operation, "PATCH")
delete = partial(Operation, "DELETE")
