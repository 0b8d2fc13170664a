"""The frame of all pages: templates, navigation, headers; and pages in place of problems."""

from __future__ import annotations

import gzip
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any, NamedTuple, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from msgspec import UNSET

from tasker.api.calls import Call, read_query
from tasker.api.problems import Refused, to_problem
from tasker.api.replies import Head, Header, Reply, Scope, Stream, empty_reply
from tasker.clock import Clock
from tasker.errors import RequestError, Unavailable
from tasker.model.keys import Caller
from tasker.release import release
from tasker.web import charts, texts, times
from tasker.web.assets import load_assets
from tasker.web.page import ANY_MEDIA, Form, Page, Visit, base_of, read_form
from tasker.web.sessions import Sessions, cookie_of

CONTENT_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: tuple[Header, ...] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", CONTENT_POLICY),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"vary", b"accept-encoding"),
)
_MEDIA: Header = (b"content-type", b"text/html; charset=utf-8")
_SMALL = 1400
"""Bytes up to which a page fits into one packet: packing it gains nothing."""
_PACK_LEVEL = 4
_PACKED = re.compile(rb"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))")


class Link(NamedTuple):
    """A link of the navigation. key: the name of its page."""

    key: str
    text: str
    icon: str
    href: str


class Frame:
    """Renders pages. engine: the name of the store, for the foot of the page."""

    def __init__(self, sessions: Sessions, clock: Clock, *, engine: str) -> None:
        self.sessions = sessions
        self.clock = clock
        self._engine = engine
        self.pages: tuple[Page, ...] = ()
        self._assets = load_assets()
        self._templates = make_templates()

    def add(self, pages: Sequence[Page]) -> None:
        """Add pages to the table, from which the navigation comes."""
        self.pages += tuple(pages)

    def handler(self, page: Page) -> Callable[[Call], Awaitable[Reply | Stream]]:
        """Return the handler of a page, as an operation of the API has it: reads the query and the form first."""

        async def handle(call: Call) -> Reply | Stream:
            query = read_query(_filled(call.query_string, page).encode("latin-1"), page.parameters)
            form = await read_form(call) if page.method == "POST" else Form()
            if page.media != ANY_MEDIA:  # the static files are served while the store is away, too
                await self.sessions.ready()
            if page.method == "POST" and page.scope != "public":
                self.sessions.check_token(call.head, form.get("token"))
            return await page.handler(Visit(call, query, form, self.clock.now(), page.base))

        return handle

    def render(self, visit: Visit, template: str, *, page: str, status: int = 200, **data: Any) -> Reply:
        """Return a page. page: the name of the page that the navigation marks."""
        return self._page(visit.call.head, visit.base, template, page=page, status=status, now=visit.now, **data)

    def part(self, template: str, name: str, **data: Any) -> Markup:
        """Return what a macro of a template makes, as a part of a page. The macro takes `data` by name, and no more."""
        return cast(Markup, getattr(self._templates.get_template(template).module, name)(**data))

    def see(self, visit: Visit, where: str, *headers: Header) -> Reply:
        """Return the way to another page after a post. where: below the folder of pages."""
        location = visit.base + where or "./"
        return empty_reply(
            303, (b"location", location.encode("ascii", "xmlcharrefreplace")), *PAGE_HEADERS[2:], *headers
        )

    def attachment(self, text: bytes, name: str) -> Reply:
        """Return a text to be saved as a file, never shown."""
        own = (
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-disposition", f'attachment; filename="{name}"'.encode()),
        )
        return Reply(200, text, (*own, *PAGE_HEADERS))

    def refuse(self, error: RequestError, scope: Scope) -> Reply:
        """Return the page for an error: the sign-in page if a key is missing, else one that says what is wrong."""
        head: Head = scope["tasker"]
        problem = to_problem(error, head.request_id)
        base, again = base_of(scope["path"]), _seconds_until(error)
        headers = _kept_headers(error, again)
        if problem.status == 401:
            where = _own_address(scope) if head.method in ("GET", "HEAD") else ""
            return self._page(
                head, base, "signin.html", page="signin", status=401, headers=headers, refusal="", where=where
            )
        return self._page(
            head,
            base,
            "error.html",
            page="error",
            status=problem.status,
            headers=headers,
            problem=problem,
            advice=error.kind.advice if problem.status == HTTPStatus.GONE else "",
            faults=problem.errors if problem.errors is not UNSET else (),
            again=again if head.method == "GET" else None,
        )

    def _page(
        self,
        head: Head,
        base: str,
        template: str,
        *,
        page: str,
        status: int,
        headers: tuple[Header, ...] = (),
        **data: Any,
    ) -> Reply:
        context = {
            "page": page,
            "base": base,
            "nav": self._nav(head.caller),
            "caller": head.caller,
            "signed_in": bool(cookie_of(head)) and head.caller.may("read"),
            "token": self.sessions.token(head),
            "release": release().partition("+")[0],
            "engine": self._engine,
            "asset": lambda name: f"{base}static/{self._assets.address(name)}",
            "host": head.headers.get(b"host", b"localhost").decode("latin-1"),
            "now": self.clock.now(),
            "live": None,
            **data,
        }
        body = self._templates.get_template(template).render(context).encode("utf-8", "backslashreplace")
        return _packed(Reply(status, body, (_MEDIA, *PAGE_HEADERS, *headers)), head)

    def _nav(self, caller: Caller) -> list[Link]:
        """Return the links to the pages that the caller may see."""
        return [
            Link(page.name, page.nav, page.icon, page.path.lstrip("/") or "./")
            for page in self.pages
            if page.nav is not None and caller.scopes and _is_open(page, caller)
        ]


def _filled(query: str, page: Page) -> str:
    """Return a query without the page's empty parameters: a form sends the fields that nobody filled in too."""
    names = {parameter.name for parameter in page.parameters}
    return "&".join(pair for pair in query.split("&") if not (pair[-1:] == "=" and pair[:-1] in names))


def _is_open(page: Page, caller: Caller) -> bool:
    """Tell whether a caller may see a page."""
    return page.scope == "any" or page.scope == "public" or caller.may(page.scope)


def make_templates() -> Environment:
    """Return the templates: every value is escaped, and an unknown name is an error."""
    made = Environment(
        loader=PackageLoader("tasker.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "ago": times.ago,
        "capped": times.capped,
        "clock": times.clock,
        "duration": times.duration,
        "full": times.full,
        "iso": times.iso,
        "json_line": texts.json_line,
        "line": texts.line,
        "minute": times.minute,
        "number": times.number,
        "plain": texts.plain,
        "span": times.span,
    }
    made.globals |= {name: getattr(charts, name) for name in charts.__all__}
    return made


def _packed(reply: Reply, head: Head) -> Reply:
    """Return a reply with its body as gzip, if the client takes that."""
    if len(reply.body) <= _SMALL or not takes_gzip(head):
        return reply
    body = gzip.compress(reply.body, _PACK_LEVEL, mtime=0)
    return reply._replace(body=body, headers=(*reply.headers, (b"content-encoding", b"gzip")))


def takes_gzip(head: Head) -> bool:
    """Tell whether the client takes gzip."""
    return _PACKED.search(head.headers.get(b"accept-encoding", b"")) is not None


def _seconds_until(error: RequestError) -> int | None:
    """Return the seconds after which asking again makes sense, None if it does not."""
    if error.retry_after is not None:
        return max(1, ceil(error.retry_after.total_seconds()))
    given = next((value for name, value in _own(error) if name == b"retry-after"), None)
    if given is not None:
        return int(given)
    return 5 if isinstance(error, Unavailable) or (error.kind.status or 500) == 503 else None


def _kept_headers(error: RequestError, again: int | None) -> tuple[Header, ...]:
    kept = tuple(header for header in _own(error) if header[0] != b"retry-after")
    return kept if again is None else (*kept, (b"retry-after", b"%d" % again))


def _own(error: RequestError) -> tuple[Header, ...]:
    return error.headers if isinstance(error, Refused) else ()


def _own_address(scope: Scope) -> str:
    """Return the address of the page that was asked for, below the folder of pages."""
    path = scope["path"].removeprefix("/ui").lstrip("/")
    query = scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else str(path)
