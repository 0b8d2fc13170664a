"""The FailureStore. The engines count failures where they end tasks."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from tasker.engines.shared.rows import Database, Rows
from tasker.engines.shared.values import decode_problem
from tasker.errors import Fault, Invalid
from tasker.model.failures import FailureFilter, FailureGroup, FailurePage, FailureSample
from tasker.rules.failures import fingerprint

MOST_ROWS = 50_000
"""Hourly counts that one page reads."""
_DETAIL = 400
"""Characters of a sample's detail."""
_COLUMNS = (str, str, str, int, datetime)
_FACTS = (str, str, str, datetime, UUID, bytes)


class _Found(NamedTuple):
    """A group on a page: what its hourly counts say."""

    owner: str
    failure_id: str
    type: str
    number: int
    last_at: datetime


class _Facts(NamedTuple):
    """What is known of a group, and its newest task if one is left."""

    problem: str
    exception: str
    first_at: datetime
    task_id: UUID | None = None
    error: bytes | None = None


class _Place(Struct, frozen=True, array_like=True):
    """Where a page ended, as its cursor has it."""

    last_at: datetime
    owner: str
    failure_id: str
    type: str


class Failures:
    """Failure groups. most: hourly counts that one page reads."""

    def __init__(self, database: Database[Any], most: int = MOST_ROWS) -> None:
        self._database = database
        self._most = most

    async def find_many(self, where: FailureFilter, *, limit: int, cursor: str | None = None) -> FailurePage:
        place = None if cursor is None else _place_of(cursor)
        return await self._database.read(lambda rows: self._page(rows, where, limit, place))

    async def _page(self, rows: Rows, where: FailureFilter, limit: int, place: _Place | None) -> FailurePage:
        kind, chosen = _chosen(where)
        since = hour_of(where.since)
        reach = await rows.value(f"{kind}_reach", datetime, since=since, most=self._most, **chosen)
        since = since if reach is None else reach
        place = place or _Place(since, "", "", "")
        values = {
            "since": since, "limit": limit + 1, "goes_on": place.failure_id != "",
            "by_type": bool(where.types), "types": where.types, "by_queue": bool(where.queues), "queues": where.queues,
            "last_at": place.last_at, "last_owner": place.owner, "last_failure": place.failure_id,
            "last_type": place.type, **chosen,
        }  # fmt: skip
        found = [_Found(*row) for row in await rows.fetch(f"{kind}_page", *_COLUMNS, **values)]
        groups = await _groups(rows, found[:limit])
        return FailurePage(
            items=groups, next_cursor=_cursor_of(groups[-1]) if len(found) > limit else None, counted_from=since
        )


async def prune_failures(rows: Rows, before: datetime, limit: int) -> int:
    """Forget counts and groups of failures before a time, at most `limit` of each; return how many."""
    done = [await rows.run(f"prune_{name}", before=before, limit=limit) for name in ("failure_hours", "failures")]
    return sum(done)


def hour_of(moment: datetime) -> datetime:
    """Return the full hour before a time."""
    return moment - timedelta(minutes=moment.minute, seconds=moment.second, microseconds=moment.microsecond)


def _chosen(where: FailureFilter) -> tuple[str, dict[str, Any]]:
    """Return which queries find the counts of a filter by an index, and their values."""
    if where.failure_id is not None:
        values = {"failure": where.failure_id, "by_owner": where.owner is not None, "owner": where.owner or ""}
        return "one_failure", values
    return ("failures", {}) if where.owner is None else ("own_failures", {"owner": where.owner})


async def _groups(rows: Rows, found: list[_Found]) -> list[FailureGroup]:
    """Return groups with their facts. There are none of the group OTHER."""
    failures = list({one.failure_id for one in found})
    known = {
        failure_id: _Facts(*facts)
        for failure_id, *facts in await rows.fetch("failure_facts", *_FACTS, failures=failures)
    }
    return [_group(one, known.get(one.failure_id, _Facts("", "", one.last_at))) for one in found]


def _group(found: _Found, facts: _Facts) -> FailureGroup:
    error = None if facts.error is None else decode_problem(facts.error)
    sample = None
    if error is not None and facts.task_id is not None:
        sample = FailureSample(task_id=facts.task_id, detail=error.detail[:_DETAIL])
    return FailureGroup(
        failure_id=found.failure_id,
        owner=found.owner,
        type=found.type,
        problem=facts.problem,
        exception=facts.exception,
        message=None if error is None else fingerprint(found.owner, found.type, error).message,
        count=found.number,
        first_at=facts.first_at,
        last_at=found.last_at,
        sample=sample,
    )


def _cursor_of(group: FailureGroup) -> str:
    place = _Place(group.last_at, group.owner, group.failure_id, group.type)
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _place_of(cursor: str) -> _Place:
    """Return the place in a cursor. Raises Invalid."""
    try:
        return msgspec.json.decode(base64.b64decode(cursor, altchars=b"-_", validate=True), type=_Place)
    except (binascii.Error, ValueError):
        fault = Fault("/cursor", "expected the next_cursor of an earlier page")
        raise Invalid("the cursor is not one that this service gave out", faults=[fault]) from None
