"""Queues: what waits in them, and their limits."""

from __future__ import annotations

from msgspec import Struct

from tasker.wire.shapes import Moment


class Rate(Struct, frozen=True, kw_only=True):
    """At most `limit` units of weight start in each `per` seconds, evenly; `burst` may start at once after a pause."""

    limit: int
    per: float
    burst: int


class PausedBy(Struct, frozen=True, kw_only=True):
    """Who paused a queue: the owner, and the name of the key; null without one."""

    owner: str
    key: str | None


class Queue(Struct, frozen=True, kw_only=True):
    """The open tasks of a queue and its settings: `pending` are due, `scheduled` wait for a moment.

    Without an admin's key only one's own tasks count, unless the service shows everybody's (`TASKER_PUBLIC_LOAD`).

    `load`: tasks that need a worker now, pending and running together as far as pause and `concurrency` let them;
    autoscalers go by it. `oldest_wait`: seconds that the longest-waiting due task has waited, null without one.
    `concurrency`, `concurrency_per_key` and `rate` are null where there is no such limit. `shared_keys`: whether owners
    share their concurrency keys. `paused_at`: when it was paused, `paused_by`: by whom, which only an admin sees; null
    if unknown, or if it is not paused.
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
    rate: Rate | None = None
    shared_keys: bool = False
    paused_at: Moment | None = None
    paused_by: PausedBy | None = None


class QueuePage(Struct, frozen=True, kw_only=True):
    """Queues with open tasks or settings, by name."""

    items: list[Queue]
    next_cursor: str | None = None
