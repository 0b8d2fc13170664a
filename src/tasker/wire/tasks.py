"""Tasks as the API shows them, and the receipts of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.model import AfterGroup, Attempt, Progress, Reason, Status, TaskProblem
from tasker.model.tasks import ChildCounts
from tasker.model.webhooks import WebhookRef
from tasker.wire.shapes import Always, Moment, Sometimes, choices, like
from tasker.wire.steps import Question, Step

AsSent = Annotated[Any, Meta(description="As it was sent.")]
Params = Annotated[
    Any,
    Meta(
        extra_json_schema={"anyOf": [{"type": "array"}, {"type": "object"}, {"type": "null"}]},
        description="As they were sent. Null only in a list, if they are long.",
    ),
]


class Task(Struct, frozen=True, kw_only=True):
    """One submission. A failed task is read with 200 as well: `error` says why it failed.

    A key without the scope `read` gets a TaskReceipt instead. In a list, `params` and `result` of more than 400 bytes
    are null, and `params_preview` and `result_preview` have the text that they begin with.
    """

    # The client reads a receipt as a Task, too: hence the defaults.

    task_id: UUID
    type: Always[str] = ""
    params: Always[Params] = None
    status: Status
    reason: Always[Annotated[str, choices(Reason)] | None] = None
    queue: Always[str] = "default"
    priority: Always[int] = 0
    result: Always[Any] = None
    error: Always[TaskProblem | None] = None
    progress: Always[Progress | None] = None
    attempt: Always[int] = 0
    tries_left: Always[int] = 0
    created_at: Always[Moment] | None = None
    run_at: Always[Moment | None] = None
    started_at: Always[Moment | None] = None
    finished_at: Always[Moment | None] = None
    next_attempt_at: Always[Moment | None] = None
    expires_at: Always[Moment | None] = None
    cancel_requested_at: Always[Moment | None] = None
    usage: Always[dict[str, Any]] = {}
    tags: Always[tuple[str, ...]] = ()
    metadata: Always[dict[str, Any]] = {}
    waiting_for: str | None = None
    queue_position: int | None = None
    estimated_start_at: Moment | None = None
    owner: str | None = None
    deadline: Moment | None = None
    unique_key: str | None = None
    concurrency_key: str | None = None
    depends_on: tuple[UUID, ...] = ()
    depends_on_group: AfterGroup | None = None
    group: str | None = None
    replay_of: UUID | None = None
    schedule_id: UUID | None = None
    scheduled_for: Moment | None = None
    webhook: Annotated[dict[str, Any], like("WebhookRef")] | None = None
    traceparent: str | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None
    children: Annotated[ChildCounts, Meta(description="Its children by status.")] | None = None
    input: Annotated[Question, Meta(description="What it asks and nobody has answered yet.")] | None = None
    params_preview: str | None = None
    result_preview: str | None = None
    links: Always[dict[str, str]] = {}
    attempts: Sometimes[tuple[Attempt, ...]] | None = None
    steps: Sometimes[Annotated[tuple[Step, ...], Meta(description="The last thousand of its steps.")]] | None = None
    child_tasks: (
        Sometimes[Annotated[tuple[Task, ...], Meta(description="Its newest children; `links.children` has all.")]]
        | None
    ) = None

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole task; False for a receipt."""
        return self.created_at is not None


class TaskCount(Struct, frozen=True, kw_only=True):
    """How many tasks match; `is_exact` is false if there are, or may be, more."""

    number: int
    is_exact: bool


class TaskPage(Struct, frozen=True, kw_only=True):
    """A slice of a list, newest first; `next_cursor` is opaque, null at the end.

    `searched_back_to`: the page ended because enough tasks had been looked at, back to one created then. It may be
    short or empty: go on with `next_cursor`. `count`: with `?count=true`, of the whole list.
    """

    items: list[Task]
    next_cursor: Always[str | None] = None
    searched_back_to: Sometimes[Moment] | None = None
    count: Sometimes[TaskCount] | None = None


class TaskReceipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task for a key without the scope `read`: the id, the status, and what the request itself sent.

    Every field means what it does in a Task. `reason` is there as `restart` alone: the service is stopping.
    """

    task_id: UUID
    status: Status
    reason: Literal["restart"] | UnsetType = UNSET
    type: str | UnsetType = UNSET
    params: AsSent | UnsetType = UNSET
    queue: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    run_at: Moment | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    metadata: AsSent | UnsetType = UNSET
    owner: str | UnsetType | None = UNSET
    deadline: Moment | UnsetType | None = UNSET
    unique_key: str | UnsetType | None = UNSET
    concurrency_key: str | UnsetType | None = UNSET
    depends_on: tuple[UUID, ...] | UnsetType = UNSET
    depends_on_group: AfterGroup | UnsetType | None = UNSET
    group: str | UnsetType | None = UNSET
    replay_of: UUID | UnsetType | None = UNSET
    schedule_id: UUID | UnsetType | None = UNSET
    webhook: WebhookRef | UnsetType | None = UNSET
    traceparent: str | UnsetType | None = UNSET
    links: dict[str, str]
