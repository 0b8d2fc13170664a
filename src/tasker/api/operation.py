"""What an operation of the API is: a row of the table in operations.py, and what many rows have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from tasker.api.calls import Call, Parameter
from tasker.api.replies import Reply, Stream
from tasker.model.keys import Scope

HTML = "text/html"


class Answer(NamedTuple):
    """A reply that is no problem: what it means, the type of its body (None: empty), and the headers worth telling.

    item: what a stream brings one by one, where it may come as one; of several types, any. receipt: the body where the
    key lacks the scope `read`, if it is another one then.
    """

    description: str
    body: Any = None
    headers: tuple[str, ...] = ()
    item: Any = None
    receipt: type[Struct] | None = None


class Operation(NamedTuple):
    """One thing that a client can ask for.

    request_headers, and `headers` of the answers, are names of rows in openapi.py; `problems` of rows in PROBLEMS.
    scope: what the caller's key must have; "any": whatever key, for what tells nothing of anybody's tasks; "public":
    none, for the paths of auth.PUBLIC_PATHS alone. media is what its replies are; streams are the media types that a
    200 may also come as, event by event; page: whether a browser
    gets an HTML page instead. body: a struct, or "submission" (SubmissionBody), or "batch" (many of these),
    or "params" (of the task type in the path); example: such a body;
    is_optional: it may be left out.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    handler: Callable[[Call], Awaitable[Reply | Stream]]
    answers: dict[int, Answer]
    scope: Scope | Literal["any", "public"]
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

    @property
    def public(self) -> bool:
        return self.scope == "public"

    @property
    def medias(self) -> tuple[str, ...]:
        return (self.media, *self.streams, *((HTML,) if self.page else ()))


BODY_PROBLEMS = (
    "malformed-json", "too-deep", "duplicate-key", "bad-request", "request-timeout", "payload-too-large",
    "unsupported-media-type", "unsupported-encoding",
)  # fmt: skip
INPUT_PROBLEMS = (
    "invalid-request", "unknown-field", "invalid-params", "number-out-of-range", "invalid-unicode", "too-many-items",
)  # fmt: skip
SUBMIT_PROBLEMS = (
    *BODY_PROBLEMS, *INPUT_PROBLEMS, "cross-origin", "budget-exhausted", "expired", "idempotency-in-flight",
    "idempotency-key-reuse", "not-unique", "limit-reached", "queue-full", "unavailable",
)  # fmt: skip
