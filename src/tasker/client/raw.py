"""Replies as they came, with what a call of the client makes of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from tasker.client.core.effects import Reply
from tasker.client.driving import Last

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class RawResponse(Generic[R]):
    """The last reply to a call, and what the call returns."""

    reply: Reply
    value: R

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.reply.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by any case of their names."""
        return self.reply.headers

    @property
    def content(self) -> bytes:
        """The body."""
        return self.reply.content

    @property
    def request_id(self) -> str | None:
        """The id of the request in the log of the service."""
        return self.reply.headers.get("Request-Id")

    def parse(self) -> R:
        """Return what the same call without `with_raw_response` returns."""
        return self.value


class Recording(Protocol):
    """What has methods that return their replies as well."""

    def recording(self, last: Last) -> Any:
        """Return a client that gives `last` its replies."""


class Raw(Generic[P, R]):
    """A method of Tasker that returns its reply as well."""

    def __init__(self, method: Callable[Concatenate[Any, P], R]) -> None:
        self._method = method

    def __get__(self, owner: Recording, _: type[Any] | None = None) -> Callable[P, RawResponse[R]]:
        method = self._method

        @wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> RawResponse[R]:
            last = Last()
            return answered(last, method(owner.recording(last), *args, **kwargs))

        return call


class AsyncRaw(Generic[P, R]):
    """A method of AsyncTasker that returns its reply as well."""

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> None:
        self._method = method

    def __get__(self, owner: Recording, _: type[Any] | None = None) -> Callable[P, Coroutine[Any, Any, RawResponse[R]]]:
        method = self._method

        @wraps(method)
        async def call(*args: P.args, **kwargs: P.kwargs) -> RawResponse[R]:
            last = Last()
            return answered(last, await method(owner.recording(last), *args, **kwargs))

        return call


def answered(last: Last, value: R) -> RawResponse[R]:
    """Return a value with the reply that it came with."""
    assert last.reply is not None, "the call has sent no request"
    return RawResponse(last.reply, value)
