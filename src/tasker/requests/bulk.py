"""The body of POST /bulk."""

from __future__ import annotations

from typing import Annotated, TypeVar
from uuid import UUID

from msgspec import Meta, Struct, structs

from tasker.model import Status, TaskFilter
from tasker.model.control import ACTS_ON, Action
from tasker.requests.body import Moment, array, read_object, read_whole
from tasker.validation.faults import Faults

MAX_TASK_IDS = 1000
T = TypeVar("T", bound=str)
Text = Annotated[str, Meta(min_length=1, max_length=100)]
Texts = Annotated[list[Text], Meta(min_length=1, max_length=50)]


class BulkFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Selects tasks, as in the list of tasks; every given field must match."""

    status: Annotated[list[Status], Meta(min_length=1, max_length=5)] | Status | None = None
    type: Texts | Text | None = None
    queue: Texts | Text | None = None
    tag: Text | None = None
    schedule_id: UUID | None = None
    parent: Annotated[UUID, Meta(description="The task that started them.")] | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    ended_after: Moment | None = None
    ended_before: Annotated[Moment, Meta(description="Also submitted before that time.")] | None = None
    group: Annotated[Text, Meta(description="The tasks of a group.")] | None = None
    error: Annotated[Text, Meta(description="A failure group, an id of `GET /failure`.")] | None = None
    q: Annotated[str, Meta(min_length=1, max_length=200, description="A text in the params or the error.")] | None = (
        None
    )
    bulk: Annotated[UUID, Meta(description="The bulk action that cancelled or retried them.")] | None = None
    owner: Annotated[Text, Meta(description="Other owners' tasks need an admin's key.")] | None = None

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The statuses, each once; none for any."""
        return _several(self.status)

    def as_filter(self) -> TaskFilter:
        given = structs.asdict(self)
        given |= {"status": self.statuses, "types": _several(given.pop("type")), "queues": _several(given.pop("queue"))}
        return TaskFilter(text=given.pop("q"), **given)


class BulkBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An action, and the tasks that it is for; null is the same as left out."""

    action: Annotated[
        Action,
        Meta(description="`cancel` acts on open tasks, `retry` on failed and cancelled ones, `delete` on ended ones."),
    ]
    filter: BulkFilter = BulkFilter()
    all: Annotated[bool, Meta(description="True, instead of a filter, selects every task.")] = False
    task_ids: (
        Annotated[
            list[UUID],
            Meta(min_length=1, max_length=MAX_TASK_IDS, description="These tasks, instead of a filter."),
            array(UUID, MAX_TASK_IDS, "task ids"),
        ]
        | None
    ) = None
    dry_run: Annotated[bool, Meta(description="Only count the tasks.")] = False
    at_most: (
        Annotated[int, Meta(ge=0, description="Refuse if there are more tasks, such as the count of a dry run.")] | None
    ) = None
    cursor: (
        Annotated[str, Meta(min_length=1, max_length=100, description="`next_cursor` of the call before, to continue.")]
        | None
    ) = None
    up_to: (
        Annotated[
            str,
            Meta(min_length=1, max_length=100, description="`up_to` of a dry run, to leave out tasks that came later."),
        ]
        | None
    ) = None


def read_bulk(body: bytes) -> BulkBody:
    """Read the body of a bulk action. Raises Malformed, Invalid with every fault."""
    faults = Faults()
    fields = read_whole(read_object(body), BulkBody, faults)
    faults.check()
    read = BulkBody(**fields)
    _check(read, faults)
    faults.check()
    return read


def _check(body: BulkBody, faults: Faults) -> None:
    is_empty = body.filter == BulkFilter()
    if body.task_ids is not None:
        _check_task_ids(body, faults)
    elif is_empty and not body.all:
        faults.add("/filter", 'is empty: give "all": true if every task is meant')
    if body.all and not is_empty:
        faults.add("/all", "give a filter, or all, not both")
    statuses = body.filter.statuses
    if statuses and not set(statuses) & set(ACTS_ON[body.action]):
        faults.add("/filter/status", f"{body.action} acts on tasks that are {', '.join(ACTS_ON[body.action])}")
    if body.cursor is not None and body.at_most is not None:
        faults.add("/cursor", "cannot be combined with at_most: it continues an earlier call")
    if body.up_to is not None and (body.dry_run or body.cursor is not None or body.task_ids is not None):
        faults.add("/up_to", "cannot be combined with dry_run, cursor or task_ids")


def _check_task_ids(body: BulkBody, faults: Faults) -> None:
    if not body.task_ids:
        faults.add("/task_ids", "expected at least one task id")
    if body.filter != BulkFilter() or body.all:
        faults.add("/task_ids", "give task ids, or a filter, or all, not both")
    if body.cursor is not None:
        faults.add("/cursor", "cannot be combined with task_ids")


def _several(given: list[T] | T | None) -> tuple[T, ...]:
    """Return given values, each once; none for None."""
    if given is None:
        return ()
    return tuple(dict.fromkeys(given)) if isinstance(given, list) else (given,)
