"""Check the tasks of an archive: only states that a store could have reached, and can continue from."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import get_args

import msgspec

from tasker.archive import values as check
from tasker.archive.steps import PARKED, vet_child, vet_steps
from tasker.model import MAX_RETENTION, Ending, Extra, Policy, Progress, Reason, Status, Task, TaskProblem
from tasker.model.archive import StoredAttempt, StoredEvent, StoredKey, StoredTask
from tasker.model.events import EVENT_TYPES
from tasker.requests.submissions import MAX_DEPENDENCIES, MAX_METADATA, MAX_TAGS
from tasker.requests.webhooks import PREFIX
from tasker.rules.urls import UrlRules, read_url
from tasker.tasktypes.options import MAX_TRIES

_STATUSES = tuple(status.value for status in Status)
_REASONS: tuple[str, ...] = get_args(Reason)
_ENDINGS: tuple[str, ...] = get_args(Ending)
_KEPT_EVENTS = tuple(event for event in EVENT_TYPES if event != "created")
"""Events with a row of their own; a task's row stands for its creation (engines/shared/log.py)."""
_MAX_WORKER = 300
_MAX_KEY = 1000
_MAX_DIGEST = 64
_MAX_TIMEOUT = timedelta(days=36_525)
_ZERO = timedelta(0)
_PRIORITIES = -(2**31), 2**31 - 1
_MAX_WEIGHT = 1_000_000_000

_decode_policy = msgspec.json.Decoder(Policy).decode
_decode_problem = msgspec.json.Decoder(TaskProblem).decode
_decode_progress = msgspec.json.Decoder(Progress).decode
_decode_extra = msgspec.json.Decoder(Extra).decode
_decode_reply = msgspec.json.Decoder(Task).decode


def vet_task(task: StoredTask, latest: datetime) -> None:
    """Raise ValueError, with the field and what was expected. latest: limit of all times except NEVER."""
    _vet_names(task)
    _vet_counts(task)
    _vet_times(task, latest)
    _vet_texts(task)
    _vet_status(task)
    _vet_attempts(task, latest)
    _vet_events(task, latest)
    vet_steps(task, latest)
    vet_child(task)
    for place, key in enumerate(task.keys):
        _vet_key(f"/keys/{place}", key, task, latest)


def _vet_names(task: StoredTask) -> None:
    check.type_name("/type", task.type)
    check.queue_name("/queue", task.queue)
    check.name("/owner", task.owner, empty=True)
    check.name("/worker", task.worker, most=_MAX_WORKER, optional=True)
    check.text("/unique_key", task.unique_key, 255, optional=True)
    check.text("/concurrency_key", task.concurrency_key, 255, optional=True)
    if len(task.tags) > MAX_TAGS:
        raise check.expected("/tags", f"at most {MAX_TAGS} of them", len(task.tags))
    for place, tag in enumerate(task.tags):
        check.text(f"/tags/{place}", tag, 100)
    if task.cache_key is not None and len(task.cache_key) > _MAX_DIGEST:
        raise check.expected("/cache_key", f"at most {_MAX_DIGEST} bytes", len(task.cache_key))


def _vet_counts(task: StoredTask) -> None:
    check.whole("/priority", task.priority, *_PRIORITIES)
    for field in ("attempt", "tries", "crashes", "interruptions"):
        check.whole(f"/{field}", getattr(task, field), 0, check.MOST)
    for field in ("max_attempts", "sequence"):
        check.whole(f"/{field}", getattr(task, field), 1, check.MOST)
    check.whole("/weight", task.weight, 1, _MAX_WEIGHT, optional=True)
    check.whole("/peak_memory", task.peak_memory, 0, check.MAX_INT, optional=True)
    check.length("/retention", task.retention, _ZERO, MAX_RETENTION, optional=True)


def _vet_times(task: StoredTask, latest: datetime) -> None:
    check.moment("/created_at", task.created_at, latest)
    check.moment("/due_at", task.due_at, latest, never=task.is_waiting or task.reason in PARKED or not task.is_pending)
    for field in ("run_at", "started_at", "finished_at", "cancel_requested_at", "deadline", "expires_at"):
        check.moment(f"/{field}", getattr(task, field), latest)


def _vet_texts(task: StoredTask) -> None:
    _vet_policy(task.policy)
    check.strict_json("/params", task.params, ())
    if task.metadata != "{}":
        check.strict_json("/metadata", task.metadata, (dict,), MAX_METADATA)
    if task.usage != "{}":
        check.written_json("/usage", task.usage, (dict,))
    if task.result is not None:
        check.written_json("/result", task.result)
    if task.progress is not None:
        progress = check.decoded("/progress", task.progress, _decode_progress)
        check.number("/progress/fraction", progress.fraction, 0, 1, optional=True)
    _vet_error("/error", task.error)
    if task.extra is not None:
        extra = check.decoded("/extra", task.extra, _decode_extra)
        _vet_extra(extra)
        if extra.group is not None and not task.has_dependants:
            raise check.expected("/has_dependants", "true for a task of a group", task.has_dependants)


@lru_cache(maxsize=1000)  # the tasks of a type share one text
def _vet_policy(given: str) -> None:
    policy = check.decoded("/policy", given, _decode_policy)
    retry = policy.retry
    check.whole("/policy/retry/max_attempts", retry.max_attempts, 1, MAX_TRIES)
    check.length("/policy/retry/max", retry.max, _ZERO, _MAX_TIMEOUT)
    check.length("/policy/retry/initial", retry.initial, _ZERO, _MAX_TIMEOUT)
    check.number("/policy/retry/factor", retry.factor, 1, 100)
    check.length("/policy/timeout", policy.timeout, timedelta.resolution, _MAX_TIMEOUT, optional=True)


def _vet_error(where: str, given: str | None) -> None:
    if given is not None:
        error = check.decoded(where, given, _decode_problem)
        check.whole(f"{where}/attempt", error.attempt, 0, check.MOST)


def _vet_extra(extra: Extra) -> None:
    if len(extra.depends_on) > MAX_DEPENDENCIES:
        raise check.expected("/extra/depends_on", f"at most {MAX_DEPENDENCIES} tasks", len(extra.depends_on))
    for where, name in (("/extra/group", extra.group), ("/extra/depends_on_group/group", _waited_for(extra))):
        check.group_name(where, name, optional=True)
    check.text("/extra/traceparent", extra.traceparent, 255, optional=True)
    check.moment("/extra/scheduled_for", extra.scheduled_for, check.NEVER)
    if extra.webhook is not None:
        try:
            read_url(
                extra.webhook.url, UrlRules(insecure=True)
            )  # it is only shown; deliveries use the webhook's own record
        except ValueError as error:
            raise ValueError(f"/extra/webhook/url: {error}") from None
        for event in extra.webhook.events:
            check.one_of("/extra/webhook/events", event.removeprefix(PREFIX), EVENT_TYPES)


def _waited_for(extra: Extra) -> str | None:
    return None if extra.depends_on_group is None else extra.depends_on_group.group


def _vet_status(task: StoredTask) -> None:
    check.one_of("/status", task.status, _STATUSES)
    if task.is_pending:
        check.one_of("/reason", task.reason, _REASONS)
    else:
        _none(task, "reason")
    if task.ending is not None:
        check.one_of("/ending", task.ending, _ENDINGS)
    if (task.worker is None) != (task.started_at is None):
        raise ValueError("/worker: expected a worker with a time of start, or neither")
    match task.status:
        case "pending":
            _none(task, "worker", "started_at", "finished_at", "ending", "result", "expires_at", "cancel_requested_at")
        case "running":
            _some(task, "worker")
            _none(task, "finished_at", "ending", "result", "expires_at")
        case "completed":
            _some(task, "worker", "finished_at", "result")
            _none(task, "error")
            check.one_of("/ending", task.ending, ("succeeded",))
        case _:
            _vet_other_end(task)


def _vet_other_end(task: StoredTask) -> None:
    _some(task, "finished_at", *(("error",) if task.status == "failed" else ()))
    _none(task, "result")
    if (task.worker is None) != (task.ending is None):
        raise ValueError("/ending: expected a worker with the end of its attempt, or neither")
    if task.ending == "succeeded":
        raise check.expected("/ending", f"one of a {task.status} task", task.ending)


def _none(task: StoredTask, *names: str) -> None:
    for field in names:
        if getattr(task, field) is not None:
            raise check.expected(f"/{field}", f"null in a task that is {task.status}", getattr(task, field))


def _some(task: StoredTask, *names: str) -> None:
    for field in names:
        if getattr(task, field) is None:
            raise check.expected(f"/{field}", f"one in a task that is {task.status}", None)


def _vet_attempts(task: StoredTask, latest: datetime) -> None:
    numbers = [one.attempt for one in task.attempts]
    before = task.attempt - (task.worker is not None)
    if numbers != list(range(1, min(before, len(numbers)) + 1)) or len(numbers) != before:
        raise check.expected("/attempts", f"those numbered from 1 to {before}, in order", numbers)
    for place, one in enumerate(task.attempts):
        _vet_attempt(f"/attempts/{place}", one, latest)


def _vet_attempt(where: str, one: StoredAttempt, latest: datetime) -> None:
    check.name(f"{where}/worker", one.worker, most=_MAX_WORKER)
    check.moment(f"{where}/started_at", one.started_at, latest)
    check.moment(f"{where}/finished_at", one.finished_at, latest)
    check.one_of(f"{where}/ending", one.ending, _ENDINGS)
    _vet_error(f"{where}/error", one.error)
    check.whole(f"{where}/peak_memory", one.peak_memory, 0, check.MAX_INT, optional=True)


def _vet_events(task: StoredTask, latest: datetime) -> None:
    last = 1
    for place, one in enumerate(task.events):
        where = f"/events/{place}"
        check.whole(f"{where}/sequence", one.sequence, last + 1, check.MOST)
        last = one.sequence
        _vet_event(where, one, task.attempt, latest)


def _vet_event(where: str, one: StoredEvent, attempts: int, latest: datetime) -> None:
    check.whole(f"{where}/attempt", one.attempt, 0, attempts)
    check.one_of(f"{where}/type", one.type, _KEPT_EVENTS)
    check.moment(f"{where}/time", one.time, latest)
    if one.data != "{}":
        check.written_json(f"{where}/data", one.data, (dict,))


def _vet_key(where: str, key: StoredKey, task: StoredTask, latest: datetime) -> None:
    check.text(f"{where}/key", key.key, _MAX_KEY)
    if len(key.fingerprint) > _MAX_DIGEST:
        raise check.expected(f"{where}/fingerprint", f"at most {_MAX_DIGEST} bytes", len(key.fingerprint))
    check.moment(f"{where}/expires_at", key.expires_at, latest, never=True)
    if not key.reply:  # the reply is then the task in its current state
        return
    check.written_json(f"{where}/reply", key.reply)
    reply = check.decoded(f"{where}/reply", key.reply, _decode_reply)
    if reply.task_id != task.task_id:
        raise check.expected(f"{where}/reply/task_id", f"the task's own, {task.task_id}", str(reply.task_id))
