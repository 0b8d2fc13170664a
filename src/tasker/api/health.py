"""The operations for probes and Prometheus: liveness, readiness, metrics."""

from __future__ import annotations

from dataclasses import replace

from msgspec import UNSET

from tasker.api.calls import Call
from tasker.api.operation import Answer, Operation, get, ok, operations_of
from tasker.api.replies import Reply, json_reply, text_reply
from tasker.clock import Clock
from tasker.metrics import Metrics
from tasker.service import Service
from tasker.wire.health import Live, Ready


class HealthOperations:
    """Answer probes and Prometheus."""

    tag = "health"

    def __init__(self, service: Service, clock: Clock, metrics: Metrics) -> None:
        self._service = service
        self._clock = clock
        self._metrics = metrics

    @get("/livez", "Whether the process answers", ok("It does.", Live), scope="public")
    async def is_alive(self, _: Call) -> Reply:
        return json_reply(Live())

    @get(
        "/readyz",
        "Whether the service can do its work",
        {200: Answer("It can.", Ready), 503: Answer("It cannot now.", Ready)},
        scope="public",
    )
    async def is_ready(self, call: Call) -> Reply:
        found = await self._service.readiness.run()
        caller = call.caller
        checks = found.checks if caller.may("read") and self._service.queues.shows_load(caller) else UNSET
        return json_reply(Ready(ready=found.ready, checks=checks), 200 if found.ready else 503)

    @get(
        "/metrics",
        "Figures for Prometheus",
        ok("Prometheus text.", str),
        scope="admin",
        media=Metrics.content_type,
        usual=False,
    )
    async def get_metrics(self, _: Call) -> Reply:
        partitions = await self._service.queues.stats()
        return text_reply(self._metrics.render(partitions, self._clock.now()), self._metrics.content_type)


def health_operations(health: HealthOperations, *, public_load: bool) -> list[Operation]:
    """Return its operations. The figures are of everybody's tasks: for admins, unless the load is public."""
    operations = operations_of(health)
    if not public_load:
        return operations
    return [replace(one, scope="read") if one.scope == "admin" else one for one in operations]
