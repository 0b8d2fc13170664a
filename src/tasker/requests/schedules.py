"""The bodies of schedules, new and changed: their description, and how they become the fields of a Schedule.

Every fault is found at once, each with its JSON Pointer into the body, those of the task's submission among them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from tasker.errors import Invalid, RequestError
from tasker.model.schedules import Missed, Overlap
from tasker.requests.body import by, duration, read_members, read_object
from tasker.requests.submissions import (
    Context,
    RunAt,
    Submission,
    SubmissionBody,
    check_moment,
    decode_texts,
    read_options,
    read_submission,
)
from tasker.rules.secrets import hide
from tasker.rules.ticks import MAX_CRON, MAX_ZONE, check_cron, check_zone
from tasker.rules.urls import UrlRules
from tasker.tasktypes.registry import TaskType
from tasker.validation.durations import IsoDuration
from tasker.validation.faults import Faults, kind_of, missing_field
from tasker.validation.jsontext import read_json

MIN_INTERVAL = timedelta(seconds=1)
MAX_INTERVAL = timedelta(days=366)
MAX_TASK = 64 * 1024
"""Limit of the JSON text of `task` in bytes: each tick stores it again, and many may tick at the same time."""


def _read_cron(value: Any) -> str:
    rule: str = msgspec.convert(value, str)
    check_cron(rule)
    return rule


def _read_zone(value: Any) -> str:
    name: str = msgspec.convert(value, str)
    check_zone(name)
    return name


Name = Annotated[
    str,
    Meta(
        min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$", description="Unique among the owner's schedules."
    ),
]
Cron = Annotated[
    str,
    Meta(
        max_length=MAX_CRON,
        description="The five fields of cron: minute, hour, day of month, month, weekday (`0,30 9-17 * * MON`).",
    ),
    by(_read_cron),
]
Interval = Annotated[
    Annotated[
        float,
        Meta(
            ge=1, le=MAX_INTERVAL.total_seconds(), description="Seconds, or an ISO 8601 duration: a second to a year."
        ),
    ]
    | IsoDuration
    | None,
    duration(MAX_INTERVAL, least=MIN_INTERVAL),
]
Zone = Annotated[
    str,
    Meta(max_length=MAX_ZONE, description="A zone of the IANA database, for `cron`; `UTC` if not given."),
    by(_read_zone),
]
MissedWord = Annotated[
    Missed,
    Meta(
        description="For ticks that passed while nothing ran: skip them, submit once for all, or all: a task for each."
    ),
]
OverlapWord = Annotated[
    Overlap,
    Meta(description="At a tick while an earlier task is open: submit anyway, skip the tick, or replace that task."),
]
Paused = Annotated[bool, Meta(description="A paused schedule has no ticks; none of them is missed.")]
StartsAt = Annotated[RunAt, Meta(description="No tick before this time; an interval is counted from it.")]
EndsAt = Annotated[RunAt, Meta(description="No tick after this time.")]
Template = Annotated[
    SubmissionBody, Meta(description="The submission made at each tick, as in POST /task; at most 64 KiB, no `run_at`.")
]


class SchedulePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PATCH /schedule/{schedule_id}: the fields to change; null resets a field."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    task: Template | msgspec.UnsetType = msgspec.UNSET
    cron: Cron | None = None
    interval: Interval = None
    time_zone: Zone | None = None
    missed: MissedWord | None = None
    overlap: OverlapWord | None = None
    paused: Paused | None = None
    starts_at: StartsAt | None = None
    ends_at: EndsAt | None = None


class ScheduleBody(SchedulePatch, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /schedule: `cron` or `interval`, and the task to submit; null is the same as left out."""

    name: Name
    task: Template


_DEFAULTS: dict[str, Any] = {
    "cron": None,
    "interval": None,
    "time_zone": "UTC",
    "missed": "once",
    "overlap": "allow",
    "paused": False,
    "starts_at": None,
    "ends_at": None,
}
FIELDS = ("name", "type", "task", *_DEFAULTS)
"""The fields of a Schedule that a client sets."""
_ONE_TIME = frozenset({"run_at", "deadline", "depends_on"})
"""Options of a submission that make sense for one task alone."""


class ReadSchedule(NamedTuple):
    """The fields of a Schedule that a body sets, and the submission in its `task`; None without `task`."""

    fields: dict[str, Any]
    submission: Submission | None


class _Texts(Struct):
    """The part of the body whose text is kept as it came."""

    task: Raw = Raw(b"null")


_decode_texts = msgspec.json.Decoder(_Texts).decode


class OpenedSchedule:
    """A schedule's body after the first step: decoded, and its task type found. `read` does the rest.

    is_new: whether it is the body of a new schedule, not of a change. Raises Malformed (not valid JSON), Invalid (no
    object).
    """

    params_pointer = "/task/params"

    def __init__(self, body: bytes, context: Context, *, is_new: bool) -> None:
        self._value = read_object(body)
        self._body, self._context, self._is_new = body, context, is_new
        task = self._value.get("task")
        name = task.get("type") if isinstance(task, dict) else None
        self.task_type: TaskType | None = context.registry.find(name) if isinstance(name, str) else None

    def read(self) -> ReadSchedule:
        """Read and check the rest; a new schedule has all fields. Raises Invalid with every fault."""
        given, faults, submission = self._value, Faults(), None
        fields = read_members(given, SchedulePatch, faults, skip=("task",), resets=_DEFAULTS)
        _check_times(fields, self._context.now, faults)
        if "task" in given:
            submission = self._read_task(fields, faults)
        if self._is_new:
            for name in ("name", "task"):
                if name not in given:
                    faults.put(missing_field("", name))
        if self._is_new or ("cron" in given and "interval" in given):
            _check_rule(fields, faults, {name for name, value in given.items() if value is not None})
        faults.check()
        return ReadSchedule(_DEFAULTS | fields if self._is_new else fields, submission)

    def _read_task(self, fields: dict[str, Any], faults: Faults) -> Submission | None:
        """Read the submission, with its faults under `/task`."""
        value, text = self._value["task"], _decode_texts(self._body).task
        if not isinstance(value, dict):
            faults.add("/task", f"expected an object with `type` and `params`, got {kind_of(value)}")
            return None
        if len(memoryview(text)) > MAX_TASK:
            faults.add("/task", f"expected at most {MAX_TASK:,} bytes of JSON: {_ELSEWHERE}")
            return None
        _check_template(value, faults, "/task")
        webhook = value.get("webhook")
        if isinstance(webhook, dict) and webhook.get("secret") is not None:
            faults.add("/task/webhook/secret", "a schedule keeps no secrets: POST /webhook makes one that does")
        try:
            task_type, submission = read_submission(bytes(text), self._context)
        except Invalid as error:
            faults.put_all(error, "/task")
            return None
        if task_type.secrets is not None and hide(bytes(submission.params), task_type.secrets).secrets is not None:
            faults.add("/task/params", "a schedule keeps no secrets: have the function read them elsewhere")
        fields["type"], fields["task"] = task_type.name, text
        return submission


_ELSEWHERE = "let the function read large input elsewhere, by a name that is in the params"


def merge(current: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a schedule after a change: a new `cron` replaces `interval`, and the reverse.

    Raises Invalid if the result is inconsistent.
    """
    fields = {**current, **given}
    for name, other in (("cron", "interval"), ("interval", "cron")):
        if given.get(name) is not None and other not in given:
            fields[other] = None
    faults = Faults()
    _check_rule(fields, faults)
    faults.check()
    return fields


def read_template(text: Raw, rules: UrlRules, now: datetime) -> str:
    """Read a stored schedule's submission, except its params, which only a service with the type can check.

    Returns the name of the type. Raises ValueError, with every fault under `/task`.
    """
    body = bytes(text)
    try:
        value = read_json(body)
    except RequestError as error:
        raise ValueError(f"/task: expected JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"/task: expected an object with `type` and `params`, got {kind_of(value)}")
    name, faults = value.get("type"), Faults()
    if not isinstance(name, str):
        faults.add("/type", f"expected the name of a task type, got {kind_of(name)}")
    if not isinstance(value.get("params", []), list | dict):
        faults.add("/params", f"expected an array or an object, got {kind_of(value['params'])}")
    _check_template(value, faults)
    read_options(value, decode_texts(body), faults, now, rules)
    if faults.found:
        raise ValueError("; ".join(f"/task{fault.pointer}: {fault.detail}" for fault in faults.found[:3]))
    return str(name)


def _check_template(value: Mapping[str, Any], faults: Faults, pointer: str = "") -> None:
    for name in sorted(_ONE_TIME & value.keys()):
        if value[name] is not None:
            faults.add(f"{pointer}/{name}", "a schedule submits many tasks, each at its own time")


def _check_times(fields: dict[str, Any], now: datetime, faults: Faults) -> None:
    """Add faults for times out of range and an end in the past; convert the other times to UTC."""
    for name in ("starts_at", "ends_at"):
        if fields.get(name) is None:
            continue
        try:
            fields[name] = check_moment(fields[name], now)
            if name == "ends_at" and fields[name] <= now:
                raise ValueError("expected a time that is to come")
        except ValueError as error:
            faults.add(f"/{name}", str(error))
            del fields[name]


def _check_rule(fields: Mapping[str, Any], faults: Faults, given: Collection[str] = ()) -> None:
    """Add faults for fields that do not fit together. given: fields that have a value, valid or not."""
    is_given = [fields.get(name) is not None or name in given for name in ("cron", "interval")]
    if all(is_given):
        faults.add("/interval", "give `cron` or `interval`, not both")
    elif not any(is_given):
        faults.add("/cron", "give `cron` or `interval`")
    starts_at, ends_at = fields.get("starts_at"), fields.get("ends_at")
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        faults.add("/ends_at", "expected a time after `starts_at`")
