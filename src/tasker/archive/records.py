"""Check the records of an archive: keys, settings of queues, schedules, webhooks, deliveries, usage by day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import get_args

import msgspec

from tasker.archive import values as check
from tasker.engines.shared.tables import Row, read_records
from tasker.model.archive import StoredRecord
from tasker.model.events import EVENT_TYPES, GROUP_ENDED, WEBHOOK_EVENTS
from tasker.model.groups import GroupEnd
from tasker.model.keys import SCOPES, Key
from tasker.model.queues import QueueSettings, Rate
from tasker.model.schedules import Schedule
from tasker.model.usage import DayUsage
from tasker.model.webhooks import Delivery, FailureName, Webhook
from tasker.requests.queues import MAX_CONCURRENCY, MAX_PER, MAX_UNITS
from tasker.requests.schedules import MAX_INTERVAL, MIN_INTERVAL, read_template
from tasker.rules.signing import is_secret
from tasker.rules.ticks import check_cron, find_zone
from tasker.rules.urls import UrlRules, read_url

Name = tuple[str, ...]
"""A kind of name, and the name, which only one record of the archive may have."""
_DIGEST = 32
_MAX_KEY_ID = 40
_MAX_LANE = 2500
_MAX_DETAIL = 10_000
_MAX_SECRETS = 10
_MAX_RECENT = 1000
_MAX_REQUESTS = 1_000_000
_MAX_DOLLARS = 1e12
_SCHEDULE_TIMES = ("starts_at", "ends_at", "anchor", "created_at", "updated_at", "next_fire_at", "last_fired_at")
_FAILURES: tuple[str, ...] = get_args(FailureName)
_decode_end = msgspec.json.Decoder(GroupEnd).decode


def vet_record(record: StoredRecord, now: datetime, latest: datetime, rules: UrlRules) -> Iterator[Name]:
    """Yield the names that no other record of the archive may have. Raises ValueError, ArchiveError."""
    [row] = read_records([record])
    check.know_all("", record.data, row.value)
    _vet_value(row, now, latest, rules)
    yield record.record, record.key
    match row.value:
        case Schedule(owner=owner, name=named):
            yield "schedule of an owner by its name", owner, named
        case Delivery(task_id=task_id, sequence=sequence, webhook_id=webhook_id):
            yield "delivery of an event to a webhook", str(task_id), str(sequence), str(webhook_id)


def _vet_value(row: Row, now: datetime, latest: datetime, rules: UrlRules) -> None:
    match row.value:
        case Key() as key:
            _vet_key(key, latest)
        case QueueSettings() as settings:
            _vet_queue(settings)
        case Schedule() as schedule:
            _vet_schedule(schedule, now, latest, rules)
        case Webhook() as webhook:
            _vet_webhook(webhook, latest, rules)
        case Delivery() as delivery:
            _vet_delivery(delivery, latest)
        case DayUsage() as usage:
            _vet_usage(usage, latest)
        case _:  # pragma: no cover  every shape has a case, which a test checks
            raise ValueError(f"no check is known for a {row.table}: please report it")


def _vet_key(key: Key, latest: datetime) -> None:
    check.name("/key_id", key.key_id, most=_MAX_KEY_ID)
    if not (key.key_id.isascii() and key.key_id.isalnum()):
        raise check.expected("/key_id", "letters and digits", key.key_id)
    check.name("/name", key.name)
    check.name("/owner", key.owner)
    if not key.scopes or len(set(key.scopes)) != len(key.scopes):
        raise check.expected("/scopes", f"some of {', '.join(SCOPES)}, each once", key.scopes)
    if len(key.digest) != _DIGEST:
        raise check.expected("/digest", f"{_DIGEST} bytes in base64", key.digest)
    for field in ("created_at", "expires_at", "revoked_at", "last_used_at"):
        check.moment(f"/{field}", getattr(key, field), latest)
    check.number("/rate", key.rate, 0.001, _MAX_REQUESTS, optional=True)
    check.whole("/burst", key.burst, 1, 2 * _MAX_REQUESTS, optional=key.rate is None)
    check.number("/daily_budget", key.daily_budget, 0, _MAX_DOLLARS, optional=True)


def _vet_queue(settings: QueueSettings) -> None:
    check.queue_name("/name", settings.name)
    check.whole("/concurrency", settings.concurrency, 1, MAX_CONCURRENCY, optional=True)
    check.whole("/concurrency_per_key", settings.concurrency_per_key, 1, MAX_CONCURRENCY, optional=True)
    if settings.rate is not None:
        _vet_rate(settings.rate)


def _vet_rate(rate: Rate) -> None:
    check.whole("/rate/limit", rate.limit, 1, MAX_UNITS)
    check.whole("/rate/burst", rate.burst, 1, MAX_UNITS)
    check.length("/rate/per", rate.per, timedelta(milliseconds=1), MAX_PER)


def _vet_schedule(schedule: Schedule, now: datetime, latest: datetime, rules: UrlRules) -> None:
    check.name("/name", schedule.name)
    check.name("/owner", schedule.owner, empty=True)
    check.type_name("/type", schedule.type)
    _vet_rule(schedule)
    for field in _SCHEDULE_TIMES:
        check.moment(f"/{field}", getattr(schedule, field), latest)
    check.whole("/version", schedule.version, 1, check.MOST)
    if schedule.paused and schedule.next_fire_at is not None:
        raise check.expected("/next_fire_at", "null in a schedule that is paused", schedule.next_fire_at.isoformat())
    if len(schedule.recent) > _MAX_RECENT:
        raise check.expected("/recent", f"at most {_MAX_RECENT:,} tasks", len(schedule.recent))
    if schedule.last_skip is not None:
        check.moment("/last_skip/tick", schedule.last_skip.tick, latest)
        check.text("/last_skip/detail", schedule.last_skip.detail, _MAX_DETAIL, least=0)
    found = read_template(schedule.task, rules, now)
    if found != schedule.type:
        raise check.expected("/task/type", f"{schedule.type}, as the schedule has it", found)


def _vet_rule(schedule: Schedule) -> None:
    if (schedule.cron is None) == (schedule.interval is None):
        raise ValueError("/cron: expected a cron rule or an interval, one of them")
    try:
        if schedule.cron is not None:
            check_cron(schedule.cron)
        find_zone(schedule.time_zone)
    except ValueError as error:
        where = "/time_zone" if "time zone" in str(error) else "/cron"
        raise ValueError(f"{where}: {error}") from None
    check.length("/interval", schedule.interval, MIN_INTERVAL, MAX_INTERVAL, optional=True)


def _vet_webhook(webhook: Webhook, latest: datetime, rules: UrlRules) -> None:
    try:
        read_url(webhook.url, rules)
    except ValueError as error:
        more = "" if rules.insecure else " (TASKER_WEBHOOK_INSECURE and TASKER_WEBHOOK_HOSTS say what else is allowed)"
        raise ValueError(f"/url: {error}{more}") from None
    if not webhook.events:
        raise check.expected("/events", f"some of {', '.join(WEBHOOK_EVENTS)}", webhook.events)
    for event in webhook.events:
        check.one_of("/events", event, WEBHOOK_EVENTS)
    check.name("/owner", webhook.owner, empty=True)
    check.type_name("/type", webhook.type, optional=True)
    check.queue_name("/queue", webhook.queue, optional=True)
    check.text("/tag", webhook.tag, 100, optional=True)
    check.text("/description", webhook.description, 200, least=0, optional=True)
    check.text("/reason", webhook.reason, _MAX_DETAIL, least=0, optional=True)
    check.moment("/created_at", webhook.created_at, latest)
    check.moment("/failing_since", webhook.failing_since, latest)
    if len(webhook.secrets) > _MAX_SECRETS:
        raise check.expected("/secrets", f"at most {_MAX_SECRETS}", len(webhook.secrets))
    for place, one in enumerate(webhook.secrets):
        check.moment(f"/secrets/{place}/expires_at", one.expires_at, latest)
        if not is_secret(one.secret):  # which is not shown
            raise ValueError(f"/secrets/{place}/secret: expected `whsec_` and 24 to 64 bytes in base64")


def _vet_delivery(delivery: Delivery, latest: datetime) -> None:
    check.whole("/sequence", delivery.sequence, 1, check.MOST)
    check.one_of("/event", delivery.event, EVENT_TYPES if delivery.group_end is None else (GROUP_ENDED,))
    if delivery.group_end is not None:
        check.decoded("/group_end", bytes(delivery.group_end), _decode_end)
    check.one_of("/status", delivery.status, ("pending",))
    check.text("/lane", delivery.lane, _MAX_LANE)
    check.whole("/attempts", delivery.attempts, 0, check.MOST)
    check.whole("/tries", delivery.tries, 0, delivery.attempts)
    for field in ("created_at", "due_at", "attempted_at"):
        check.moment(f"/{field}", getattr(delivery, field), latest)
    check.whole("/response_code", delivery.response_code, 100, 999, optional=True)
    check.number("/duration", delivery.duration, 0, check.MOST, optional=True)
    if delivery.error is not None:
        check.one_of("/error/name", delivery.error.name, _FAILURES)
        check.text("/error/detail", delivery.error.detail, _MAX_DETAIL, least=0)


def _vet_usage(usage: DayUsage, latest: datetime) -> None:
    row = usage.row
    if row.day is None or not 1970 <= row.day.year <= latest.year:
        raise check.expected("/row/day", f"a day from 1970 to {latest:%Y}", row.day)
    check.name("/row/owner", row.owner, empty=True)
    check.type_name("/row/type", row.type)
