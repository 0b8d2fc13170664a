"""The pages of queues: what waits in each, pause and resume, limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tasker.api.events import SSE
from tasker.api.pages import after_name, list_query, name_cursor, page_parameters
from tasker.api.replies import Reply, Stream
from tasker.errors import Fault, Invalid, NotFound
from tasker.model import PartitionStats, queue_name_pattern
from tasker.model.keys import Caller
from tasker.model.queues import QueueSettings, QueueState
from tasker.model.stats import Figures
from tasker.requests.queues import read_queue_change
from tasker.service import Service
from tasker.service.stats import Part
from tasker.web import texts, times
from tasker.web.fields import Field, controls, others, read_body
from tasker.web.frame import Frame
from tasker.web.live import Live
from tasker.web.page import Form, Visit, act, show

LATE = timedelta(minutes=1)
"""The oldest due task of a queue is late if it has waited this long."""
_MINUTES = 3
"""Minutes of the last hour that one bar stands for."""
LIMITS = (
    Field("concurrency", "number", "Attempts at a time. Empty: no limit.", empty="null"),
    Field("concurrency_per_key", "number", "Of one concurrency key of one owner. Empty: no limit.", empty="null"),
    Field("shared_keys", "flag", "All owners' tasks with the same concurrency key count together."),
    Field("rate/limit", "number", "Units of weight that may start in each “per”. Empty: no rate."),
    Field("rate/per", "number", "Seconds."),
    Field("rate/burst", "number", "Units that may start at once after a pause. Empty: a tenth of the limit."),
)


class Row(NamedTuple):
    """A queue in the table.

    slots: its limit, None without. tokens: part of its rate's bucket that is left, None for those who may not know.
    paused_by: for admins. ended, failed: tasks in each part of the last hour.
    """

    name: str
    pending: int
    scheduled: int
    running: int
    slots: int | None
    oldest: str
    is_late: bool
    rate: str
    tokens: float | None
    is_paused: bool
    paused_at: datetime | None
    paused_by: str
    types: list[PartitionStats]
    ended: list[int]
    failed: list[int]
    per_minute: str


class QueuePages:
    """Show and steer queues."""

    def __init__(self, frame: Frame, service: Service, live: Live) -> None:
        self._frame = frame
        self._queues = service.queues
        self._stats = service.stats
        self._live = live

    @show("/queues", parameters=page_parameters("queues"), nav="Queues", icon="queues")
    async def queues(self, visit: Visit) -> Reply:
        query = list_query(visit.call)
        rows, cursor = await self._page(visit.caller, query.get("cursor"), query["limit"], visit.now)
        again = {name: value for name, value in (("cursor", query.get("cursor")), ("limit", query["limit"])) if value}
        return self._frame.render(
            visit,
            "queues.html",
            page="queues",
            rows=rows,
            more=None if cursor is None else "?" + urlencode({"cursor": cursor}),
            live=f"live/queues?{urlencode(again)}",
        )

    @show("/live/queues", parameters=page_parameters("queues"), media=SSE)
    async def live_queues(self, visit: Visit) -> Stream:
        """Stream the table of queues as it changes."""
        caller, query = visit.caller, list_query(visit.call)
        cursor, limit, may = query.get("cursor"), query["limit"], caller.may("admin")

        async def render() -> dict[str, str]:
            now = self._frame.clock.now()
            rows, _ = await self._page(caller, cursor, limit, now)
            return {"queues": self._frame.part("queue_parts.html", "table", rows=rows, now=now, base="", may=may)}

        return self._live.board(visit, ("queues", caller.only, may, cursor, limit), render)

    @show("/queue/{name}")
    async def queue(self, visit: Visit) -> Reply:
        return await self._show(visit, _name_of(visit))

    @act("/queue/{name}/pause", scope="admin", deed="change_queue")
    async def pause(self, visit: Visit) -> Reply:
        return await self._change(visit, b'{"paused":true}')

    @act("/queue/{name}/resume", scope="admin", deed="change_queue")
    async def resume(self, visit: Visit) -> Reply:
        return await self._change(visit, b'{"paused":false}')

    @act("/queue/{name}/limits", scope="admin", deed="change_queue")
    async def limit(self, visit: Visit) -> Reply:
        """Set the limits. A refused form is shown again with what was wrong."""
        try:
            return await self._change(visit, read_body(LIMITS, visit.form))
        except Invalid as error:
            return await self._show(visit, _name_of(visit), visit.form, error)

    async def _change(self, visit: Visit, body: bytes) -> Reply:
        name = _name_of(visit)
        await self._queues.change(visit.caller, name, read_queue_change(body))
        return self._frame.see(visit, f"queue/{name}")

    async def _show(self, visit: Visit, name: str, form: Form | None = None, error: Invalid | None = None) -> Reply:
        row = await self._row(visit.caller, name, visit.now)
        settings = (await self._queues.settings([name])).get(name) or QueueSettings(name=name)
        faults: Sequence[Fault] = () if error is None else error.faults
        return self._frame.render(
            visit,
            "queue.html",
            page="queues",
            status=200 if error is None else 422,
            q=row,
            settings=settings,
            controls=controls(LIMITS, _given(settings) if form is None else form, faults),
            faults=others(LIMITS, faults),
            refusal="" if error is None else error.detail,
        )

    async def _page(
        self, caller: Caller, cursor: str | None, limit: int, now: datetime
    ) -> tuple[list[Row], str | None]:
        """Return a page of queues, and the cursor of the next."""
        after = after_name(cursor, queue_name_pattern)
        found = await self._queues.find_names(caller, after=after, limit=limit + 1)
        rows = await self._rows(caller, found[:limit], now)
        return rows, name_cursor(found[limit - 1]) if len(found) > limit else None

    async def _row(self, caller: Caller, name: str, now: datetime) -> Row:
        [row] = await self._rows(caller, [name], now)
        return row

    async def _rows(self, caller: Caller, names: Sequence[str], now: datetime) -> list[Row]:
        states, partitions = await self._queues.states(names), await self._queues.stats(caller, names)
        own: dict[str, list[PartitionStats]] = {}
        for partition in partitions:
            own.setdefault(partition.queue, []).append(partition)
        sees_load = self._queues.shows_load(caller)
        hour = {part.name: part for part in (await self._stats.find(caller, window="1h", group="queue")).groups}
        return [
            _row(caller, name, states.get(name), own.get(name, []), hour.get(name), now, sees_load=sees_load)
            for name in names
        ]


def _row(
    caller: Caller,
    name: str,
    state: QueueState | None,
    partitions: list[PartitionStats],
    hour: Part | None,
    now: datetime,
    *,
    sees_load: bool,
) -> Row:
    settings = QueueSettings(name=name) if state is None else state.settings
    oldest = min((one.oldest_due_at for one in partitions if one.oldest_due_at is not None), default=None)
    rate, pause = settings.rate, settings.pause
    return Row(
        name=name,
        pending=sum(one.pending for one in partitions),
        scheduled=sum(one.scheduled for one in partitions),
        running=sum(one.running for one in partitions),
        slots=settings.concurrency,
        oldest="" if oldest is None else times.span((now - oldest).total_seconds()),
        is_late=oldest is not None and now - oldest > LATE,
        rate="" if rate is None else f"{rate.limit:,} in {times.duration(rate.per)}",
        tokens=None if rate is None or state is None or not sees_load else max(0.0, state.tokens) / rate.burst,
        is_paused=settings.paused,
        paused_at=None if pause is None else pause.at,
        paused_by="" if pause is None or not caller.may("admin") else texts.line(pause.key or pause.owner, 100),
        types=sorted(partitions, key=lambda one: (-one.pending - one.running, one.type)),
        ended=[] if hour is None else _together([_ended(step) for step in hour.steps]),
        failed=[] if hour is None else _together([step.failed for step in hour.steps]),
        per_minute="" if hour is None else times.number(round(_ended(hour.total) / 60, 1)),
    )


def _ended(figures: Figures) -> int:
    return figures.completed + figures.failed + figures.cancelled


def _together(minutes: Sequence[int]) -> list[int]:
    """Return the sums of some minutes each."""
    return [sum(minutes[start : start + _MINUTES]) for start in range(0, len(minutes), _MINUTES)]


def _given(settings: QueueSettings) -> dict[str, Any]:
    """Return the settings as the fields of LIMITS."""
    rate = settings.rate
    return {
        "concurrency": settings.concurrency,
        "concurrency_per_key": settings.concurrency_per_key,
        "shared_keys": settings.shared_keys,
        "rate/limit": None if rate is None else rate.limit,
        "rate/per": None if rate is None else f"{rate.per.total_seconds():g}",
        "rate/burst": None if rate is None else rate.burst,
    }


def _name_of(visit: Visit) -> str:
    name = visit.path["name"]
    if not re.fullmatch(queue_name_pattern, name):
        raise NotFound(f"there is no queue {name[:100]!r}")
    return name
