"""The dashboard over a store of very many ended tasks: how long its pages take, and how large the first view is."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin

from bench import fill, lists, load
from bench.measures import Plan, percentile
from bench.report import Row
from bench.servers import TASKER, Server, running, temporary_folder

_WARM = 3
_PACKED, _GZIP = "Accept-Encoding: gzip", b"\x1f\x8b"
_ASKED, _ASKED_FILTER = 200, 40
"""How often a page is asked for, and a list with one filter."""
_FIRST_VIEW_BYTES, _FIRST_VIEW_REQUESTS = 40_000, 6
_ASSET = re.compile(rb'<(?:link rel="stylesheet" href|script src|img src)="([^"]+)"')


class _Kind(NamedTuple):
    """A kind of page: the most milliseconds that its slowest address may take (p95), and the addresses."""

    name: str
    most: float
    asked: int
    paths: list[str]


def pages(plan: Plan) -> list[Row]:
    """The p95 of the overview, the list, a task and every filter, one request at a time; the size of the first view."""
    rows: list[Row] = []
    for count in plan.ended:
        with temporary_folder(plan.disk) as full:
            fill.history(full, count)
            with running(TASKER, plan.disk, folder=full) as server:
                rows += [_row(kind, count, server) for kind in _kinds(server.port)]
                first = _first_view(server.port)
    return [*rows, *first]


def _kinds(port: int) -> list[_Kind]:
    overviews = [f"/ui/?window={window}" for window in ("15m", "1h", "24h", "7d", "30d")]
    found = [_page_of(port, query) for query in ("status=completed", "status=failed", "type=rare", "limit=50")]
    newest = found[-1]
    tasks = [f"/ui/task/{page['items'][-1]['task_id']}" for page in found if page["items"]]
    return [
        _Kind("overview", 20, _ASKED, overviews),
        _Kind("list", 15, _ASKED, ["/ui/tasks", f"/ui/tasks?cursor={newest['next_cursor']}"]),
        _Kind("task", 10, _ASKED, tasks),
        _Kind("list with a filter", 50, _ASKED_FILTER, [f"/ui/tasks?{query}" for query in _filters(port)]),
    ]


def _page_of(port: int, query: str) -> dict[str, Any]:
    return dict(json.loads(load.fetch(port, f"/task?{query}")))


def _filters(port: int) -> list[str]:
    """Return the filters of the lists of the API, and those that only the dashboard's addresses have."""
    now = datetime.now(UTC)
    day, week = ((now - timedelta(days=days)).isoformat() for days in (1, 7))
    [failure, *_] = json.loads(load.fetch(port, "/failure?window=24h"))["items"]
    more: list[dict[str, str]] = [
        {"since": "15m"}, {"since": "24h", "status": "failed"}, {"since": "7d", "type": "none"},
        {"ended_after": day}, {"ended_before": week}, {"ended_after": week, "ended_before": day, "queue": "rare"},
        {"type": "sum,rare"}, {"type": "none,rare", "queue": "bulk,rare"}, {"q": "unknown column"}, {"q": "nowhere"},
        {"q": "nowhere", "type": "sum"}, {"error": failure["failure_id"]},
        {"error": failure["failure_id"], "tag": "import"},
        {"error": "0000000000000000"}, {"schedule": "00000000-0000-7000-8000-000000000000"},
    ]  # fmt: skip
    return [*filter(None, lists.queries()), *map(urlencode, more)]


def _row(kind: _Kind, count: int, server: Server) -> Row:
    before = server.cpu_seconds()
    took = {path: _times(server.port, path, kind.asked) for path in kind.paths}
    cpu = (server.cpu_seconds() - before) / len(took) / (kind.asked + _WARM) * 1000
    p95 = {path: percentile(times, 95) for path, times in took.items()}
    slowest = max(p95, key=lambda path: p95[path])
    detail = (
        f"{slowest}: p50 {percentile(took[slowest], 50):.1f} ms; of {len(p95)} addresses the middle one"
        f" {percentile(sorted(p95.values()), 50):.1f} ms, {cpu:.1f} ms of processor time each"
    )
    return Row(f"dashboard, {count:,} tasks: {kind.name}, p95", p95[slowest], "ms", kind.most, "at most", detail)


def _times(port: int, path: str, number: int) -> list[float]:
    """Return the milliseconds of each request for a page, in order, over one connection."""
    took: list[float] = []

    def on_reply(status: int, body: bytes, seconds: float) -> None:
        if status != 200 or not body.startswith(_GZIP):
            raise load.LoadError(f"GET {path} gave {status} {body[:200]!r}")
        took.append(seconds * 1000)

    with load.Client(port, 1) as client:
        client.exchange([load.get(path, _PACKED)] * (_WARM + number), on_reply, until=float("inf"))
    return sorted(took[_WARM:])


def _first_view(port: int) -> list[Row]:
    """What a browser that knows nothing yet loads for the list: the page, its scripts and styles; its stream."""
    connection = http.client.HTTPConnection(load.HOST, port)
    page, sizes = "/ui/tasks", dict[str, int]()
    for path in [page, *_assets_of(connection, page)]:
        sizes[path] = len(_packed(connection, path))
    connection.close()
    detail = ", ".join(f"{path.rpartition('/')[2].partition('?')[0]} {size:,}" for path, size in sizes.items())
    return [
        Row("dashboard, first view: bytes, gzip", sum(sizes.values()), "bytes", _FIRST_VIEW_BYTES, "at most", detail),
        Row("  requests, with the stream", len(sizes) + 1, "", _FIRST_VIEW_REQUESTS, "at most"),
    ]


def _assets_of(connection: http.client.HTTPConnection, page: str) -> Iterable[str]:
    connection.request("GET", page)
    body = connection.getresponse().read()
    return dict.fromkeys(urljoin(page, found.decode()) for found in _ASSET.findall(body))


def _packed(connection: http.client.HTTPConnection, path: str) -> bytes:
    """Return the body of a reply as it is sent to a browser."""
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    reply = connection.getresponse()
    body = reply.read()
    if reply.status != 200 or reply.headers["Content-Encoding"] != "gzip":
        raise load.LoadError(f"GET {path} gave {reply.status}, not packed")
    return body


MEASURES: dict[str, Callable[[Plan], list[Row]]] = {"pages": pages}
