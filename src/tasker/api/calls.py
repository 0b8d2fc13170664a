"""One request as a handler sees it: its path, query, preferences and body, and whether the client still waits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec

from tasker.api.bodies import BodyReader
from tasker.api.buffers import Buffer, Buffers
from tasker.api.problems import Refused
from tasker.api.replies import ClientGone, Head, Header, Receive, Scope, gone
from tasker.clock import to_utc
from tasker.errors import Fault, Invalid, NotFound
from tasker.model.keys import Caller
from tasker.requests.submissions import RunAt

MAX_WAIT = 60
"""The most seconds that one request may wait for a task."""
_MAX_PARAMETERS = 200
MAX_VALUES = 50
"""Limit of the texts that a parameter gives."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_WAIT = re.compile(rb'(?:^|[,;\s])wait\s*=\s*"?([^,;"\s]*)', re.IGNORECASE)
_VALIDATE = re.compile(rb'(?:^|[,;\s])handling\s*=\s*"?validate"?\s*(?:[,;]|$)', re.IGNORECASE)
VALIDATED: Header = (b"preference-applied", b"handling=validate")
_TRACE = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_DIGITS = re.compile(r"[0-9]{1,1000}")  # int() refuses longer ones
_T = TypeVar("_T")


class Parameter(NamedTuple):
    """A query parameter: `read` parses its text, or raises ValueError with what was expected.

    many: it may be repeated, or given once with commas; its value is a tuple, with each of them once. most:
    limit of these.
    """

    name: str
    description: str
    schema: dict[str, Any]
    read: Callable[[str], Any]
    many: bool = False
    most: int | None = None


class Call:
    """A request that the guards admitted, for one operation. unread: counts replies that clients have not read yet."""

    __slots__ = ("_bodies", "_buffer", "_parameters", "_scope", "head", "receive", "unread")

    def __init__(
        self, scope: Scope, receive: Receive, parameters: Sequence[Parameter], bodies: BodyReader, unread: Buffers
    ) -> None:
        self._scope = scope
        self.receive = receive
        self.unread = unread
        self._parameters = parameters
        self._bodies = bodies
        self._buffer: Buffer | None = None
        self.head: Head = scope["tasker"]

    @property
    def caller(self) -> Caller:
        """The authenticated caller."""
        return self.head.caller

    @property
    def path(self) -> dict[str, str]:
        """The parameters in the path, by name."""
        return self._scope["path_params"]  # type: ignore[no-any-return]

    @property
    def query_string(self) -> str:
        """The query as it was sent."""
        return self._scope["query_string"].decode("latin-1")  # type: ignore[no-any-return]

    @property
    def media(self) -> str:
        """The media type of the body, without its parameters."""
        return self.head.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()

    def id_of(self, name: str) -> UUID:
        """Return an id in the path, in the usual 36 characters. Raises NotFound."""
        text = self.path[name]
        if not _UUID.fullmatch(text):
            raise NotFound(f"{text[:50]!r} is no {name.replace('_', ' ')}")
        return msgspec.convert(text, UUID)  # takes a sixth of the time of UUID(text)

    def task_id(self) -> UUID:
        return self.id_of("task_id")

    def query(self) -> dict[str, Any]:
        """Return the given query parameters. Raises Invalid with every fault, each at `/` and the parameter's name."""
        return read_query(self._scope["query_string"], self._parameters)

    async def body(self) -> bytes:
        """Return the whole body. Raises Refused when it is too large or comes too slowly."""
        length = self.head.headers.get(b"content-length")
        body, self._buffer = await self._bodies.read(self.receive, length, self.caller.owner)
        return body

    def forget_body(self) -> None:
        """Stop counting the body: it is no longer needed."""
        if self._buffer is not None:
            self._buffer.close()

    async def unless_gone(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of `work`; cancel it and raise ClientGone when the client closes the connection.

        The body is no longer counted, so the caller must not hold it.
        """
        self.forget_body()
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone(self.receive))
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGone
            return working.result()
        finally:
            working.cancel()
            leaving.cancel()


def read_query(query_string: bytes, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the given parameters, typed. Raises Invalid with every fault."""
    if not query_string:
        return {}
    given: dict[str, list[str]] = {}
    faults: list[Fault] = []
    for name, text in _pairs(query_string):
        given.setdefault(name, []).append(text)
    known = {parameter.name: parameter for parameter in parameters}
    values = {}
    for name, texts in given.items():
        parameter = known.get(name)
        if parameter is None:
            faults.append(Fault(f"/{name[:100]}", "unknown query parameter"))
            continue
        try:
            values[name] = _read_parameter(parameter, texts)
        except ValueError as error:
            faults.append(Fault(f"/{name}", str(error)))
    if faults:
        name = "unknown-field" if all(f.detail == "unknown query parameter" for f in faults) else "invalid-request"
        raise Invalid("; ".join(f"?{f.pointer[1:]}: {f.detail}" for f in faults[:3]), name=name, faults=faults)
    return values


def _pairs(query_string: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:  # not ASCII, not percent-encoded UTF-8, or too many
        raise Invalid("the query is not percent-encoded UTF-8, or has too many parameters") from None


def _read_parameter(parameter: Parameter, texts: list[str]) -> Any:
    if parameter.many:
        parts = dict.fromkeys(part for text in texts for part in text.split(","))
        if parameter.most is not None and len(parts) > parameter.most:
            raise ValueError(f"expected at most {parameter.most} values, got {len(parts)}")
        return tuple(parameter.read(part) for part in parts)
    if len(texts) > 1:
        raise ValueError("expected once, got more")
    return parameter.read(texts[0])


def one_of(*names: str) -> Callable[[str], str]:
    """Return a parser of one of these words."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError("expected " + " or ".join(names))
        return text

    return read


def text_of(most: int) -> Callable[[str], str]:
    """Return a parser of 1 to `most` characters."""

    def read(text: str) -> str:
        if not 1 <= len(text) <= most or "\0" in text:
            raise ValueError(f"expected 1 to {most} characters")
        return text

    return read


def text_parameter(name: str, description: str) -> Parameter:
    """Return a parameter of 1 to 100 characters."""
    return Parameter(name, description, {"type": "string", "minLength": 1}, text_of(100))


def texts_parameter(name: str, description: str) -> Parameter:
    """Return a parameter of one or more texts of 1 to 100 characters."""
    schema = {"type": "array", "items": {"type": "string", "minLength": 1}}
    return Parameter(name, description, schema, text_of(100), many=True, most=MAX_VALUES)


def choices_parameter(
    name: str, description: str, choices: Iterable[str], kind: Callable[[str], Any] = str
) -> Parameter:
    """Return a parameter of one or more of these words, read as values of a kind."""
    names = [str(one) for one in choices]
    read = one_of(*names)
    schema = {"type": "array", "items": {"type": "string", "enum": names}}
    return Parameter(name, description, schema, lambda text: kind(read(text)), many=True)


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low`; `high` stands for any larger one."""

    def read(text: str) -> int:
        if not _DIGITS.fullmatch(text) or int(text) < low:
            raise ValueError(f"expected a whole number from {low}")
        return min(int(text), high)

    return read


def uuid_of(text: str) -> UUID:
    """Parse a UUID in its usual 36 characters. Raises ValueError."""
    if not _UUID.fullmatch(text):
        raise ValueError("expected a UUID, like 01a20c8b-c777-7774-af49-131c21b859b2")
    return UUID(text)


def moment(text: str) -> datetime:
    """Parse an RFC 3339 time with a zone. Raises ValueError."""
    try:
        # An unescaped + in a query is a space; no time has one before its zone.
        given = msgspec.convert(text.replace(" ", "+"), RunAt)
    except msgspec.ValidationError:
        raise ValueError("expected an RFC 3339 time with a zone, like 2026-01-31T12:00:00Z") from None
    return to_utc(given)


wait_parameter = Parameter(
    "wait",
    f"Seconds to wait for the task to end, at most {MAX_WAIT}; the same as `Prefer: wait=N`.",
    {"type": "integer", "minimum": 0},
    whole(0, MAX_WAIT),
)


class Wait(NamedTuple):
    """How long the client wants to wait, and the header that confirms it (RFC 7240)."""

    time: timedelta
    applied: tuple[Header, ...]


def preferred_wait(call: Call, query: dict[str, Any]) -> Wait | None:
    """Return the wait that `?wait=` asks for, or else `Prefer: wait=`; None without either.

    Raises Invalid for a preference that is not a whole number.
    """
    seconds = query.get("wait")
    if seconds is None:
        prefer = call.head.headers.get(b"prefer")
        found = _WAIT.search(prefer) if prefer is not None else None
        if found is None:
            return None
        try:
            seconds = whole(0, MAX_WAIT)(found[1].decode("latin-1"))
        except ValueError as error:
            raise Invalid(f"Prefer: wait: {error}") from None
    return Wait(timedelta(seconds=seconds), ((b"preference-applied", b"wait=%d" % seconds),))


def idempotency_key(call: Call) -> str | None:
    """Return the Idempotency-Key of this request, or None. Raises Refused for an invalid one."""
    key = call.head.headers.get(b"idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255 or min(key) < 0x21 or max(key) > 0x7E:
        raise Refused("bad-request", "expected an Idempotency-Key of 1 to 255 visible ASCII characters")
    return key.decode("ascii")


def trace_of(call: Call) -> str | None:
    """Return the `traceparent` of a request, or None if it is missing or invalid (W3C Trace Context, 3.2)."""
    given = call.head.headers.get(b"traceparent")
    if given is None or _TRACE.fullmatch(given) is None:
        return None
    return given.decode("ascii")


def prefers_validation(call: Call) -> bool:
    """Tell whether the client wants its submission only checked: `Prefer: handling=validate`."""
    prefer = call.head.headers.get(b"prefer")
    return prefer is not None and _VALIDATE.search(prefer) is not None
