"""Pages of lists: their size, their cursor, and the link to the next page."""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from tasker.api.calls import Call, Parameter, text_of, whole
from tasker.api.replies import Header, Reply, json_reply
from tasker.errors import Fault, Invalid
from tasker.model.pages import PageOf

T = TypeVar("T")
DEFAULT_LIMIT = 50
MAX_LIMIT = 500


def page_parameters(things: str) -> tuple[Parameter, Parameter]:
    """Return the query parameters of a list."""
    return (
        Parameter(
            "limit",
            f"The most {things} in the page; default {DEFAULT_LIMIT}, and never more than {MAX_LIMIT}.",
            {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
            whole(1, MAX_LIMIT),
        ),
        Parameter("cursor", "`next_cursor` of the previous page, for the next one.", {"type": "string"}, text_of(1000)),
    )


def list_query(call: Call) -> dict[str, Any]:
    """Return the query of a list, with its limit."""
    return {"limit": DEFAULT_LIMIT, **call.query()}


def page_reply(call: Call, path: str, page: Any) -> Reply:
    """Return a page of the list at this path, with a link to the next page."""
    return json_reply(page, 200, *next_link(call, path, page.next_cursor))


def show_page(call: Call, path: str, shown: Callable[..., Any], page: PageOf[T], view: Callable[[T], Any]) -> Reply:
    """Convert a page to a page of `shown`, each item by `view`."""
    items = [view(item) for item in page.items]
    return page_reply(call, path, shown(items=items, next_cursor=page.next_cursor))


def name_cursor(name: str) -> str:
    """Return the cursor of the page after a name, for lists in order of names."""
    return urlsafe_b64encode(name.encode()).decode()


def after_name(cursor: str | None, pattern: str) -> str | None:
    """Return the name in such a cursor. Raises Invalid for any other."""
    if cursor is None:
        return None
    try:
        name = b64decode(cursor, altchars=b"-_", validate=True).decode()
    except ValueError:
        name = ""
    if not re.fullmatch(pattern, name):
        fault = Fault("/cursor", "expected the next_cursor of an earlier page")
        raise Invalid("the cursor is not one that this service gave out", faults=[fault])
    return name


def next_link(call: Call, path: str, cursor: str | None) -> tuple[Header, ...]:
    """Return the Link header (RFC 8288) to the next page: the same query with the cursor."""
    if cursor is None:
        return ()
    same = [pair for pair in parse_qsl(call.query_string) if pair[0] != "cursor"]
    return ((b"link", f'<{path}?{urlencode([*same, ("cursor", cursor)])}>; rel="next"'.encode()),)
