"""How a page is declared: the table of pages, the visit that a handler gets, and the form of a post.

A resource is a class whose handlers are decorated with their pages (`@show("/tasks", ...)`, `@act("/task/{task_id}/
cancel", deed="cancel_task", ...)`), as the operations of the API are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from tasker.api.calls import Call, Parameter
from tasker.api.operation import HTML, Operation
from tasker.api.problems import Refused
from tasker.api.replies import Reply, Stream
from tasker.errors import Invalid
from tasker.model.keys import Caller, Scope
from tasker.web.sessions import cookie_of

ROOT = "/ui"
FORM = "application/x-www-form-urlencoded"
ANY_MEDIA = "*/*"
"""Of the static files."""
_MAX_FIELDS = 10_000
_H = TypeVar("_H", bound=Callable[..., Awaitable[Reply | Stream]])


class Form(NamedTuple):
    """The fields of a posted form, in order."""

    pairs: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of a field."""
        return next((value for key, value in self.pairs if key == name), default)

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value of a field."""
        return tuple(value for key, value in self.pairs if key == name)


class Visit(NamedTuple):
    """A request for a page: its query, typed; its form, if it is a post; the time at which it is answered.

    base: the relative address of the pages' folder, "" at `/ui/` and `/ui/tasks`, "../" at `/ui/task/1`: behind a proxy
    nobody here knows its prefix.
    """

    call: Call
    query: dict[str, Any]
    form: Form
    now: datetime
    base: str

    @property
    def caller(self) -> Caller:
        return self.call.caller

    @property
    def is_signed_in(self) -> bool:
        """Whether a cookie says who it is: then clients of the API need a key."""
        return bool(cookie_of(self.call.head))

    @property
    def path(self) -> dict[str, str]:
        """The parameters in the path, by name."""
        return self.call.path


async def _no_handler(_: Visit) -> Reply | Stream:
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Page:
    """A page, or a post that does something. As a decorator it declares its handler.

    path: below /ui. scope, parameters: as of an Operation. deed: the id of the API's operation that does the same: the
    audit log names it so. tag: "tasks" for submissions, which are not audited. is_audited: False for a post that
    changes nothing. nav, icon: the text of its link in the navigation, None for none, and its icon.
    """

    method: str
    path: str
    scope: Scope | Literal["any", "public"] = "read"
    parameters: Sequence[Parameter] = ()
    deed: str = ""
    tag: str = ""
    is_audited: bool = True
    media: str = HTML
    nav: str | None = None
    icon: str = ""
    name: str = ""
    handler: Callable[[Visit], Awaitable[Reply | Stream]] = _no_handler

    def __call__(self, handler: _H) -> _H:
        """Declare a resource's handler."""
        vars(handler)["page"] = self
        return handler

    @property
    def base(self) -> str:
        return base_of(ROOT + self.path)

    def operation(self, handler: Callable[[Call], Awaitable[Reply | Stream]]) -> Operation:
        """Return it as an operation, which the endpoints of the API answer: with its checks, audit and limits."""
        return Operation(
            self.method,
            ROOT + self.path,
            self.nav or self.name,
            {},
            scope=self.scope,
            parameters=self.parameters,
            media=self.media,
            tag=self.tag,
            is_audited=self.is_audited and self.scope != "public",
            name=self.deed or f"ui_{self.name}",
            documented=False,
            handler=handler,
        )


show = partial(Page, "GET")
act = partial(Page, "POST")


def pages_of(resource: object) -> list[Page]:
    """Return the pages of a resource, in the order of its handlers."""
    declared = {name: vars(member).get("page") for name, member in vars(type(resource)).items() if callable(member)}
    return [
        replace(page, name=name, handler=getattr(resource, name)) for name, page in declared.items() if page is not None
    ]


def base_of(path: str) -> str:
    """Return the relative address of the folder of pages, as seen from a page, or from above them."""
    if path in ("/", ROOT):
        return f"{ROOT[1:]}/"
    return "../" * max(0, path.count("/") - 2)


async def read_form(call: Call) -> Form:
    """Return the form in a body. Raises Refused, Invalid."""
    if call.media not in (FORM, ""):
        raise Refused("unsupported-media-type", f"expected Content-Type: {FORM}")
    body = await call.body()
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Invalid("the form is not percent-encoded UTF-8, or has too many fields") from None
    return Form(tuple((name, value.replace("\r\n", "\n")) for name, value in pairs))
