"""The children of tasks: made from what a running function asks for, within the limits, and stored.

They are checked like submissions, and have the rights, the owner, the deadline and the trace of their parent. Three
limits of submissions do not apply. A daily budget refuses no child: its attempts wait for the next day, as those of any
task. TASKER_MAX_PENDING refuses none: the parent would hold its slot while it waits, maybe the one that its children
need; they count, so other submissions are refused earlier. And no child has an idempotency key: its id is derived.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from msgspec import Raw, structs

from tasker.clock import Clock
from tasker.engines.protocol import StepStore
from tasker.errors import Conflict, Invalid, RequestError, Unavailable
from tasker.model import Draft, Extra, Lease
from tasker.model.keys import Caller
from tasker.model.steps import Family, NewChildren, NewStep, Step
from tasker.requests.children import OpenedChild, explain, read_child_options
from tasker.requests.submissions import Submission
from tasker.rules.children import MAX_LEVEL, Origin, child_id
from tasker.service.admission import OpenQueues
from tasker.service.drafts import draft_of
from tasker.service.pauses import Pauses
from tasker.service.reading import Reading
from tasker.tasktypes.registry import TaskType
from tasker.tasktypes.steps import StartChildren

_NO_EXTRA = Extra()


class ChildLimits(NamedTuple):
    """The most children of one task, and the most bytes of one child's params."""

    children: int = 10_000
    params: int = 1 << 20


class ChildService:
    """Starts children. open_queues: limits the queues in which their owner has open tasks."""

    def __init__(
        self, steps: StepStore, reading: Reading, clock: Clock, open_queues: OpenQueues, limits: ChildLimits
    ) -> None:
        self._steps = steps
        self._reading = reading
        self._clock = clock
        self._open_queues = open_queues
        self._limits = limits

    async def start(self, lease: Lease, family: Family, origin: Origin, request: StartChildren) -> Step | None:
        """Store the children of a request with their step; None if the lease is not the current one.

        Raises Invalid (every fault of the options, or of the params of all), Conflict (too many levels, children or
        queues), Unavailable. Then nothing of the request is stored.
        """
        self._check_limits(family, request)
        children = await self._make(lease.task_id, family, origin, request)
        queue = children.drafts[0].queue if children.drafts else None
        if queue is None:
            return await self._steps.start_children(lease, children, most=self._limits.children)
        await self._open_queues.enter(family.owner, queue)
        try:
            return await self._steps.start_children(lease, children, most=self._limits.children)
        finally:
            self._open_queues.leave([(family.owner, queue)])

    def _check_limits(self, family: Family, request: StartChildren) -> None:
        if family.level >= MAX_LEVEL:
            raise Conflict(
                f"a child would be {family.level + 1} levels below its root, and {MAX_LEVEL} are allowed",
                name="limit-reached",
            )
        if request.total > self._limits.children:
            raise Conflict(
                f"the task would have {request.total:,} children, and {self._limits.children:,} are allowed"
                " (TASKER_MAX_CHILDREN)",
                name="limit-reached",
            )

    async def _make(self, parent_id: UUID, family: Family, origin: Origin, request: StartChildren) -> NewChildren:
        task_type = self._reading.task_type(request.type_name)
        now = self._clock.now()
        common = read_child_options(task_type.name, request.options, now)
        common = structs.replace(common, deadline=family.deadline)
        params = await self._check_params(family.owner, task_type, request)
        maker = _DraftMaker(task_type, common, family, parent_id, now)
        drafts, pauses = [], Pauses()
        for place, text in enumerate(params, request.first):
            drafts.append(maker.make(text, child_id(parent_id, request.key, place, origin)))
            if pauses.due():
                await pauses.pause()
        step = NewStep(
            key=request.key, name=request.name, kind="children", started_at=origin.started_at, total=request.total
        )
        return NewChildren(
            step=step,
            first=request.first,
            drafts=drafts,
            root_id=family.root_id,
            level=family.level + 1,
            max_in_flight=request.max_in_flight,
            is_detached=request.is_detached,
        )

    async def _check_params(self, owner: str, task_type: TaskType, request: StartChildren) -> list[bytes]:
        """Return the params of all children. Raises Invalid with the faults of all."""
        checked, errors, pauses = [], dict[int, RequestError](), Pauses()
        for place, text in enumerate(request.params, request.first):
            try:
                self._check_size(text)
                checked.append(await self._reading.child(owner, OpenedChild(task_type, text)))
            except Unavailable:
                raise
            except RequestError as error:
                errors[place] = error
            if pauses.due():
                await pauses.pause()
        if errors:
            raise explain(errors)
        return checked

    def _check_size(self, params: bytes) -> None:
        if len(params) > self._limits.params:
            raise Invalid(
                f"its params take {len(params):,} bytes, and {self._limits.params:,} are allowed (TASKER_MAX_BODY)",
                name="invalid-params",
            )


class _DraftMaker:
    """Makes the drafts of children that differ only in their params."""

    def __init__(self, task_type: TaskType, common: Submission, family: Family, parent_id: UUID, now: datetime) -> None:
        self._type = task_type
        self._common = common
        self._caller = Caller(owner=family.owner)
        self._now = now
        self._tie = {"parent_id": parent_id, "root_id": family.root_id, "traceparent": family.traceparent}

    def make(self, params: bytes, task_id: UUID) -> Draft:
        submission = structs.replace(self._common, params=Raw(params))
        draft = draft_of(self._caller, self._type, submission, self._now, task_id)
        return structs.replace(draft, extra=structs.replace(draft.extra or _NO_EXTRA, **self._tie))
