"""The ASGI application: the list of all operations, a route for each of their paths, and the guards before them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import NoReturn

from tasker.api.accepts import accepts
from tasker.api.access import AccessLog
from tasker.api.audit import AuditOperations, Recorder, is_audited
from tasker.api.auth import Gate
from tasker.api.batches import BATCH_LINES, BatchOperations
from tasker.api.bodies import BodyReader, crowded_out
from tasker.api.buffers import Buffers
from tasker.api.bulk import BulkOperations
from tasker.api.calls import Call
from tasker.api.catalogue import TypeOperations
from tasker.api.docs import DocsOperations
from tasker.api.events import EventOperations
from tasker.api.failures import FailureOperations
from tasker.api.feed import FeedOperations
from tasker.api.fleet import FleetOperations
from tasker.api.groups import GroupOperations
from tasker.api.guards import Body, Guard, Rules
from tasker.api.health import HealthOperations, health_operations
from tasker.api.keys import KeyOperations
from tasker.api.openapi import make_document
from tasker.api.operation import Operation, operations_of
from tasker.api.problems import Refused, method_not_allowed
from tasker.api.queues import QueueOperations
from tasker.api.replies import (
    ASGIApp,
    ClientGone,
    Head,
    Receive,
    Scope,
    Send,
    Stream,
    empty_reply,
    send_reply,
    send_stream,
)
from tasker.api.routes import Routes
from tasker.api.schedules import ScheduleOperations
from tasker.api.stats import StatsOperations
from tasker.api.steps import StepOperations
from tasker.api.tasks import TaskOperations
from tasker.api.usage import UsageOperations
from tasker.api.webhooks import WebhookOperations
from tasker.clock import Clock, SystemClock
from tasker.config.settings import Settings
from tasker.errors import Forbidden, NotFound
from tasker.metrics import Metrics
from tasker.model import keys
from tasker.service import Service

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def build_app(
    service: Service, settings: Settings, metrics: Metrics, clock: Clock | None = None, *, gate: Gate | None = None
) -> ASGIApp:
    """Return the REST API of `service`. gate: one that other faces share, made if None."""
    clock = clock or SystemClock()
    operations = make_operations(service, metrics, clock, settings)
    return _guarded(operations, service, settings, metrics, gate or make_gate(service, settings, clock))


def build_probes(service: Service, settings: Settings, metrics: Metrics, clock: Clock | None = None) -> ASGIApp:
    """Return the probes of a worker: /livez, /readyz and /metrics, behind the same guards."""
    clock = clock or SystemClock()
    health = HealthOperations(service, clock, metrics)
    operations = health_operations(health, public_load=settings.public_load)
    return _guarded(operations, service, settings, metrics, make_gate(service, settings, clock))


def make_gate(service: Service, settings: Settings, clock: Clock) -> Gate:
    """Return what identifies callers and limits their rate."""
    token = None if settings.token is None else settings.token.get_secret_value().encode()
    return Gate(service.keys, settings.auth, token, clock)


def make_operations(service: Service, metrics: Metrics, clock: Clock, settings: Settings) -> list[Operation]:
    """Return every operation, resource by resource; each resource declares its own at its handlers."""
    made = lru_cache(maxsize=1)(lambda _version: make_document(operations, service.registry))
    events, steps = EventOperations(service), StepOperations(service, clock)
    health = HealthOperations(service, clock, metrics)
    operations = [
        *operations_of(TaskOperations(service, clock, events, steps)),
        *operations_of(steps),
        *operations_of(BatchOperations(service, max_line=settings.max_body, max_size=settings.max_batch)),
        *operations_of(BulkOperations(service)),
        *operations_of(GroupOperations(service)),
        *operations_of(events),
        *operations_of(FeedOperations(service.feed)),
        *operations_of(FailureOperations(service.failures)),
        *operations_of(ScheduleOperations(service, clock)),
        *operations_of(TypeOperations(service)),
        *operations_of(FleetOperations(service, clock, silent_after=settings.lease)),
        *operations_of(WebhookOperations(service.webhooks, settings.url_rules)),
        *operations_of(UsageOperations(service.usage, service.budgets)),
        *operations_of(StatsOperations(service.stats)),
        *operations_of(KeyOperations(service.keys)),
        *operations_of(AuditOperations(service.audit)),
        *operations_of(QueueOperations(service.queues, clock)),
        *health_operations(health, public_load=settings.public_load),
        *operations_of(DocsOperations(lambda: made(service.registry.version))),
    ]
    return operations


def _guarded(
    operations: Sequence[Operation], service: Service, settings: Settings, metrics: Metrics, gate: Gate
) -> ASGIApp:
    """Return the application that answers these operations, behind the guards."""
    rules = Rules(
        allowed_hosts=hosts_of(settings),
        max_body=settings.max_body,
        bodies={"/batch": Body(BATCH_LINES, settings.max_batch, "TASKER_MAX_BATCH")},
    )
    bodies = BodyReader(settings.max_body, Buffers(settings.max_buffered))
    app = dispatch_to(operations, bodies, Buffers(settings.max_buffered), Recorder(service.audit))
    guard = Guard(app, rules, gate, metrics)
    return AccessLog(guard) if settings.access_log else guard


def hosts_of(settings: Settings) -> frozenset[bytes]:
    """Return the host names under which the service answers."""
    return frozenset(host.lower().encode() for host in settings.allowed_hosts)


def dispatch_to(operations: Sequence[Operation], bodies: BodyReader, unread: Buffers, recorder: Recorder) -> ASGIApp:
    """Return the application that hands a request to the endpoint of its path."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    routes = Routes({path: Endpoint(own, bodies, unread, recorder) for path, own in by_path.items()})

    def dispatch(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        route = routes.find(path) if path.isprintable() else None
        if route is None:
            return _not_found(scope, receive, send)
        scope["path_params"] = route.parameters
        return route.target(scope, receive, send)

    return dispatch


class Endpoint:
    """ASGI: the operations of one path. A 405 for any other method names the allowed ones."""

    def __init__(
        self, operations: Sequence[Operation], bodies: BodyReader, unread: Buffers, recorder: Recorder
    ) -> None:
        self._by_method = {operation.method: operation for operation in operations}
        self._audited = {operation.method for operation in operations if is_audited(operation)}
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]
        self._allowed = tuple(method for method in _METHODS if method in self._by_method or method == "OPTIONS")
        self._bodies = bodies
        self._unread = unread
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head: Head = scope["tasker"]
        operation = self._by_method.get(head.method)
        if operation is None:
            return await self._answer_other(head, send)
        head.operation = operation.name
        needed = operation.scope
        # The guards have checked that there is a valid key where one is needed.
        if needed != "public" and needed != "any" and not head.caller.may(needed):
            await self._refuse(needed, scope, head, operation)
        _check_accept(head, operation)
        call = Call(scope, receive, operation.parameters, self._bodies, self._unread)
        try:
            audited = head.method in self._audited
            reply = await (self._recorder.do(operation, call) if audited else operation.handler(call))
            if isinstance(reply, Stream):
                if reply.watched:  # else the stream is made from the body
                    call.forget_body()
                await send_stream(send, receive, head, reply, self._unread)
            else:
                await send_reply(send, head, reply, self._unread)
        except asyncio.CancelledError:
            if self._bodies.buffers.was_cut_off():
                raise crowded_out() from None
            if self._unread.was_cut_off():
                raise ClientGone from None
            raise
        finally:
            call.forget_body()
            # Clear the marks of a cut-off that came just as the request ended.
            self._bodies.buffers.was_cut_off()
            self._unread.was_cut_off()

    async def _answer_other(self, head: Head, send: Send) -> None:
        """Answer a method without an operation. Raises Refused for any but OPTIONS."""
        if head.method != "OPTIONS":
            raise method_not_allowed(head.method, self._allowed)
        # No Access-Control header: this ends the preflight of a page of another origin.
        await send_reply(send, head, empty_reply(204, (b"allow", ", ".join(self._allowed).encode())))

    async def _refuse(self, needed: keys.Scope, scope: Scope, head: Head, operation: Operation) -> NoReturn:
        """Refuse what the key may not do. Raises Forbidden."""
        if head.method in self._audited:
            await self._recorder.refused(operation, head, scope["path_params"], 403)
        raise Forbidden(needed)


def _check_accept(head: Head, operation: Operation) -> None:
    accept = head.headers.get(b"accept")
    if accept is None or accept == b"*/*" or any(accepts(accept, media) for media in operation.medias):
        return
    raise Refused("not-acceptable", f"the reply is {' or '.join(operation.medias)}, which Accept leaves out")


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    method = scope["method"]
    if method not in _METHODS:
        raise method_not_allowed(method, _METHODS)
    raise NotFound("there is nothing at this path")
