"""The pages for people: the docs (a vendored Swagger UI, so no other server is asked) and the kinds of problems."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from tasker.api.accepts import choose
from tasker.api.calls import Call
from tasker.api.operation import HTML, get, ok
from tasker.api.problems import explain_kind, find_kind
from tasker.api.replies import Header, Reply, empty_reply, json_reply, text_reply
from tasker.errors import PROBLEMS, NotFound, ProblemKind

# Only the service's own files: no inline script or style, no other origin, no frame around the page.
CONTENT_POLICY: Header = (
    b"content-security-policy",
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
PAGE_HEADERS: tuple[Header, ...] = (
    CONTENT_POLICY,
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_FILES = {
    "docs.css": ("docs.css", "text/css; charset=utf-8"),
    "docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css; charset=utf-8"),
}


PUBLIC_PATHS = frozenset(
    {"/", "/docs", *(f"/docs/{name}" for name in _FILES), *(f"/problems/{name}" for name in PROBLEMS)}
)
"""Served without a key, as they are the same for every service. The docs page fetches what it shows with a key."""


def read_static(path: str) -> bytes:
    """Return a file of the package's `static` folder."""
    return files("tasker.api").joinpath("static", path).read_bytes()


class DocsOperations:
    """Serve the docs. document: makes the OpenAPI document as JSON text."""

    tag = "docs"

    def __init__(self, document: Callable[[], bytes]) -> None:
        self._document = document

    @get("/openapi.json", "This document", ok("OpenAPI 3.1.", dict[str, Any]), scope="any", usual=False)
    async def get_openapi(self, _: Call) -> Reply:
        return text_reply(self._document(), "application/json")

    @get(
        "/problems/{name}",
        "What a kind of problem means",
        ok("What it means and what to do.", ProblemKind),
        scope="public",
        problems=("not-found",),
        page=True,
    )
    async def explain_problem(self, call: Call) -> Reply:
        """Explain a kind of problem: as a page for a browser, as JSON for other clients."""
        name = call.path["name"]
        kind = find_kind(name)
        if kind is None:
            raise NotFound(f"there is no problem {name[:100]!r}")
        if choose(call.head.headers.get(b"accept"), ("application/json", HTML)) == HTML:
            return text_reply(explain_kind(kind), "text/html; charset=utf-8", *PAGE_HEADERS)
        return json_reply(kind)

    @get("/", "To the docs", {}, scope="public", media="*/*", documented=False)
    async def index(self, _: Call) -> Reply:
        return empty_reply(307, (b"location", b"/docs"))

    @get("/docs", "Docs", {}, scope="public", media="text/html", documented=False)
    async def docs(self, _: Call) -> Reply:
        return text_reply(read_static("docs.html"), "text/html; charset=utf-8", *PAGE_HEADERS)

    @get("/docs/{file}", "Parts of the docs", {}, scope="public", media="*/*", documented=False)
    async def docs_file(self, call: Call) -> Reply:
        """Return one of the files that the page names, and never another."""
        found = _FILES.get(call.path["file"])
        if found is None:
            raise NotFound("there is no such file")
        return text_reply(read_static(found[0]), found[1], *PAGE_HEADERS, cache=b"public, max-age=3600")
