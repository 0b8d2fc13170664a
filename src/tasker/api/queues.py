"""The operations on queues: what waits in them, pause and resume, limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tasker.api.calls import Call
from tasker.api.operation import get, ok, patch
from tasker.api.pages import after_name, list_query, name_cursor, page_parameters, page_reply
from tasker.api.replies import Reply, json_reply
from tasker.clock import Clock
from tasker.errors import NotFound
from tasker.model import PartitionStats, queue_name_pattern
from tasker.model.keys import ANYBODY, Caller
from tasker.model.queues import QueueSettings, Rate
from tasker.requests.queues import QueuePatch, read_queue_change
from tasker.service.queues import Queues
from tasker.wire import queues as wire
from tasker.wire.shapes import show


@dataclass
class QueueOperations:
    """Read, pause, resume and limit queues."""

    tag = "queues"

    _queues: Queues
    _clock: Clock

    @get(
        "/queue",
        "List the queues that hold open tasks or are limited",
        ok("A page of their depths and limits.", wire.QueuePage, ("Link",)),
        parameters=page_parameters("queues"),
    )
    async def list_queues(self, call: Call) -> Reply:
        query = list_query(call)
        limit = query["limit"]
        after = after_name(query.get("cursor"), queue_name_pattern)
        found = await self._queues.find_names(call.caller, after=after, limit=limit + 1)
        names = found[:limit]
        settings, partitions = await self._queues.settings(names), await self._queues.stats(call.caller, names)
        own: dict[str, list[PartitionStats]] = {}
        for partition in partitions:
            own.setdefault(partition.queue, []).append(partition)
        items = [self._view(call.caller, name, own.get(name, ()), settings.get(name)) for name in names]
        cursor = name_cursor(names[-1]) if len(found) > limit else None
        return page_reply(call, "/queue", wire.QueuePage(items=items, next_cursor=cursor))

    @get(
        "/queue/{name}",
        "Read the depth and the limits of a queue",
        ok("Its depth, zero where nothing waits.", wire.Queue),
    )
    async def get_queue(self, call: Call) -> Reply:
        """Return a queue, whether it has tasks or not: autoscalers ask before the first task and after the last."""
        call.query()
        name = _name_of(call)
        settings = (await self._queues.settings([name])).get(name)
        return json_reply(self._view(call.caller, name, await self._queues.stats(call.caller, [name]), settings))

    @patch(
        "/queue/{name}",
        "Pause, resume or limit a queue",
        ok("The queue as it is now, for all workers.", wire.Queue),
        scope="admin",
        problems=("limit-reached",),
        body=QueuePatch,
        example={"concurrency": 10, "rate": {"limit": 90_000, "per": 60}},
    )
    async def change_queue(self, call: Call) -> Reply:
        call.query()
        name = _name_of(call)
        settings = await self._queues.change(call.caller, name, read_queue_change(await call.body()))
        return json_reply(self._view(call.caller, name, await self._queues.stats(call.caller, [name]), settings))

    def _view(
        self, caller: Caller, name: str, partitions: Sequence[PartitionStats], settings: QueueSettings | None
    ) -> wire.Queue:
        return view_of(settings or QueueSettings(name=name), partitions, self._clock.now(), caller)


def view_of(
    settings: QueueSettings, partitions: Sequence[PartitionStats], now: datetime, caller: Caller = ANYBODY
) -> wire.Queue:
    """Return a queue as the caller sees it, from its own partitions."""
    oldest = min((one.oldest_due_at for one in partitions if one.oldest_due_at is not None), default=None)
    pending, running = sum(one.pending for one in partitions), sum(one.running for one in partitions)
    return show(
        wire.Queue,
        settings,
        pending=pending,
        scheduled=sum(one.scheduled for one in partitions),
        running=running,
        load=_load(settings, pending, running),
        oldest_wait=None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        rate=_rate_view(settings.rate),
        paused_at=None if settings.pause is None else settings.pause.at,
        paused_by=show(wire.PausedBy, settings.pause) if settings.pause and caller.may("admin") else None,
    )


def _load(settings: QueueSettings, pending: int, running: int) -> int:
    if settings.paused:
        return running
    most = pending + running
    return most if settings.concurrency is None else max(running, min(most, settings.concurrency))


def _rate_view(rate: Rate | None) -> wire.Rate | None:
    return None if rate is None else show(wire.Rate, rate, per=rate.per.total_seconds())


def _name_of(call: Call) -> str:
    name = call.path["name"]
    if not re.fullmatch(queue_name_pattern, name):
        raise NotFound(f"there is no queue {name[:100]!r}")
    return name
