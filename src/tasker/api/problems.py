"""Turn errors into RFC 9457 problems, and explain each kind of problem."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from math import ceil

from msgspec import UNSET, structs

from tasker.api.replies import Header, Reply, encode
from tasker.errors import PROBLEMS, Fault, Forbidden, ProblemKind, RequestError, Unavailable
from tasker.model import TaskProblem
from tasker.validation.faults import MAX_FAULTS
from tasker.wire.problems import Problem


class Refused(RequestError):
    """A request refused because of its head or its body as a whole; `headers` go with the reply."""

    def __init__(self, name: str, detail: str, *headers: Header) -> None:
        super().__init__(detail, name=name)
        self.headers = headers


CLOSE: Header = (b"connection", b"close")
"""For replies to requests that are not read to their end."""


class BodyFault(Refused):
    """A body that did not arrive whole: too slow, cut off, or with invalid framing. Each one is logged."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(name, detail, CLOSE)


def body_too_large(most: int, setting: str) -> Refused:
    """Return the 413 for a body of more than `most` bytes, the limit that `setting` sets."""
    return Refused("payload-too-large", f"expected a body of at most {most:,} bytes, as {setting} allows", CLOSE)


def cut_off() -> BodyFault:
    """Return the 400 for a body that ended early, or whose chunks cannot be read."""
    return BodyFault("bad-request", "the body was cut off, or is not chunked as Transfer-Encoding says")


def too_slow(detail: str) -> BodyFault:
    """Return the 408 for a body that arrived too slowly."""
    return BodyFault("request-timeout", detail)


def method_not_allowed(method: str, allowed: Iterable[str]) -> Refused:
    """Return the 405 for a path that takes only `allowed`."""
    names = ", ".join(allowed)
    return Refused("method-not-allowed", f"{method[:20]} is not taken here, but {names}", (b"allow", names.encode()))


def problem_reply(error: RequestError, request_id: bytes) -> Reply:
    """Return `error` as application/problem+json, with the headers that its kind asks for."""
    problem = to_problem(error, request_id)
    return Reply(problem.status, encode(problem), PROBLEM_HEADERS + _own_headers(error))


def to_problem(error: RequestError, request_id: bytes) -> Problem:
    """Return `error` as it is sent."""
    faults = tuple(Fault(_sendable(fault.pointer), _sendable(fault.detail)) for fault in error.faults[:MAX_FAULTS])
    return Problem(
        type=f"/problems/{error.kind.name}",
        title=error.kind.title,
        status=error.kind.status or 500,
        detail=_sendable(error.detail),
        request_id=request_id.decode(),
        errors=faults or UNSET,
    )


def task_problem_reply(problem: TaskProblem, request_id: bytes) -> Reply:
    """Return why a task failed as the 422 of its missing result."""
    body = {**structs.asdict(problem), "status": 422, "request_id": request_id.decode()}
    return Reply(422, encode(body), PROBLEM_HEADERS)


PROBLEM_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"application/problem+json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


def _own_headers(error: RequestError) -> tuple[Header, ...]:
    headers = error.headers if isinstance(error, Refused) else ()
    if isinstance(error, Forbidden):  # RFC 6750, 3.1
        challenge = f'Bearer realm="tasker", error="insufficient_scope", scope="{error.scope}"'
        headers = ((b"www-authenticate", challenge.encode()),)
    if error.retry_after is not None:
        return (*headers, (b"retry-after", b"%d" % max(1, ceil(error.retry_after.total_seconds()))))
    if isinstance(error, Unavailable) or error.kind.name == "idempotency-in-flight":
        return (*headers, (b"retry-after", b"1"))
    return headers


def _sendable(text: str) -> str:
    """Return `text` as valid UTF-8: it may quote a lone surrogate of the input."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def find_kind(name: str) -> ProblemKind | None:
    """Return the kind of problem that /problems/{name} explains."""
    return PROBLEMS.get(name)


def explain_kind(kind: ProblemKind) -> bytes:
    """Return the page that explains `kind`, as HTML without anything active."""
    where = f"HTTP status {kind.status}" if kind.status else "Found in the <code>error</code> of a failed task"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(kind.title)}</title></head>\n<body><main><h1>{escape(kind.title)}</h1>\n"
        f"<p><code>{escape(kind.name)}</code>. {where}.</p>\n<p>{_with_code(kind.advice)}</p></main></body></html>\n"
    ).encode()


def _with_code(text: str) -> str:
    """Return text as HTML, with the parts between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
