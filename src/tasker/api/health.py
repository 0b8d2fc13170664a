"""Whether the service lives, whether it can work, and how it does."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from tasker.api.calls import Call
from tasker.api.replies import Reply, json_reply, text_reply
from tasker.clock import Clock
from tasker.metrics import Metrics
from tasker.service import Service


class LiveView(Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


class ReadyView(Struct, frozen=True, kw_only=True):
    """Whether the service can do its work; `checks`, shown to those who may see all, has "ok" or what is wrong."""

    ready: bool
    checks: dict[str, str] | UnsetType = UNSET


class HealthOperations:
    """What probes and Prometheus ask for."""

    def __init__(self, service: Service, clock: Clock, metrics: Metrics) -> None:
        self._service = service
        self._clock = clock
        self._metrics = metrics

    async def live(self, _: Call) -> Reply:
        return json_reply(LiveView())

    async def ready(self, call: Call) -> Reply:
        found = await self._service.readiness.run()
        caller = call.caller
        checks = found.checks if caller.may("read") and self._service.queues.shows_load(caller) else UNSET
        return json_reply(ReadyView(ready=found.ready, checks=checks), 200 if found.ready else 503)

    async def metrics(self, _: Call) -> Reply:
        lines = await self._service.queues.stats()
        return text_reply(self._metrics.render(lines, self._clock.now()), self._metrics.content_type)
