"""The ASGI application of the pages: the table of all pages, behind the same guards as the API."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from tasker.api.access import AccessLog
from tasker.api.app import dispatch_to, hosts_of
from tasker.api.audit import Recorder
from tasker.api.auth import Gate
from tasker.api.bodies import BodyReader
from tasker.api.buffers import Buffers
from tasker.api.calls import Call
from tasker.api.guards import Body, Guard, Rules
from tasker.api.operation import Operation
from tasker.api.replies import ASGIApp, Receive, Reply, Scope, Send, empty_reply
from tasker.clock import Clock
from tasker.config.settings import Settings
from tasker.metrics import Metrics
from tasker.service import Service
from tasker.web.all_steps import StepPages
from tasker.web.audit import AuditPages
from tasker.web.bulk import BulkPages
from tasker.web.frame import Frame
from tasker.web.groups import GroupPages
from tasker.web.keys import KeyPages
from tasker.web.live import Live
from tasker.web.overview import OverviewPages
from tasker.web.page import FORM, ROOT, Page, pages_of
from tasker.web.questions import QuestionPages
from tasker.web.queues import QueuePages
from tasker.web.schedules import SchedulePages
from tasker.web.sessions import Sessions
from tasker.web.signin import SignInPages
from tasker.web.task import OneTaskPages
from tasker.web.tasks import TaskPages
from tasker.web.tree import TreePages
from tasker.web.types import TypePages
from tasker.web.usage import UsagePages
from tasker.web.webhooks import WebhookPages
from tasker.web.workers import WorkerPages


def make_pages(frame: Frame, service: Service, settings: Settings, live: Live) -> list[Page]:
    """Return every page, in the order of the navigation; each resource declares its own at its handlers."""
    return [
        *pages_of(OverviewPages(frame, service, live, silent_after=settings.lease)),
        *pages_of(TaskPages(frame, service, live)),
        *pages_of(TreePages(frame, service, live)),
        *pages_of(StepPages(frame, service)),
        *pages_of(OneTaskPages(frame, service)),
        *pages_of(TypePages(frame, service)),
        *pages_of(QueuePages(frame, service, live)),
        *pages_of(SchedulePages(frame, service)),
        *pages_of(QuestionPages(frame, service, live)),
        *pages_of(GroupPages(frame, service, live)),
        *pages_of(WorkerPages(frame, service, live, silent_after=settings.lease)),
        *pages_of(WebhookPages(frame, service, settings.url_rules)),
        *pages_of(KeyPages(frame, service)),
        *pages_of(AuditPages(frame, service)),
        *pages_of(UsagePages(frame, service)),
        *pages_of(BulkPages(frame, service, live)),
        *pages_of(SignInPages(frame)),
    ]


def build_web(service: Service, settings: Settings, metrics: Metrics, clock: Clock, gate: Gate) -> ASGIApp:
    """Return the pages of `service`. gate: that of the API, so that both count wrong keys together."""
    sessions = Sessions(service.keys, gate, clock)
    frame = Frame(sessions, clock, engine="SQLite" if settings.database_url is None else "PostgreSQL")
    frame.add(make_pages(frame, service, settings, Live(service.feed)))
    max_body = settings.max_body
    rules = Rules(
        allowed_hosts=hosts_of(settings), max_body=max_body, form=Body((FORM.encode(),), max_body, "TASKER_MAX_BODY")
    )
    bodies = BodyReader(max_body, Buffers(settings.max_buffered))
    app = dispatch_to(operations_of(frame), bodies, Buffers(settings.max_buffered), Recorder(service.audit))
    guard = Guard(app, rules, sessions, metrics, frame.refuse)
    return AccessLog(guard) if settings.access_log else guard


def operations_of(frame: Frame) -> Sequence[Operation]:
    """Return the operations that answer the pages, and the way from / to them."""
    return [*(page.operation(frame.handler(page)) for page in frame.pages), _FROM_ROOT]


def mount(api: ASGIApp, web: ASGIApp) -> ASGIApp:
    """Return the application that sends browsers to the pages and everything else to the API."""

    def dispatch(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path: str = scope.get("path", "")
        is_page = path.startswith(ROOT) and path[len(ROOT) : len(ROOT) + 1] in ("", "/")
        if is_page or (path == "/" and _is_browser(scope)):
            return web(scope, receive, send)
        return api(scope, receive, send)

    return dispatch


def _is_browser(scope: Scope) -> bool:
    """Tell whether the client wants a page: a browser says so, curl does not."""
    return scope["method"] in ("GET", "HEAD") and any(
        name == b"accept" and b"text/html" in value for name, value in scope["headers"]
    )


async def _to_pages(_: Call) -> Reply:
    return empty_reply(307, (b"location", b"ui/"), (b"vary", b"accept"))


_FROM_ROOT = Operation(
    "GET", "/", "To the pages", {}, scope="public", media="*/*", documented=False, name="ui_root", handler=_to_pages
)
