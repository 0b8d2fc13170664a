"""The operations on schedules: from a request to the service and back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, cast
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from tasker.api.calls import Call, Parameter, idempotency_key, text_of, whole
from tasker.api.operation import BODY_PROBLEMS, INPUT_PROBLEMS, SUBMIT_PROBLEMS, Answer, Operation
from tasker.api.pages import DEFAULT_LIMIT, next_link, page_parameters
from tasker.api.receipts import TaskReceipt, as_told, show_task
from tasker.api.replies import JSON_HEADERS, Header, Reply, empty_reply, json_reply, path_of, retry_after, retry_in
from tasker.api.tasks import Moment, TaskView
from tasker.clock import Clock
from tasker.errors import Invalid
from tasker.model.keys import Scope, as_scopes
from tasker.model.schedules import Missed, Overlap, Schedule
from tasker.requests.schedules import ScheduleBody, SchedulePatch
from tasker.requests.submissions import SubmissionBody
from tasker.service import Service
from tasker.service.waiting import SOON

MAX_COUNT = 100


class SkipView(Struct, frozen=True, kw_only=True):
    """A tick that submitted nothing: it was `missed`, an earlier task was open (`overlap`), or it was `refused`."""

    tick: Moment
    reason: Literal["missed", "overlap", "refused"]
    detail: str


class ScheduleView(Struct, frozen=True, kw_only=True):
    """A rule that submits `task` at each of its ticks. `interval` is in seconds.

    next_fire_at: its next tick, null while it is paused and after its last one. last_fired_at: the latest tick that
    submitted a task, `last_task_id` (or that of a trigger since). last_skip: the latest tick that did not. scopes: what
    it may do, as the key that made it or last set `task` or `overlap` might.
    """

    schedule_id: UUID
    name: str
    task: SubmissionBody
    cron: str | None
    interval: float | None
    time_zone: str
    missed: Missed
    overlap: Overlap
    paused: bool
    starts_at: Moment | None
    ends_at: Moment | None
    next_fire_at: Moment | None
    last_fired_at: Moment | None
    last_task_id: UUID | None
    last_skip: SkipView | None
    scopes: list[Scope]
    created_at: Moment
    updated_at: Moment
    links: dict[str, str]


class ScheduleReceipt(Struct, frozen=True, kw_only=True):
    """What a key without the scope `read` is told in the place of a schedule: what this request has set, and its id."""

    schedule_id: UUID
    name: str | UnsetType = UNSET
    task: SubmissionBody | UnsetType = UNSET
    cron: str | UnsetType | None = UNSET
    interval: float | UnsetType | None = UNSET
    time_zone: str | UnsetType = UNSET
    missed: Missed | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    starts_at: Moment | UnsetType | None = UNSET
    ends_at: Moment | UnsetType | None = UNSET
    links: dict[str, str]


class SchedulePage(Struct, frozen=True, kw_only=True):
    """A slice of the list of schedules, newest first; `next_cursor` is opaque, null at the end."""

    items: list[ScheduleView]
    next_cursor: str | None


class TickPage(Struct, frozen=True, kw_only=True):
    """The next ticks, in order; `next_cursor` is always null."""

    items: list[Moment]
    next_cursor: None = None


_LIST_PARAMETERS = (
    Parameter("name", "Only the schedule of this name.", {"type": "string", "minLength": 1}, text_of(100)),
    *page_parameters("schedules"),
)
_NEXT_PARAMETERS = (
    Parameter(
        "count",
        f"So many ticks at most; default 5, and never more than {MAX_COUNT}.",
        {"type": "integer", "minimum": 1, "default": 5},
        whole(1, MAX_COUNT),
    ),
)


class ScheduleOperations:
    """What can be done with schedules."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._schedules = service.schedules
        self._clock = clock

    async def create(self, call: Call) -> Reply:
        call.query()
        schedule = await self._schedules.create(call.caller, await call.body())
        return json_reply(_view(schedule), 201, (b"location", _path(schedule).encode()))

    async def find_many(self, call: Call) -> Reply:
        query = call.query()
        limit = query.pop("limit", DEFAULT_LIMIT)
        await call.unread.room()
        page = await self._schedules.find_many(call.caller, limit=limit, **query)
        view = SchedulePage(items=[_view(schedule) for schedule in page.items], next_cursor=page.next_cursor)
        return json_reply(view, 200, *next_link(call, "/schedule", page.next_cursor))

    async def get(self, call: Call) -> Reply:
        call.query()
        return json_reply(_view(await self._schedules.get(call.caller, call.id_of("schedule_id"))))

    async def change(self, call: Call) -> Reply:
        call.query()
        schedule_id = call.id_of("schedule_id")
        schedule, given = await self._schedules.change(call.caller, schedule_id, await call.body())
        return json_reply(_view(schedule) if call.caller.may("read") else _receipt(schedule, given))

    async def delete(self, call: Call) -> Reply:
        call.query()
        await self._schedules.delete(call.caller, call.id_of("schedule_id"))
        return empty_reply(204)

    async def trigger(self, call: Call) -> Reply:
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

    async def next_ticks(self, call: Call) -> Reply:
        count = call.query().get("count", 5)
        return json_reply(
            TickPage(items=await self._schedules.next_ticks(call.caller, call.id_of("schedule_id"), count))
        )


def schedule_operations(schedules: ScheduleOperations) -> list[Operation]:
    """Return what can be done with schedules."""
    on_one, example = ("not-found", "unknown-field", "unavailable"), _EXAMPLE
    inputs = (
        *BODY_PROBLEMS,
        *INPUT_PROBLEMS,
        "unknown-type",
        "type-not-loaded",
        "name-taken",
        "cross-origin",
        "unavailable",
    )
    return [
        Operation(
            "POST", "/schedule", "create_schedule", "schedules", "Make a schedule", schedules.create, scope="submit",
            answers={201: Answer("It is kept, and its ticks come.", ScheduleView, ("Location",))},
            problems=(*inputs, "limit-reached"), body=ScheduleBody, example=example,
        ),
        Operation(
            "GET", "/schedule", "list_schedules", "schedules", "List the schedules, newest first", schedules.find_many,
            scope="read", answers={200: Answer("A page of schedules.", SchedulePage, ("Link",))},
            problems=("invalid-request", "unknown-field", "unavailable"), parameters=_LIST_PARAMETERS,
        ),
        Operation(
            "GET", "/schedule/{schedule_id}", "get_schedule", "schedules", "Read a schedule", schedules.get,
            scope="read", answers={200: Answer("The schedule.", ScheduleView)}, problems=on_one,
        ),
        Operation(
            "PATCH", "/schedule/{schedule_id}", "change_schedule", "schedules",
            "Change a schedule, pause it or let it go on", schedules.change, scope="submit",
            answers={200: Answer("The schedule as it is now.", ScheduleView, receipt=ScheduleReceipt)},
            problems=(*inputs, "not-found"), body=SchedulePatch, example={"paused": True},
        ),
        Operation(
            "DELETE", "/schedule/{schedule_id}", "delete_schedule", "schedules", "Erase a schedule; its tasks stay",
            schedules.delete, scope="control", answers={204: Answer("It is erased.")},
            problems=(*on_one, "cross-origin"),
        ),
        Operation(
            "POST", "/schedule/{schedule_id}/trigger", "trigger_schedule", "schedules",
            "Submit a task of the schedule now", schedules.trigger, scope="submit",
            answers={
                202: Answer("Accepted, beside the ticks.", TaskView,
                            ("Location", "Retry-After", "Idempotency-Replayed"), receipt=TaskReceipt),
            },
            problems=(*SUBMIT_PROBLEMS, "unknown-type", "type-not-loaded", "not-found"),
            request_headers=("Idempotency-Key",),
        ),
        Operation(
            "GET", "/schedule/{schedule_id}/next", "list_ticks", "schedules", "Read the next ticks of a schedule",
            schedules.next_ticks, scope="read",
            answers={200: Answer("Its ticks, as if it were not paused.", TickPage)},
            problems=(*on_one, "invalid-request"), parameters=_NEXT_PARAMETERS,
        ),
    ]  # fmt: skip


_EXAMPLE = {
    "name": "nightly sum", "cron": "30 2 * * *", "time_zone": "Europe/Berlin", "task": {"type": "sum", "params": [4, 2]}
}  # fmt: skip


def _view(schedule: Schedule) -> ScheduleView:
    skip, links = schedule.last_skip, _links(schedule)
    if schedule.last_task_id is not None:
        links["last_task"] = f"/task/{schedule.last_task_id}"
    return ScheduleView(
        schedule_id=schedule.schedule_id, name=schedule.name, task=cast(Any, schedule.task), cron=schedule.cron,
        interval=None if schedule.interval is None else schedule.interval.total_seconds(),
        time_zone=schedule.time_zone, missed=schedule.missed, overlap=schedule.overlap, paused=schedule.paused,
        starts_at=schedule.starts_at, ends_at=schedule.ends_at, next_fire_at=schedule.next_fire_at,
        last_fired_at=schedule.last_fired_at, last_task_id=schedule.last_task_id,
        last_skip=None if skip is None else SkipView(tick=skip.tick, reason=skip.reason, detail=skip.detail),
        scopes=list(as_scopes(schedule.caller)), created_at=schedule.created_at, updated_at=schedule.updated_at,
        links=links,
    )  # fmt: skip


def _receipt(schedule: Schedule, given: Collection[str]) -> ScheduleReceipt:
    """Return the members that a request has set, as they are now."""
    whole = _view(schedule)
    shown = {name: getattr(whole, name) for name in ScheduleReceipt.__struct_fields__ if name in given}
    return ScheduleReceipt(schedule_id=schedule.schedule_id, links=_links(schedule), **shown)


def _links(schedule: Schedule) -> dict[str, str]:
    path = _path(schedule)
    return {"self": path, "next": f"{path}/next", "trigger": f"{path}/trigger"}


def _path(schedule: Schedule) -> str:
    return f"/schedule/{schedule.schedule_id}"
