"""The operations on queues: what waits in them, pause and resume, limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from tasker.api.calls import Call
from tasker.api.operation import BODY_PROBLEMS, Answer, Operation
from tasker.api.pages import DEFAULT_LIMIT, after_name, name_cursor, next_link, page_parameters
from tasker.api.replies import Reply, json_reply
from tasker.clock import Clock
from tasker.errors import NotFound
from tasker.model import PartitionStats, queue_name_pattern
from tasker.model.queues import QueueSettings, Rate
from tasker.requests.queues import QueuePatch, read_queue_change
from tasker.service.queues import Queues


class RateView(Struct, frozen=True, kw_only=True):
    """At most `limit` units of weight start in each `per` seconds, evenly, and `burst` at once after a quiet while."""

    limit: int
    per: float
    burst: int


class QueueView(Struct, frozen=True, kw_only=True):
    """The open tasks of a queue and what is set of it: `pending` are due, `scheduled` wait for a moment.

    Without an admin's key they are one's own alone, unless the service tells of everybody's (`TASKER_PUBLIC_LOAD`).

    `load`: tasks that need a worker now, pending and running together as far as pause and `concurrency` let them;
    autoscalers go by it. `oldest_wait`: seconds that the longest-waiting due task has waited, null without one.
    `concurrency`, `concurrency_per_key` and `rate` are null where there is no such limit. `shared_keys`: whether owners
    share their concurrency keys.
    """

    name: str
    pending: int = 0
    scheduled: int = 0
    running: int = 0
    load: int = 0
    oldest_wait: float | None = None
    paused: bool = False
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate: RateView | None = None
    shared_keys: bool = False


class QueuePage(Struct, frozen=True, kw_only=True):
    """Queues with open tasks or settings, by name."""

    items: list[QueueView]
    next_cursor: str | None = None


class QueueOperations:
    """Handlers of what can be asked of queues."""

    def __init__(self, queues: Queues, clock: Clock) -> None:
        self._queues = queues
        self._clock = clock

    async def find_all(self, call: Call) -> Reply:
        query = call.query()
        limit = query.get("limit", DEFAULT_LIMIT)
        after = after_name(query.get("cursor"), queue_name_pattern)
        found = await self._queues.find_names(call.caller, after=after, limit=limit + 1)
        names = found[:limit]
        settings, lines = await self._queues.settings(names), await self._queues.stats(call.caller, names)
        own: dict[str, list[PartitionStats]] = {}
        for line in lines:
            own.setdefault(line.queue, []).append(line)
        items = [self._view(name, own.get(name, ()), settings.get(name)) for name in names]
        cursor = name_cursor(names[-1]) if len(found) > limit else None
        return json_reply(QueuePage(items=items, next_cursor=cursor), 200, *next_link(call, "/queue", cursor))

    async def get(self, call: Call) -> Reply:
        """A queue is there as soon as it is named: autoscalers ask before the first task and after the last."""
        call.query()
        name = _name_of(call)
        settings = (await self._queues.settings([name])).get(name)
        return json_reply(self._view(name, await self._queues.stats(call.caller, [name]), settings))

    async def change(self, call: Call) -> Reply:
        call.query()
        name = _name_of(call)
        settings = await self._queues.change(name, read_queue_change(await call.body()))
        return json_reply(self._view(name, await self._queues.stats(call.caller, [name]), settings))

    def _view(self, name: str, lines: Sequence[PartitionStats], settings: QueueSettings | None) -> QueueView:
        return view_of(settings or QueueSettings(name=name), lines, self._clock.now())


def view_of(settings: QueueSettings, lines: Sequence[PartitionStats], now: datetime) -> QueueView:
    """Return a queue as clients see it, from the lines that are its own."""
    oldest = min((line.oldest_due_at for line in lines if line.oldest_due_at is not None), default=None)
    pending, running = sum(line.pending for line in lines), sum(line.running for line in lines)
    return QueueView(
        name=settings.name, pending=pending, scheduled=sum(line.scheduled for line in lines), running=running,
        load=_load(settings, pending, running),
        oldest_wait=None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        paused=settings.paused, concurrency=settings.concurrency, concurrency_per_key=settings.concurrency_per_key,
        rate=_rate_view(settings.rate), shared_keys=settings.shared_keys,
    )  # fmt: skip


def _load(settings: QueueSettings, pending: int, running: int) -> int:
    if settings.paused:
        return running
    most = pending + running
    return most if settings.concurrency is None else max(running, min(most, settings.concurrency))


def _rate_view(rate: Rate | None) -> RateView | None:
    return None if rate is None else RateView(limit=rate.limit, per=rate.per.total_seconds(), burst=rate.burst)


def _name_of(call: Call) -> str:
    name = call.path["name"]
    if not re.fullmatch(queue_name_pattern, name):
        raise NotFound(f"there is no queue {name[:100]!r}")
    return name


def queue_operations(queues: QueueOperations) -> list[Operation]:
    """Return what can be asked of queues."""
    return [
        Operation(
            "GET", "/queue", "list_queues", "queues", "List the queues that hold open tasks or are limited",
            queues.find_all, scope="read",
            answers={200: Answer("A page of their depths and limits.", QueuePage, ("Link",))},
            problems=("invalid-request", "unknown-field", "unavailable"), parameters=page_parameters("queues"),
        ),
        Operation(
            "GET", "/queue/{name}", "get_queue", "queues", "Read the depth and the limits of a queue", queues.get,
            scope="read", answers={200: Answer("Its depth, zero where nothing waits.", QueueView)},
            problems=("not-found", "unknown-field", "unavailable"),
        ),
        Operation(
            "PATCH", "/queue/{name}", "change_queue", "queues", "Pause, resume or limit a queue", queues.change,
            scope="admin", answers={200: Answer("The queue as it is now, for all workers.", QueueView)},
            problems=(*BODY_PROBLEMS, "invalid-request", "unknown-field", "number-out-of-range", "invalid-unicode",
                      "too-many-items", "cross-origin", "not-found", "limit-reached", "unavailable"),
            body=QueuePatch, example={"concurrency": 10, "rate": {"limit": 90_000, "per": 60}},
        ),
    ]  # fmt: skip
