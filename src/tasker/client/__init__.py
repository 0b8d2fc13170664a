"""The Python client: submit tasks to a running service and wait for their results.

with Tasker() as tasker:
    total = tasker.run("sum", 4, 2)

async with AsyncTasker() as tasker:
    total = await tasker.run("sum", 4, 2)
"""

from __future__ import annotations

from tasker.client.aio import AsyncHandle, AsyncTasker
from tasker.client.driving import DEFAULT_URL
from tasker.client.errors import (
    AwaitsRestart,
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
from tasker.client.options import SubmitOptions
from tasker.client.resources.groups import AsyncGroups, Groups
from tasker.client.resources.keys import AsyncKeys, Keys
from tasker.client.resources.queues import AsyncQueues, Queues
from tasker.client.resources.schedules import AsyncSchedules, Schedules
from tasker.client.sync import Handle, Tasker
from tasker.wire.events import Event, LogEntry, Reset
from tasker.wire.groups import Group
from tasker.wire.keys import Key, NewKey
from tasker.wire.queues import Queue
from tasker.wire.queues import Rate as QueueRate
from tasker.wire.schedules import Schedule
from tasker.wire.stats import Stats
from tasker.wire.steps import Question, Step
from tasker.wire.tasks import Task
from tasker.wire.usage import Usage

__all__ = [
    "DEFAULT_URL",
    "AsyncGroups",
    "AsyncHandle",
    "AsyncKeys",
    "AsyncQueues",
    "AsyncSchedules",
    "AsyncTasker",
    "AwaitsRestart",
    "ClientError",
    "Conflict",
    "Event",
    "Group",
    "GroupTimeout",
    "Groups",
    "Handle",
    "InvalidRequest",
    "Key",
    "Keys",
    "LogEntry",
    "NewKey",
    "NotAllowed",
    "NotFound",
    "Question",
    "Queue",
    "QueueRate",
    "Queues",
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
    "Tasker",
    "Unavailable",
    "UnexpectedReply",
    "Unreachable",
    "Usage",
    "WaitTimeout",
]
