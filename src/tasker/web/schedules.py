"""The pages of schedules: when each fires, what became of its last ticks; create, change, run now, pause, erase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

from tasker.api.pages import list_query, page_parameters
from tasker.api.receipts import as_told
from tasker.api.replies import Reply
from tasker.errors import Fault, Forbidden, Invalid, RequestError
from tasker.model import Status
from tasker.model.keys import Caller
from tasker.model.schedules import PastTick, Schedule
from tasker.service import Service
from tasker.web import texts, times
from tasker.web.charts import Line, Tick
from tasker.web.charts.day import DAY
from tasker.web.fields import Field, controls, others, read_body
from tasker.web.frame import Frame
from tasker.web.page import Form, Visit, act, show
from tasker.web.rule_words import in_words

SHOWN = 25
"""Schedules on a page: the ticks of each are computed."""
_TICKS = 100
"""Ticks of the next 24 hours that are computed for one schedule."""
FIELDS = (
    Field("name", required=True),
    Field("cron", "text", "Minute, hour, day of month, month, weekday: 30 2 * * *. Or an interval.", empty="null"),
    Field("interval", "length", "Seconds, or an ISO 8601 duration like PT10M.", empty="null"),
    Field("time_zone", "text", "For cron, like Europe/Berlin. Empty: UTC.", empty="null"),
    Field("task", "json", 'What each tick submits: {"type": "sum", "params": [4, 2]}', required=True),
    Field("overlap", "choice", "At a tick while an earlier task is open.", ("allow", "skip", "replace"), empty="null"),
    Field("missed", "choice", "For ticks that passed while nothing ran.", ("skip", "once", "all"), empty="null"),
    Field("starts_at", "moment", "In UTC. No tick before it.", empty="null"),
    Field("ends_at", "moment", "In UTC. No tick after it.", empty="null"),
    Field("paused", "flag", "A paused schedule has no ticks; none of them is missed."),
)
OVERLAPS = {"allow": "run both", "skip": "skip the tick", "replace": "replace it"}
MISSED = {"skip": "skip", "once": "run once", "all": "run all"}
_OUTCOMES: Mapping[Status, Literal["completed", "failed", "cancelled"]] = {
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
}


class Row(NamedTuple):
    """A schedule in the table. words: its rule, "" if the rule itself is as easy to read."""

    id: str
    name: str
    type: str
    words: str
    rule: str
    ticks: list[Tick]
    said: str
    next_at: datetime | None
    is_paused: bool
    overlap: str
    missed: str
    owner: str


class SchedulePages:
    """Show, create, change, run, pause and erase schedules."""

    def __init__(self, frame: Frame, service: Service) -> None:
        self._frame = frame
        self._service = service
        self._schedules = service.schedules

    @show("/schedules", parameters=page_parameters("schedules"), nav="Schedules", icon="schedules")
    async def schedules(self, visit: Visit) -> Reply:
        query = list_query(visit.call)
        page = await self._schedules.find_many(
            visit.caller, limit=min(query["limit"], SHOWN), cursor=query.get("cursor")
        )
        return self._frame.render(
            visit,
            "schedules.html",
            page="schedules",
            rows=[await self._row(visit.caller, one) for one in page.items],
            lines=[await self._line(visit, one) for one in page.items],
            more=None if page.next_cursor is None else "?" + urlencode({"cursor": page.next_cursor}),
        )

    @show("/new/schedule", scope="submit")
    async def new_schedule(self, visit: Visit) -> Reply:
        return self._form(visit, None, {"overlap": "allow", "missed": "once", "time_zone": "UTC"})

    @act("/new/schedule", scope="submit", deed="create_schedule")
    async def create_schedule(self, visit: Visit) -> Reply:
        """Create a schedule. A refused form is shown again with what was wrong."""
        try:
            schedule = await self._schedules.create(visit.caller, read_body(FIELDS, visit.form))
        except RequestError as error:
            return self._refused(visit, None, error)
        visit.call.head.audit_target = str(schedule.schedule_id)
        return self._frame.see(visit, f"schedule/{schedule.schedule_id}")

    @show("/schedule/{schedule_id}")
    async def schedule(self, visit: Visit) -> Reply:
        schedule = await self._schedules.get(visit.caller, visit.call.id_of("schedule_id"))
        return self._frame.render(
            visit,
            "schedule.html",
            page="schedules",
            s=await self._row(visit.caller, schedule),
            schedule=schedule,
            task=texts.pretty_json(schedule.task),
            next_ticks=await self._schedules.next_ticks(visit.caller, schedule.schedule_id, 10),
            firings=[(one, await self._tick(visit.caller, one)) for one in reversed(schedule.firings)],
        )

    @show("/schedule/{schedule_id}/edit", scope="submit")
    async def edit_schedule(self, visit: Visit) -> Reply:
        if not visit.caller.may("read"):
            raise Forbidden("read", "the form shows the schedule")
        schedule = await self._schedules.get(visit.caller, visit.call.id_of("schedule_id"))
        return self._form(visit, schedule, _given(schedule))

    @act("/schedule/{schedule_id}/edit", scope="submit", deed="change_schedule")
    async def change_schedule(self, visit: Visit) -> Reply:
        """Change a schedule. A refused form is shown again with what was wrong."""
        schedule = await self._schedules.get(visit.caller, visit.call.id_of("schedule_id"))
        try:
            await self._schedules.change(visit.caller, schedule.schedule_id, read_body(FIELDS, visit.form))
        except RequestError as error:
            return self._refused(visit, schedule, error)
        return self._frame.see(visit, f"schedule/{schedule.schedule_id}")

    @act("/schedule/{schedule_id}/pause", scope="submit", deed="change_schedule")
    async def pause_schedule(self, visit: Visit) -> Reply:
        return await self._set_paused(visit, b'{"paused":true}')

    @act("/schedule/{schedule_id}/resume", scope="submit", deed="change_schedule")
    async def resume_schedule(self, visit: Visit) -> Reply:
        return await self._set_paused(visit, b'{"paused":false}')

    @act("/schedule/{schedule_id}/trigger", scope="submit", deed="trigger_schedule")
    async def trigger_schedule(self, visit: Visit) -> Reply:
        """Submit a task of the schedule now, and show it."""
        caller, schedule_id = visit.caller, visit.call.id_of("schedule_id")
        try:
            submitted = await self._service.submissions.trigger(caller, schedule_id)
        except Invalid as error:
            raise (as_told(caller, error, ()) if error.faults else error) from None
        return self._frame.see(visit, f"task/{submitted.task.task_id}")

    @act("/schedule/{schedule_id}/delete", scope="control", deed="delete_schedule")
    async def delete_schedule(self, visit: Visit) -> Reply:
        await self._schedules.delete(visit.caller, visit.call.id_of("schedule_id"))
        return self._frame.see(visit, "schedules")

    async def _set_paused(self, visit: Visit, body: bytes) -> Reply:
        changed = await self._schedules.change(visit.caller, visit.call.id_of("schedule_id"), body)
        return self._frame.see(visit, f"schedule/{changed.schedule.schedule_id}")

    def _refused(self, visit: Visit, schedule: Schedule | None, error: RequestError) -> Reply:
        """Return the form again. Raises errors that are not about what it holds."""
        if error.kind.status not in (409, 422):
            raise error
        return self._form(visit, schedule, visit.form, error)

    def _form(
        self, visit: Visit, schedule: Schedule | None, given: Form | dict[str, Any], error: RequestError | None = None
    ) -> Reply:
        faults: Sequence[Fault] = () if error is None else error.faults
        return self._frame.render(
            visit,
            "schedule_form.html",
            page="schedules",
            status=200 if error is None else error.kind.status or 422,
            schedule=schedule,
            controls=controls(FIELDS, given, faults),
            faults=others(FIELDS, faults),
            refusal="" if error is None else error.detail,
        )

    async def _row(self, caller: Caller, schedule: Schedule) -> Row:
        ticks = [await self._tick(caller, one) for one in schedule.firings]
        return Row(
            id=str(schedule.schedule_id),
            name=texts.line(schedule.name, 100),
            type=schedule.type,
            words=in_words(schedule),
            rule=_rule(schedule),
            ticks=ticks,
            said=_said(ticks),
            next_at=schedule.next_fire_at,
            is_paused=schedule.paused,
            overlap=OVERLAPS[schedule.overlap],
            missed=MISSED[schedule.missed],
            owner=texts.line(schedule.owner, 100),
        )

    async def _tick(self, caller: Caller, past: PastTick) -> Tick:
        """Return what became of a tick."""
        at = f"{past.tick:%Y-%m-%d %H:%M} UTC"
        if past.task_id is None:
            return Tick("skipped", f"{at}: skipped, {past.skipped}{f': {past.detail}' if past.detail else ''}")
        task = await self._service.tasks.find(caller, past.task_id)
        if task is None:
            return Tick("cancelled", f"{at}: its task is erased")
        if not task.status.is_terminal:
            return Tick("open", f"{at}: {task.status}")
        took = None if task.started_at is None or task.finished_at is None else task.finished_at - task.started_at
        told = f"{at}: {task.status}" + ("" if took is None else f" in {times.duration(took)}")
        return Tick(_OUTCOMES[task.status], told)

    async def _line(self, visit: Visit, schedule: Schedule) -> Line:
        """Return the ticks of the next 24 hours."""
        name = texts.line(schedule.name, 24)
        if schedule.paused or schedule.next_fire_at is None:
            return Line(name, (), is_paused=schedule.paused)
        found = await self._schedules.next_ticks(visit.caller, schedule.schedule_id, _TICKS)
        return Line(name, found, is_cut=len(found) == _TICKS and found[-1] < visit.now + DAY)


def _rule(schedule: Schedule) -> str:
    if schedule.cron is not None:
        return f"{schedule.cron} {schedule.time_zone}" if schedule.time_zone != "UTC" else schedule.cron
    return "" if schedule.interval is None else f"interval {times.duration(schedule.interval)}"


def _said(ticks: Sequence[Tick]) -> str:
    """Return how the last ticks went, in a few words."""
    if not ticks:
        return "none yet"
    names = ("failed", "cancelled", "skipped")
    counts = {name: sum(tick.outcome == name for tick in ticks) for name in names}
    rest = len(ticks) - sum(counts.values())
    return ", ".join([f"{rest} of {len(ticks)}", *(f"{count} {name}" for name, count in counts.items() if count)])


def _given(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the fields of its form."""
    return {
        "name": schedule.name,
        "cron": schedule.cron,
        "interval": None if schedule.interval is None else f"{schedule.interval.total_seconds():g}",
        "time_zone": schedule.time_zone,
        "task": bytes(schedule.task).decode(),
        "overlap": schedule.overlap,
        "missed": schedule.missed,
        "starts_at": _local(schedule.starts_at),
        "ends_at": _local(schedule.ends_at),
        "paused": schedule.paused,
    }


def _local(time: datetime | None) -> str | None:
    """Return a time as a control of a form takes it."""
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%S")
