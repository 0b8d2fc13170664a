"""The operations on schedules."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import UNSET, structs

from tasker.api.calls import Call, Parameter, idempotency_key, one_of, text_parameter, whole
from tasker.api.operation import SUBMIT_PROBLEMS, TYPE_PROBLEMS, Answer, delete, get, ok, patch, post
from tasker.api.pages import list_query, page_parameters, show_page
from tasker.api.receipts import as_told, show_task
from tasker.api.replies import JSON_HEADERS, Header, Reply, empty_reply, json_reply, path_of, retry_after, retry_in
from tasker.clock import Clock
from tasker.errors import Invalid
from tasker.model.keys import as_scopes
from tasker.model.schedules import KEEP_FIRINGS, Schedule
from tasker.requests.schedules import ScheduleBody, SchedulePatch
from tasker.rules.waiting import SOON
from tasker.service import Service
from tasker.wire import schedules as wire
from tasker.wire.shapes import show
from tasker.wire.tasks import Task, TaskReceipt

MAX_COUNT = 100
_INCLUDE = Parameter(
    "include",
    f"`firings`: also what became of its last {KEEP_FIRINGS} ticks.",
    {"type": "string", "enum": ["firings"]},
    one_of("firings"),
)
_NAME = text_parameter("name", "Only the schedule of this name.")
_COUNT = Parameter(
    "count",
    f"The number of ticks; default 5, and never more than {MAX_COUNT}.",
    {"type": "integer", "minimum": 1, "default": 5},
    whole(1, MAX_COUNT),
)
_CHANGE_PROBLEMS = ("invalid-params", *TYPE_PROBLEMS, "name-taken")
_EXAMPLE = {
    "name": "nightly sum",
    "cron": "30 2 * * *",
    "time_zone": "Europe/Berlin",
    "task": {"type": "sum", "params": [4, 2]},
}


class ScheduleOperations:
    """Create, read, change, trigger and erase schedules."""

    tag = "schedules"

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._schedules = service.schedules
        self._clock = clock

    @post(
        "/schedule",
        "Create a schedule",
        {201: Answer("It is stored, and submits at its ticks.", wire.Schedule, ("Location",))},
        scope="submit",
        problems=(*_CHANGE_PROBLEMS, "limit-reached"),
        body=ScheduleBody,
        example=_EXAMPLE,
    )
    async def create_schedule(self, call: Call) -> Reply:
        call.query()
        schedule = await self._schedules.create(call.caller, await call.body())
        return json_reply(_view(schedule), 201, (b"location", _path(schedule).encode()))

    @get(
        "/schedule",
        "List the schedules, newest first",
        ok("A page of schedules.", wire.SchedulePage, ("Link",)),
        parameters=(_NAME, *page_parameters("schedules")),
    )
    async def list_schedules(self, call: Call) -> Reply:
        query = list_query(call)
        await call.unread.room()
        page = await self._schedules.find_many(call.caller, **query)
        return show_page(call, "/schedule", wire.SchedulePage, page, _view)

    @get("/schedule/{schedule_id}", "Read a schedule", ok("The schedule.", wire.Schedule), parameters=(_INCLUDE,))
    async def get_schedule(self, call: Call) -> Reply:
        query = call.query()
        schedule = await self._schedules.get(call.caller, call.id_of("schedule_id"))
        firings = [show(wire.PastTick, one) for one in reversed(schedule.firings)]
        return json_reply(structs.replace(_view(schedule), firings=firings if "include" in query else UNSET))

    @patch(
        "/schedule/{schedule_id}",
        "Change, pause or resume a schedule",
        ok("The schedule as it is now.", wire.Schedule, receipt=wire.ScheduleReceipt),
        scope="submit",
        problems=_CHANGE_PROBLEMS,
        body=SchedulePatch,
        example={"paused": True},
    )
    async def change_schedule(self, call: Call) -> Reply:
        call.query()
        schedule_id = call.id_of("schedule_id")
        schedule, given = await self._schedules.change(call.caller, schedule_id, await call.body())
        return json_reply(_view(schedule) if call.caller.may("read") else _receipt(schedule, given))

    @delete(
        "/schedule/{schedule_id}", "Erase a schedule; its tasks stay", {204: Answer("It is erased.")}, scope="control"
    )
    async def delete_schedule(self, call: Call) -> Reply:
        call.query()
        await self._schedules.delete(call.caller, call.id_of("schedule_id"))
        return empty_reply(204)

    @post(
        "/schedule/{schedule_id}/trigger",
        "Submit a task of the schedule now",
        {
            202: Answer(
                "Accepted; the schedule's ticks stay the same.",
                Task,
                ("Location", "Retry-After", "Idempotency-Replayed"),
                receipt=TaskReceipt,
            )
        },
        scope="submit",
        problems=("invalid-request", *SUBMIT_PROBLEMS, *TYPE_PROBLEMS),
        request_headers=("Idempotency-Key",),
    )
    async def trigger_schedule(self, call: Call) -> Reply:
        call.query()
        key = idempotency_key(call)
        caller, schedule_id = call.caller, call.id_of("schedule_id")
        try:
            submitted = await self._service.submissions.trigger(caller, schedule_id, idempotency_key=key)
        except Invalid as error:
            raise (as_told(caller, error, ()) if error.faults else error) from None
        headers: tuple[Header, ...] = (*JSON_HEADERS, (b"location", path_of(submitted.task)))
        if submitted.replayed:
            headers += ((b"idempotency-replayed", b"true"),)
        task = submitted.task
        body = show_task(caller, task, sent=submitted.sent, given=())
        again = retry_after(task, self._clock.now()) if caller.may("read") else retry_in(task, SOON)
        return Reply(202, body, headers + again)

    @get(
        "/schedule/{schedule_id}/next",
        "Read the next ticks of a schedule",
        ok("Its ticks, as if it were not paused.", wire.TickPage),
        parameters=(_COUNT,),
    )
    async def list_ticks(self, call: Call) -> Reply:
        count = call.query().get("count", 5)
        ticks = await self._schedules.next_ticks(call.caller, call.id_of("schedule_id"), count)
        return json_reply(wire.TickPage(items=ticks))


def _view(schedule: Schedule) -> wire.Schedule:
    skip, links = schedule.last_skip, _links(schedule)
    if schedule.last_task_id is not None:
        links["last_task"] = f"/task/{schedule.last_task_id}"
    return show(
        wire.Schedule,
        schedule,
        interval=None if schedule.interval is None else schedule.interval.total_seconds(),
        last_skip=None if skip is None else show(wire.SkippedTick, skip),
        firings=UNSET,
        scopes=as_scopes(schedule.caller),
        links=links,
    )


def _receipt(schedule: Schedule, given: Collection[str]) -> wire.ScheduleReceipt:
    """Return a receipt with the members that the request has set."""
    whole = _view(schedule)
    shown = {name: getattr(whole, name) for name in wire.ScheduleReceipt.__struct_fields__ if name in given}
    return wire.ScheduleReceipt(schedule_id=schedule.schedule_id, links=_links(schedule), **shown)


def _links(schedule: Schedule) -> dict[str, str]:
    path = _path(schedule)
    return {"self": path, "next": f"{path}/next", "trigger": f"{path}/trigger"}


def _path(schedule: Schedule) -> str:
    return f"/schedule/{schedule.schedule_id}"
