"""Many tasks at once: what an action would do, and the receipt that tells how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from msgspec import structs

from tasker.api.calls import read_query, uuid_of
from tasker.api.events import SSE
from tasker.api.pages import list_query, page_parameters
from tasker.api.replies import Reply, Stream, encode
from tasker.errors import Conflict, Fault, Invalid
from tasker.model import TaskFilter
from tasker.model.bulk import BulkAction, read_filter
from tasker.model.control import Action
from tasker.requests.bulk import MAX_TASK_IDS
from tasker.service import Selection, Service
from tasker.web import texts
from tasker.web.frame import Frame
from tasker.web.live import Live
from tasker.web.page import Form, Visit, act, show
from tasker.web.rows import row_of
from tasker.web.tasks import QUERY, make_filter

TYPE_COUNT_OVER = 100
"""Number of tasks over which a deletion asks for their count to be typed."""
WITHIN = 1.0
"""Seconds that the page waits for an action to be done, before it shows the receipt."""
ACTIONS: dict[str, Action] = {"retry": "retry", "cancel": "cancel", "delete": "delete"}
_QUERY_NAMES = {"types": "type", "queues": "queue", "text": "q"}
"""Names of a filter's members in a query, where they differ."""
_NOT_FILTER = frozenset({"token", "action", "all", "task_id", "cursor", "limit", "at_most", "up_to", "typed"})
WHY_SKIPPED = {
    "gone": "erased since",
    "status": "its status has changed",
    "started": "it has started",
    "not_unique": "an open task has its unique key",
    "dependency": "depends on other tasks",
    "queue_limit": "too many open queues of its owner",
}


class Condition(NamedTuple):
    """A condition of a filter in words."""

    name: str
    value: str


class Asked(NamedTuple):
    """What a posted form selects. pairs: its filter as fields, with every time resolved."""

    chosen: Selection
    pairs: tuple[tuple[str, str], ...]


class BulkPages:
    """Preview, start, follow, stop and undo bulk actions."""

    def __init__(self, frame: Frame, service: Service, live: Live) -> None:
        self._frame = frame
        self._service = service
        self._bulk = service.bulk
        self._live = live

    @show("/bulk", parameters=page_parameters("bulk actions"))
    async def bulk(self, visit: Visit) -> Reply:
        """List the receipts, newest first."""
        page = await self._bulk.find_many(visit.caller, **list_query(visit.call))
        older = None if page.next_cursor is None else "?" + urlencode({"cursor": page.next_cursor})
        return self._frame.render(
            visit, "bulks.html", page="tasks", receipts=[receipt_of(one) for one in page.items], older=older
        )

    @act("/bulk", scope="control", is_audited=False)
    async def preview_bulk(self, visit: Visit) -> Reply:
        """Say what an action would do. Nothing is changed."""
        return await self._preview(visit, visit.form.get("action"), "", 200)

    @act("/bulk/start", scope="control", deed="act_on_tasks")
    async def start_bulk(self, visit: Visit) -> Reply:
        """Do it, if no more tasks match than were counted; else ask again."""
        action = _action_of(visit.form.get("action"))
        asked = _asked(visit)
        visit.call.head.audit_target = f"{action} {_describe(asked)}"
        at_most, up_to = _number(visit.form, "at_most"), visit.form.get("up_to") or None
        to_type = _to_type(at_most) if action == "delete" else None
        if to_type is not None and visit.form.get("typed").strip() != to_type:
            return await self._preview(visit, action, f"Type {to_type} to delete them.", 422)
        try:
            bulk = await self._bulk.start(
                visit.caller, action, asked.chosen, at_most=at_most, up_to=up_to, within=WITHIN
            )
        except Conflict as error:
            return await self._preview(visit, action, error.detail, 409)
        return self._frame.see(visit, f"bulk/{bulk.bulk_id}")

    @show("/bulk/{bulk_id}")
    async def receipt(self, visit: Visit) -> Reply:
        bulk = await self._bulk.get(visit.caller, visit.call.id_of("bulk_id"))
        live = None if bulk.state != "running" else f"{bulk.bulk_id}/live"
        return self._frame.render(visit, "bulk.html", page="tasks", r=receipt_of(bulk), live=live)

    @show("/bulk/{bulk_id}/live", media=SSE)
    async def live_receipt(self, visit: Visit) -> Stream:
        """Stream how far an action is."""
        caller, bulk_id = visit.caller, visit.call.id_of("bulk_id")
        await self._bulk.get(caller, bulk_id)
        may_control = caller.may("control")

        async def render() -> dict[str, str]:
            bulk = await self._bulk.get(caller, bulk_id)
            part = self._frame.part(
                "bulk_parts.html",
                "receipt",
                r=receipt_of(bulk),
                now=self._frame.clock.now(),
                base="../",
                may=may_control,
            )
            return {"receipt": part}

        return self._live.board(visit, ("bulk", bulk_id, caller.only, may_control), render)

    @act("/bulk/{bulk_id}/stop", scope="control", deed="stop_bulk")
    async def stop_bulk(self, visit: Visit) -> Reply:
        bulk = await self._bulk.stop(visit.caller, visit.call.id_of("bulk_id"))
        return self._frame.see(visit, f"bulk/{bulk.bulk_id}")

    @act("/bulk/{bulk_id}/undo", scope="control", deed="undo_bulk")
    async def undo_bulk(self, visit: Visit) -> Reply:
        bulk = await self._bulk.undo(visit.caller, visit.call.id_of("bulk_id"), within=WITHIN)
        return self._frame.see(visit, f"bulk/{bulk.bulk_id}")

    async def _preview(self, visit: Visit, action: str, refusal: str, status: int) -> Reply:
        """Return the page that says what an action would do; without an action, each that would do something."""
        asked = _asked(visit)
        actions = [_action_of(action)] if action else list(ACTIONS.values())
        previews = [await self._offer(visit, one, asked) for one in actions]
        previews = [one for one in previews if one["count"] != 0] or previews
        return self._frame.render(
            visit,
            "bulk_preview.html",
            page="tasks",
            status=status,
            offers=previews,
            refusal=refusal,
            conditions=conditions_of(asked.chosen.where),
            given=None if asked.chosen.task_ids is None else len(asked.chosen.task_ids),
            pairs=asked.pairs,
        )

    async def _offer(self, visit: Visit, action: Action, asked: Asked) -> dict[str, Any]:
        """Return an action with what it would do now."""
        found = await self._bulk.preview(visit.caller, action, asked.chosen)
        newest = found.newest if visit.caller.may("read") else []
        return {
            "action": action,
            "count": found.matched,
            "up_to": found.up_to,
            "newest": [row_of(task, visit.now) for task in newest],
            "to_type": _to_type(found.matched) if action == "delete" else None,
        }


class Receipt(NamedTuple):
    """A bulk action as its receipt shows it. to_go, matched: None if unknown. percent: of those that matched."""

    id: str
    action: Action
    state: str
    done: int
    skipped: int
    reasons: list[tuple[str, int]]
    to_go: int | None
    matched: int | None
    percent: float
    conditions: list[Condition]
    given: int | None
    who: str
    started_at: datetime
    ended_at: datetime | None
    undo_of: str | None

    @property
    def can_undo(self) -> bool:
        return self.action == "retry" and self.done > 0


def receipt_of(bulk: BulkAction) -> Receipt:
    """Return the receipt of a bulk action."""
    where = read_filter(bulk.selects)
    looked_at = bulk.done + bulk.skipped
    whole = bulk.matched if bulk.matched is not None else looked_at
    percent = 100.0 if bulk.state == "done" or not whole else min(100.0, 100 * looked_at / whole)
    return Receipt(
        id=str(bulk.bulk_id),
        action=bulk.action,
        state=bulk.state,
        done=bulk.done,
        skipped=bulk.skipped,
        reasons=[(WHY_SKIPPED.get(name, name), count) for name, count in bulk.skips.items() if count],
        to_go=bulk.to_go,
        matched=bulk.matched,
        percent=percent,
        conditions=[] if where is None or bulk.given is not None else conditions_of(where),
        given=bulk.given,
        who=texts.line(bulk.owner or bulk.key_id or "", 100),
        started_at=bulk.started_at,
        ended_at=bulk.ended_at,
        undo_of=None if bulk.undo_of is None else str(bulk.undo_of),
    )


def conditions_of(where: TaskFilter) -> list[Condition]:
    """Return the conditions of a filter in words; none if it selects every task."""
    values: dict[str, list[str]] = {}
    for name, value in pairs_of_filter(where):
        values.setdefault(name, []).append(value)
    return [Condition(name.replace("_", " "), " or ".join(several)) for name, several in values.items()]


def pairs_of_filter(where: TaskFilter) -> tuple[tuple[str, str], ...]:
    """Return a filter as the fields of a query or a form, times to the microsecond."""
    pairs: list[tuple[str, str]] = []
    for field in structs.fields(TaskFilter):
        value = getattr(where, field.name)
        name = _QUERY_NAMES.get(field.name, field.name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        pairs += [(name, one.isoformat() if isinstance(one, datetime) else str(one)) for one in values]
    return tuple(pairs)


def _asked(visit: Visit) -> Asked:
    """Return what a posted form selects: all of its filter, or the tasks that are chosen. Raises Invalid."""
    form = visit.form
    if form.get("all"):
        given = [(name, value) for name, value in form.pairs if name not in _NOT_FILTER and value]
        where = make_filter(read_query(urlencode(given).encode(), QUERY), visit.now)
        return Asked(Selection(where), (("all", "1"), *pairs_of_filter(where)))
    ids = form.all("task_id")
    if not 1 <= len(ids) <= MAX_TASK_IDS:
        raise _invalid("task_id", f"choose 1 to {MAX_TASK_IDS:,} tasks, or all that match")
    return Asked(Selection(task_ids=_ids(ids)), tuple(("task_id", one) for one in ids))


def _describe(asked: Asked) -> str:
    """Return what is selected as JSON, for the audit log."""
    given: dict[str, list[str]] = {}
    for name, value in asked.pairs:
        if name != "all":
            given.setdefault("task_ids" if name == "task_id" else name, []).append(value)
    return encode(given).decode()


def _ids(texts_: Sequence[str]) -> tuple[UUID, ...]:
    try:
        return tuple(uuid_of(text) for text in texts_)
    except ValueError as error:
        raise _invalid("task_id", str(error)) from None


def _action_of(text: str) -> Action:
    if text not in ACTIONS:
        raise _invalid("action", f"expected {' or '.join(ACTIONS)}")
    return ACTIONS[text]


def _number(form: Form, name: str) -> int | None:
    """Return a number of a form, None if it is empty. Raises Invalid."""
    text = form.get(name)
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _invalid(name, "expected a whole number")
    return int(text) if text else None


def _to_type(count: int | None) -> str | None:
    """Return what a person types to confirm a deletion; None for a small one. count: None for too many to count."""
    if count is None:
        return "all"
    return str(count) if count > TYPE_COUNT_OVER else None


def _invalid(name: str, detail: str) -> Invalid:
    return Invalid(f"{name}: {detail}", faults=[Fault(f"/{name}", detail)])
