"""The body of a submission: its description, and how it becomes a Submission.

Every fault of the envelope, the options and the params is found at once, each with its JSON Pointer (RFC 6901) into the
body that was sent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta, Raw, Struct, defstruct, structs

from tasker.clock import to_utc
from tasker.errors import Fault, Invalid
from tasker.model import (
    MAX_RETENTION,
    AfterGroup,
    OnConflict,
    Retention,
    RetryPolicy,
    group_name_pattern,
    queue_name_pattern,
)
from tasker.model.webhooks import WebhookFormat
from tasker.requests.body import Reads, array, by, duration, read_members, read_whole
from tasker.requests.webhooks import OwnWebhookBody, read_own_webhook
from tasker.rules.urls import UrlRules
from tasker.tasktypes.registry import Registry, TaskType
from tasker.validation.durations import Duration, read_duration
from tasker.validation.faults import Faults, kind_of
from tasker.validation.jsontext import MAX_DEPTH, MAX_DIGITS, read_json

MAX_AHEAD = timedelta(days=3653)
"""How far ahead a task may be scheduled: ten years."""
MAX_TIMEOUT = timedelta(hours=24)
MAX_RETRY_DELAY = timedelta(days=7)
MAX_TAGS = 20
MAX_DEPENDENCIES = 100
MAX_CACHE = timedelta(days=366)
MAX_METADATA = 16 * 1024
"""Bytes of the JSON text of `metadata`."""
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


def _read_retry(value: Any, pointer: str, faults: Faults) -> RetryOptions:
    if isinstance(value, dict):
        return RetryOptions(**read_members(value, RetryBody, faults, pointer, synonyms=_RETRY_SYNONYMS))
    if type(value) is int:  # as @task(retry=3) has it
        return RetryOptions(max_attempts=msgspec.convert(value, MaxAttempts))
    raise ValueError(f"expected a number of attempts or an object, got {kind_of(value)}")


def _read_retention(value: Any) -> Retention:
    if value == "forever":
        return "forever"
    try:
        return read_duration(value, MAX_RETENTION, zero=False)
    except ValueError as error:
        raise ValueError(f'{error}, or "forever"') from None


def _read_depends_on(value: Any, pointer: str, faults: Faults) -> tuple[UUID, ...] | AfterGroup:
    if isinstance(value, dict):
        before = len(faults)
        fields = read_whole(value, AfterGroupBody, faults, pointer)
        return AfterGroup(**fields) if len(faults) == before else ()
    if not isinstance(value, list):
        raise ValueError(f"expected an array of task ids, or an object with `group`, got {kind_of(value)}")
    ids: tuple[UUID, ...] = _read_task_ids(value, pointer, faults)
    return ids


QueueName = Annotated[str, Meta(pattern=queue_name_pattern, description="The queue to wait in.")]
Priority = Annotated[
    int, Meta(ge=-100, le=100, description="Larger starts first, strictly; equal priorities start in order of time.")
]
Tag = Annotated[str, Meta(min_length=1, max_length=100)]
Tags = Annotated[
    list[Tag],
    Meta(max_length=MAX_TAGS, description="Labels to find the task by."),
    array(Tag, MAX_TAGS, "strings"),
]
Metadata = Annotated[dict[str, Any], Meta(description="The client's own notes, at most 16 KiB; Tasker keeps them.")]
RunAt = Annotated[
    datetime,
    Meta(tz=True, description="Not before this time (RFC 3339 with a zone; at most 10 years ahead). Not with `delay`."),
]
MaxAttempts = Annotated[int, Meta(ge=1, le=100, description="Attempts in all.")]
Factor = Annotated[float, Meta(ge=1, le=100, description="Each delay is this many times as long as the one before.")]
Deadline = Annotated[datetime, Meta(tz=True, description="No attempt starts after this time (RFC 3339 with a zone).")]
UniqueKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        description="Only one open task of the type has this key at a time; see `on_conflict`.",
    ),
]
_Conflict = Annotated[
    OnConflict,
    Meta(description="If an open task of the type has the key: return that task, reject with 409, or replace it."),
]
DependsOn = Annotated[
    list[UUID],
    Meta(max_length=MAX_DEPENDENCIES, description="Starts when these have completed, and fails when one of them does."),
]
_read_task_ids = array(UUID, MAX_DEPENDENCIES, "task ids").reader
GroupName = Annotated[
    str,
    Meta(pattern=group_name_pattern, description="The group that it is in, of the owner's; made by its first task."),
]
ConcurrencyKey = Annotated[
    str,
    Meta(min_length=1, max_length=255, description="A queue may limit how many tasks with the same key run at a time."),
]
Weight = Annotated[
    int, Meta(ge=1, le=1_000_000_000, description="What each start costs of its queue's rate, by default 1.")
]
Lasting = Annotated[
    Annotated[float, Meta(gt=0, description="Seconds, or an ISO 8601 duration, from the task's end on; or `forever`.")]
    | Annotated[str, Meta(max_length=100)]
    | None,
    by(_read_retention),
]
Delay = Annotated[Duration | None, duration(MAX_AHEAD)]
Timeout = Annotated[Duration | None, duration(MAX_TIMEOUT, zero=False)]
RetryDelay = Annotated[Duration | None, duration(MAX_RETRY_DELAY)]
Cache = Annotated[
    Duration,
    Meta(description="Join an open task with equal params and `cache`, or return one that completed within this time."),
    duration(MAX_CACHE),
]
KeepSteps = Annotated[
    bool, Meta(description="Whether it begins with the steps of the original, its children excepted.")
]


class RetryBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a failed attempt is retried; the task type has the defaults."""

    max_attempts: MaxAttempts | None = None
    initial: RetryDelay = None
    factor: Factor | None = None
    max: RetryDelay = None
    jitter: bool | None = None


class AfterGroupBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group to wait for, until none of its tasks is open."""

    group: Annotated[str, Meta(pattern=group_name_pattern, description="Its name; it exists already.")]
    when: Annotated[
        Literal["completed", "ended"] | None,
        Meta(description="`completed`: fail if one of its tasks failed or was cancelled; `ended`: start in any case."),
    ] = None


class SubmissionBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /task: a task type, its params, and options; null is the same as left out."""

    type: Annotated[str, Meta(description="The name of a task type (GET /type).")]
    params: Annotated[list[Any] | dict[str, Any], Meta(description="By position or by name; one schema for both.")] = []
    queue: QueueName | None = None
    priority: Priority | None = None
    delay: Delay = None
    run_at: RunAt | None = None
    timeout: Timeout = None
    retry: Annotated[RetryBody | MaxAttempts | None, Reads(_read_retry)] = None
    tags: Tags | None = None
    metadata: Metadata | None = None
    deadline: Deadline | None = None
    unique_key: UniqueKey | None = None
    on_conflict: _Conflict | None = None
    depends_on: Annotated[DependsOn | AfterGroupBody | None, Reads(_read_depends_on)] = None
    group: GroupName | None = None
    cache: Cache | None = None
    retention: Lasting = None
    webhook: OwnWebhookBody | None = None
    concurrency_key: ConcurrencyKey | None = None
    weight: Weight | None = None


def _optional(field: structs.FieldInfo) -> tuple[str, Any, Any]:
    return field.name, field.type if field.default is None else field.type | None, None


ReplayBody: type[Struct] = defstruct(
    "ReplayBody",
    [
        *(_optional(field) for field in structs.fields(SubmissionBody) if field.name != "type"),
        ("keep_steps", KeepSteps | None, None),
    ],
    namespace={"__doc__": "What differs from the task that is replayed; null is the same as left out."},
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
)


class RetryOptions(Struct, frozen=True, kw_only=True):
    """The retry options that a client gives; None for those it leaves out."""

    max_attempts: int | None = None
    initial: timedelta | None = None
    factor: float | None = None
    max: timedelta | None = None
    jitter: bool | None = None


class OwnWebhook(Struct, frozen=True, kw_only=True):
    """The webhook of one task: the events that it gets, signed if it has a secret."""

    url: str
    events: tuple[str, ...]
    secret: str | None = None
    format: WebhookFormat = "standard"


class Submission(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A valid request to run `type` with `params` (JSON text, exactly as sent); None stands for the type's default.

    Defaults are left out of its JSON text, so that the text stays the same when a later version adds an option.
    """

    type: str
    params: Raw
    queue: str | None = None
    priority: int | None = None
    delay: timedelta | None = None
    run_at: datetime | None = None
    timeout: timedelta | None = None
    retry: RetryOptions | None = None
    tags: tuple[str, ...] = ()
    metadata: Raw | None = None
    deadline: datetime | None = None
    unique_key: str | None = None
    on_conflict: OnConflict = "return"
    depends_on: tuple[UUID, ...] = ()
    depends_on_group: AfterGroup | None = None
    group: str | None = None
    cache: timedelta | None = None
    retention: Retention | None = None
    replay_of: UUID | None = None
    keep_steps: bool = False
    webhook: OwnWebhook | None = None
    concurrency_key: str | None = None
    weight: int = 1


class Context(Struct, frozen=True):
    """The context of reading a submission's body. rules: where its webhook may lead."""

    registry: Registry
    now: datetime
    rules: UrlRules = UrlRules()


class Texts(Struct):
    """The parts of the body whose text is kept as it came."""

    params: Raw = Raw(b"[]")
    metadata: Raw = Raw(b"null")


decode_texts = msgspec.json.Decoder(Texts).decode


class OpenedSubmission:
    """A submission's body after the first step: decoded, and its task type found. `read` does the rest.

    type_name: the type, if the body is the params alone. Raises Malformed (not valid JSON), Invalid (no object; no type
    `type_name`).
    """

    __slots__ = ("_body", "_context", "_is_params", "_value", "task_type")

    def __init__(self, body: bytes, context: Context, *, type_name: str | None = None) -> None:
        value = read_json(body)
        self._body, self._context, self._value = body, context, value
        self._is_params = type_name is not None
        self.task_type: TaskType | None
        if type_name is not None:
            self.task_type = context.registry.get(type_name)
        elif isinstance(value, dict):
            name = value.get("type")
            self.task_type = context.registry.find(name) if isinstance(name, str) else None
        else:
            raise Invalid("expected an object with `type` and `params`", faults=[Fault("", "expected an object")])

    @property
    def params_pointer(self) -> str:
        """The JSON Pointer of the params in the body."""
        return "" if self._is_params else "/params"

    def read(self) -> tuple[TaskType, Submission]:
        """Read and check the rest. Raises Invalid with every fault."""
        if not self._is_params:
            return read_envelope(self._value, decode_texts(self._body), self.task_type, self._context)
        assert self.task_type is not None
        params = self._body.strip()
        self.task_type.check(self._value, params)
        return self.task_type, Submission(type=self.task_type.name, params=Raw(params))


def read_submission(body: bytes, context: Context, *, type_name: str | None = None) -> tuple[TaskType, Submission]:
    """Read the body of a submission; with `type_name` the body is the params alone.

    Raises Malformed (not valid JSON) or Invalid (with every fault).
    """
    return OpenedSubmission(body, context, type_name=type_name).read()


class _Ordinary(Struct, frozen=True, forbid_unknown_fields=True):
    """The members of an ordinary body."""

    type: str
    params: Raw


_decode_ordinary = msgspec.json.Decoder(_Ordinary).decode


def read_ordinary(body: bytes, registry: Registry) -> tuple[TaskType, Submission] | None:
    """Return the submission in an ordinary body: a type and valid params, without escapes or members of objects.

    Return None for every other body, which OpenedSubmission reads. An ordinary body has nothing that only the strict
    reader refuses: with two colons it has no third key. This takes half of the strict reader's time.
    """
    if (
        len(body) > MAX_DIGITS
        or not body.isascii()
        or b"\\" in body
        or body.count(b":") != 2
        or body.count(b"[") + body.count(b"{") > MAX_DEPTH
    ):
        return None
    try:
        type_name, params = structs.astuple(_decode_ordinary(body))
    except msgspec.DecodeError:
        return None
    task_type = registry.find(type_name)
    if task_type is None or not task_type.is_plain or not task_type.takes(bytes(params)):
        return None
    return task_type, Submission(type=task_type.name, params=params)


def read_envelope(
    value: dict[str, Any], texts: Texts, task_type: TaskType | None, context: Context, retry: RetryPolicy | None = None
) -> tuple[TaskType, Submission]:
    """Return the submission in the members of a body, and its type.

    task_type: the type that they name, None if it does not exist. retry: the defaults of their retry options; without
    it, those of the type. Raises Invalid with every fault.
    """
    faults = Faults()
    if task_type is None:
        _add_type_fault(value, context.registry, faults)
    else:
        _check_params(task_type, value.get("params", []), texts.params, faults)
    if len(value) == 2 and "params" in value:  # only type and params: by far the most frequent
        options: dict[str, Any] = {}
    else:
        options = read_options(value, texts, faults, context.now, context.rules)
        if "retry" in options and task_type is not None:
            _check_delays(options["retry"], retry or task_type.policy.retry, faults)
    faults.check()
    assert task_type is not None
    return task_type, Submission(type=task_type.name, params=texts.params, **options)


def _add_type_fault(value: dict[str, Any], registry: Registry, faults: Faults) -> None:
    name = value.get("type")
    if not isinstance(name, str) or not name:
        faults.add("/type", "expected the name of a task type" if "type" in value else "is missing")
    else:
        faults.add("/type", registry.explain(name), registry.refusal(name))


def _check_params(task_type: TaskType, params: Any, text: Raw, faults: Faults) -> None:
    try:
        task_type.check(params, bytes(text))
    except Invalid as error:
        faults.put_all(error, "/params")


def read_options(value: dict[str, Any], texts: Texts, faults: Faults, now: datetime, rules: UrlRules) -> dict[str, Any]:
    """Read all members but `type` and `params`; return the fields of a Submission that they set."""
    options = read_members(value, SubmissionBody, faults, skip=_READ_APART, synonyms=_SYNONYMS)
    _check_times(options, now, faults)
    if "on_conflict" in options and "unique_key" not in options:
        faults.add("/on_conflict", "needs a `unique_key`")
    if isinstance(options.get("depends_on"), AfterGroup):
        options["depends_on_group"] = options.pop("depends_on")
    elif "depends_on" in options:
        options["depends_on"] = tuple(dict.fromkeys(options["depends_on"]))
    if "metadata" in options:
        options["metadata"] = texts.metadata
        if len(memoryview(texts.metadata)) > MAX_METADATA:
            faults.add("/metadata", f"expected at most {MAX_METADATA:,} bytes of JSON")
    if value.get("webhook") is not None:
        before = len(faults)
        fields = read_own_webhook(value["webhook"], "/webhook", rules, faults)
        options["webhook"] = OwnWebhook(**fields) if len(faults) == before else None
    return options


def check_moment(moment: datetime, now: datetime) -> datetime:
    """Return a moment in UTC. Raises ValueError before the year 2000 and more than ten years ahead."""
    if not _EARLIEST <= moment <= now + MAX_AHEAD:
        raise ValueError("expected a time after the year 2000 and at most 10 years ahead")
    return to_utc(moment)


def _check_times(options: dict[str, Any], now: datetime, faults: Faults) -> None:
    if "delay" in options and "run_at" in options:
        faults.add("/run_at", "give `delay` or `run_at`, not both")
    if "run_at" in options:
        try:
            options["run_at"] = check_moment(options["run_at"], now)
        except ValueError as error:
            faults.add("/run_at", str(error))
            del options["run_at"]
    if "deadline" in options:
        _check_deadline(options, now, faults)


def _check_deadline(options: dict[str, Any], now: datetime, faults: Faults) -> None:
    deadline: datetime = options["deadline"]
    if not now < deadline <= now + MAX_AHEAD:
        faults.add("/deadline", "expected a time that is to come, at most 10 years ahead")
        return
    start = now + options["delay"] if "delay" in options else options.get("run_at", now)
    if deadline <= start:
        faults.add("/deadline", "expected a time after the moment from which the task may start")
    options["deadline"] = to_utc(deadline)


def _check_delays(asked: RetryOptions, otherwise: RetryPolicy, faults: Faults) -> None:
    """Add a fault if the first delay exceeds the longest one. otherwise: the defaults."""
    initial = otherwise.initial if asked.initial is None else asked.initial
    most = otherwise.max if asked.max is None else asked.max
    if initial <= most:
        return
    if asked.initial is None:
        faults.add("/retry/max", f"expected at least `initial` ({initial.total_seconds():,g} s)")
    else:
        faults.add("/retry/initial", f"expected at most `max` ({most.total_seconds():,g} s)")


_READ_APART = frozenset({"type", "params", "webhook"})


def _synonyms(**names: str) -> dict[str, str]:
    """Return our field names by their names in other task queues, for hints. Other names are separated by spaces."""
    return {other: name for name, others in names.items() for other in others.split()}


_SYNONYMS = _synonyms(
    params="args kwargs arguments input payload",
    type="name task",
    run_at="eta scheduled_at",
    delay="countdown",
    deadline="expires",
    timeout="time_limit",
    retry="retries max_retries attempts max_attempts",
    retention="ttl",
    webhook="callback callback_url",
)
_RETRY_SYNONYMS = _synonyms(
    max_attempts="attempts retries max_retries tries", initial="delay min", factor="backoff multiplier", max="max_delay"
)
