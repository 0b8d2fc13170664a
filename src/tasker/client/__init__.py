"""The Python client: submit tasks to a running service and wait for their results.

with Tasker() as tasker:
    total = tasker.run("sum", 4, 2)

async with AsyncTasker() as tasker:
    total = await tasker.run("sum", 4, 2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasker.client.core.mapping import Mapped
from tasker.client.driving import DEFAULT_URL
from tasker.client.errors import (
    AwaitsRestart,
    BulkTimeout,
    ClientError,
    Conflict,
    GroupTimeout,
    InvalidRequest,
    NotAllowed,
    NotFound,
    ServiceError,
    TaskCancelled,
    TaskFailed,
    Unavailable,
    UnexpectedReply,
    Unreachable,
    WaitTimeout,
)
from tasker.client.handles import AsyncHandle, Handle
from tasker.client.options import Filter, SubmitOptions
from tasker.client.raw import RawResponse
from tasker.client.resources.audit import AsyncAudit, Audit
from tasker.client.resources.bulk import AsyncBulkActions, BulkActions
from tasker.client.resources.failures import AsyncFailures, Failures
from tasker.client.resources.groups import AsyncGroups, Groups
from tasker.client.resources.keys import AsyncKeys, Keys
from tasker.client.resources.questions import AsyncQuestions, Questions
from tasker.client.resources.queues import AsyncQueues, Queues
from tasker.client.resources.schedules import AsyncSchedules, Schedules
from tasker.client.resources.types import AsyncTypes, Types
from tasker.client.resources.webhooks import AsyncWebhooks, Webhooks
from tasker.client.resources.workers import AsyncWorkers, Workers
from tasker.client.sync import Tasker
from tasker.wire.audit import AuditEntry
from tasker.wire.batches import BatchItem
from tasker.wire.bulk import Bulk, BulkReply
from tasker.wire.events import Event, LogEntry, Reset
from tasker.wire.failures import FailureGroup
from tasker.wire.groups import Group
from tasker.wire.keys import Key, NewKey
from tasker.wire.queues import Queue
from tasker.wire.queues import Rate as QueueRate
from tasker.wire.schedules import Schedule
from tasker.wire.stats import Stats
from tasker.wire.steps import OpenQuestion, Question, Step
from tasker.wire.tasks import Task
from tasker.wire.types import TaskType
from tasker.wire.usage import Usage
from tasker.wire.webhooks import Delivery, Webhook, WebhookWithSecret
from tasker.wire.workers import Worker

if TYPE_CHECKING:
    from tasker.client.aio import AsyncTasker

__all__ = [
    "DEFAULT_URL",
    "AsyncAudit",
    "AsyncBulkActions",
    "AsyncFailures",
    "AsyncGroups",
    "AsyncHandle",
    "AsyncKeys",
    "AsyncQuestions",
    "AsyncQueues",
    "AsyncSchedules",
    "AsyncTasker",
    "AsyncTypes",
    "AsyncWebhooks",
    "AsyncWorkers",
    "Audit",
    "AuditEntry",
    "AwaitsRestart",
    "BatchItem",
    "Bulk",
    "BulkActions",
    "BulkReply",
    "BulkTimeout",
    "ClientError",
    "Conflict",
    "Delivery",
    "Event",
    "FailureGroup",
    "Failures",
    "Filter",
    "Group",
    "GroupTimeout",
    "Groups",
    "Handle",
    "InvalidRequest",
    "Key",
    "Keys",
    "LogEntry",
    "Mapped",
    "NewKey",
    "NotAllowed",
    "NotFound",
    "OpenQuestion",
    "Question",
    "Questions",
    "Queue",
    "QueueRate",
    "Queues",
    "RawResponse",
    "Reset",
    "Schedule",
    "Schedules",
    "ServiceError",
    "Stats",
    "Step",
    "SubmitOptions",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskType",
    "Tasker",
    "Types",
    "Unavailable",
    "UnexpectedReply",
    "Unreachable",
    "Usage",
    "WaitTimeout",
    "Webhook",
    "WebhookWithSecret",
    "Webhooks",
    "Worker",
    "Workers",
]


def __getattr__(name: str) -> Any:
    """Import the client for coroutines when it is first asked for: commands do without asyncio."""
    if name == "AsyncTasker":
        from tasker.client.aio import AsyncTasker

        globals()[name] = AsyncTasker
        return AsyncTasker
    raise AttributeError(f"module 'tasker.client' has no attribute {name!r}")
