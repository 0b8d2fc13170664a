"""What a client may ask for when it makes or changes a schedule: the body, read, checked and typed.

Every fault is found in one go and named by a JSON Pointer into the body, those of its task's submission among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from tasker.errors import Fault, Invalid, RequestError
from tasker.model.schedules import Missed, Overlap
from tasker.requests.submissions import RunAt, SubmissionBody, check_moment, check_options, read_submission
from tasker.rules.secrets import hide
from tasker.rules.timing import MAX_CRON, MAX_ZONE, check_cron, check_zone
from tasker.rules.urls import UrlRules
from tasker.tasktypes.registry import Registry, TaskType
from tasker.validation.durations import IsoDuration, read_duration
from tasker.validation.faults import Faults, kind_of, missing_field, refusal_fault, unknown_field
from tasker.validation.jsontext import read_json

MIN_INTERVAL = timedelta(seconds=1)
MAX_INTERVAL = timedelta(days=366)
MAX_TASK = 64 * 1024
"""Bytes of the JSON text of `task`: each tick stores all of it again, and many schedules may have one at once."""

Name = Annotated[
    str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$", description="Of one schedule at a time.")
]
Cron = Annotated[
    str,
    Meta(
        max_length=MAX_CRON,
        description="Five fields, as cron has them: minute, hour, day of month, month, weekday (`*/5 9-17 * * MON`).",
    ),
]
Interval = (
    Annotated[
        float,
        Meta(
            ge=1, le=MAX_INTERVAL.total_seconds(), description="Seconds, or an ISO 8601 duration: a second to a year."
        ),
    ]
    | IsoDuration
)
Zone = Annotated[str, Meta(max_length=MAX_ZONE, description="Of the IANA database, for `cron`; `UTC` if not given.")]
MissedWord = Annotated[
    Missed,
    Meta(
        description="What to do about ticks that passed while nothing ran: nothing, one task for all, or one for each."
    ),
]
OverlapWord = Annotated[
    Overlap,
    Meta(description="At a tick while an earlier task is open: submit, leave the tick out, or cancel that task first."),
]
Paused = Annotated[bool, Meta(description="A paused schedule has no ticks; none of them is missed.")]
StartsAt = Annotated[RunAt, Meta(description="No tick before this time; an interval is counted from it.")]
EndsAt = Annotated[RunAt, Meta(description="No tick after this time.")]
Template = Annotated[
    SubmissionBody, Meta(description="What is submitted at each tick, as in POST /task; at most 64 KiB, no `run_at`.")
]


class SchedulePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PATCH /schedule/{schedule_id}: what is to be changed; null takes back what was set."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    task: Template | msgspec.UnsetType = msgspec.UNSET
    cron: Cron | None = None
    interval: Interval | None = None
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


class _Texts(Struct):
    """The part of the body that is kept as the text it came in."""

    task: Raw = Raw(b"null")


_decode_texts = msgspec.json.Decoder(_Texts).decode


class OpenedSchedule:
    """The body about a schedule as JSON, and the task type of its task; nothing else of it is read yet.

    Raises Malformed (not JSON that is taken) or Invalid (no object).
    """

    def __init__(self, body: bytes, registry: Registry, now: datetime) -> None:
        value = read_json(body)
        if not isinstance(value, dict):
            raise Invalid("expected an object", faults=[Fault("", f"expected an object, got {kind_of(value)}")])
        self._body, self._registry, self._now, self._value = body, registry, now, value
        task = value.get("task")
        name = task.get("type") if isinstance(task, dict) else None
        self.task_type: TaskType | None = registry.find(name) if isinstance(name, str) else None

    def read_new(self) -> dict[str, Any]:
        """Read a new schedule; return the fields of a Schedule that it sets, all of them.

        Raises Invalid with every fault.
        """
        reading = self._read()
        for name in ("name", "task"):
            if name not in reading.given:
                reading.add(missing_field("", name))
        reading.check_together({})
        reading.faults.check()
        return _DEFAULTS | reading.fields

    def read_patch(self) -> dict[str, Any]:
        """Read a change; return the fields that it sets. Raises Invalid with every fault."""
        reading = self._read()
        if "cron" in reading.given and "interval" in reading.given:
            reading.check_together({})
        reading.faults.check()
        return reading.fields

    def _read(self) -> _Reading:
        reading = _Reading(self._value)
        for name in self._value:
            if reading.faults.is_full:
                break
            if name == "task":
                reading.read_task(_decode_texts(self._body).task, self._registry, self._now)
            elif name in _READERS:
                reading.read_member(name, self._now)
            else:
                reading.add(unknown_field("", name, ("task", *_READERS)), "unknown-field")
        return reading


def merge(current: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all fields of a schedule with those that a change gives: a rule given alone takes the other one's place.

    Raises Invalid where the whole does not go together.
    """
    fields = dict(given)
    for name, other in (("cron", "interval"), ("interval", "cron")):
        if fields.get(name) is not None and other not in fields:
            fields[other] = None
    reading = _Reading(dict(fields))
    reading.fields = fields
    reading.check_together(current)
    reading.faults.check()
    return {**current, **fields}


def read_template(text: Raw, rules: UrlRules, now: datetime) -> str:
    """Read what a stored schedule submits, but for its params, which only a service that has the type can check.

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
    for moment in sorted(_MOMENTS & value.keys()):
        if value[moment] is not None:
            faults.add(f"/{moment}", "a schedule submits many tasks, each at its own time")
    check_options(value, body, rules, now, faults)
    if faults.found:
        raise ValueError("; ".join(f"/task{fault.pointer}: {fault.detail}" for fault in faults.found[:3]))
    return str(name)


class _Reading:
    """The members of one body, the fields that they set, and everything wrong with them."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.fields: dict[str, Any] = {}
        self.faults = Faults()

    def add(self, fault: Fault, name: str = "invalid-request") -> None:
        self.faults.put(fault, name)

    def check_together(self, current: Mapping[str, Any]) -> None:
        """Find what does not go together, in the body and with what is there already."""
        whole = {**current, **self.fields}
        is_given = {name: whole.get(name) is not None or self._is_faulty(name) for name in ("cron", "interval")}
        if all(is_given.values()):
            self.add(Fault("/interval", "give `cron` or `interval`, not both"))
        elif not any(is_given.values()):
            self.add(Fault("/cron", "give `cron` or `interval`"))
        starts_at, ends_at = whole.get("starts_at"), whole.get("ends_at")
        if starts_at is not None and ends_at is not None and ends_at <= starts_at:
            self.add(Fault("/ends_at", "expected a time after `starts_at`"))

    def _is_faulty(self, name: str) -> bool:
        """Tell whether a member was given, and was wrong by itself."""
        return self.given.get(name) is not None and name not in self.fields

    def read_member(self, name: str, now: datetime) -> None:
        """Read a member that is no task, or find its fault."""
        value = self.given[name]
        if value is None and name == "name":
            self.add(Fault("/name", "expected string, got null"))
            return
        try:
            self.fields[name] = _DEFAULTS.get(name) if value is None else _READERS[name](value, now)
        except msgspec.ValidationError as error:
            self.add(refusal_fault(str(error), f"/{name}"))
        except (ValueError, OverflowError) as error:
            self.add(Fault(f"/{name}", str(error)))

    def read_task(self, text: Raw, registry: Registry, now: datetime) -> None:
        """Read the submission, with its faults under `/task`."""
        value = self.given["task"]
        if not isinstance(value, dict):
            self.add(Fault("/task", f"expected an object with `type` and `params`, got {kind_of(value)}"))
            return
        if len(memoryview(text)) > MAX_TASK:
            self.add(Fault("/task", f"expected at most {MAX_TASK:,} bytes of JSON: {_ELSEWHERE}"))
            return
        for name in sorted(_MOMENTS & value.keys()):
            if value[name] is not None:
                self.add(Fault(f"/task/{name}", "a schedule submits many tasks, each at its own time"))
        webhook = value.get("webhook")
        if isinstance(webhook, dict) and webhook.get("secret") is not None:
            self.add(Fault("/task/webhook/secret", "a schedule keeps no secrets: POST /webhook makes one that does"))
        try:
            task_type, submission = read_submission(bytes(text), registry, now)
        except Invalid as error:
            for fault in error.faults or (Fault("", error.detail),):
                self.add(Fault("/task" + fault.pointer, fault.detail), error.kind.name)
        else:
            self.fields["type"], self.fields["task"] = task_type.name, text
            if task_type.secrets is not None and hide(bytes(submission.params), task_type.secrets).secrets is not None:
                self.add(Fault("/task/params", "a schedule keeps no secrets: have the function read them elsewhere"))


_ELSEWHERE = "let the function read large input elsewhere, by a name that is in the params"


_Reader = Callable[[Any, datetime], Any]
_MOMENTS = frozenset({"run_at", "deadline", "depends_on"})
"""Options of a submission that make sense for one task alone."""


def _typed(type_: Any) -> _Reader:
    return lambda value, _: msgspec.convert(value, type_)


def _cron(value: Any, _: datetime) -> str:
    rule: str = msgspec.convert(value, str)
    check_cron(rule)
    return rule


def _zone(value: Any, _: datetime) -> str:
    name: str = msgspec.convert(value, str)
    check_zone(name)
    return name


def _interval(value: Any, _: datetime) -> timedelta:
    return read_duration(value, MAX_INTERVAL, least=MIN_INTERVAL)


def _moment(value: Any, now: datetime) -> datetime:
    return check_moment(msgspec.convert(value, RunAt), now)


def _to_come(value: Any, now: datetime) -> datetime:
    moment = _moment(value, now)
    if moment <= now:
        raise ValueError("expected a time that is to come")
    return moment


_READERS: dict[str, _Reader] = {
    "name": _typed(Name),
    "cron": _cron,
    "interval": _interval,
    "time_zone": _zone,
    "missed": _typed(Missed),
    "overlap": _typed(Overlap),
    "paused": _typed(bool),
    "starts_at": _moment,
    "ends_at": _to_come,
}
_DEFAULTS: dict[str, Any] = {
    "cron": None, "interval": None, "time_zone": "UTC", "missed": "once", "overlap": "allow", "paused": False,
    "starts_at": None, "ends_at": None,
}  # fmt: skip
FIELDS = ("name", "type", "task", *_DEFAULTS)
"""The fields of a Schedule that a client sets."""
