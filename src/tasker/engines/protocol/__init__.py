"""The protocol of an engine: it stores tasks, and gives each task to one worker at a time.

`Engine` has the steps of a task's life, and a store for everything else: a use case takes the store that it needs. The
service validates what clients send (tasker.service), and rules/lifecycle.py decides how an attempt ends; an engine only
stores what it is given, and checks what depends on stored rows: ids, unique keys, dependencies and limits.

Rules for every method:

- What a method has returned is durable: it survives kill -9 and a power cut.
- Writes of an attempt carry its lease, and change nothing unless that attempt is the current one and still running.
- When the store cannot write (disk full, I/O error), it raises `Unavailable`, and nothing has changed.
- Times are compared with the engine's clock, never with the caller's.
"""

from __future__ import annotations

from tasker.engines.protocol.archive import ArchiveStore
from tasker.engines.protocol.audit import AuditStore
from tasker.engines.protocol.bulk import BulkStore
from tasker.engines.protocol.control import Control
from tasker.engines.protocol.engine import ClaimRequest, Engine, Heartbeat, Listener
from tasker.engines.protocol.failures import FailureStore
from tasker.engines.protocol.groups import GroupStore
from tasker.engines.protocol.inbox import InboxStore
from tasker.engines.protocol.journal import JournalStore
from tasker.engines.protocol.keys import KeyStore
from tasker.engines.protocol.lead import Lead
from tasker.engines.protocol.peers import Peers
from tasker.engines.protocol.queues import QueueStore
from tasker.engines.protocol.schedules import ScheduleStore
from tasker.engines.protocol.secrets import SecretStore
from tasker.engines.protocol.stats import StatsStore
from tasker.engines.protocol.steps import StepStore
from tasker.engines.protocol.tombstones import TombstoneStore
from tasker.engines.protocol.usage import UsageStore
from tasker.engines.protocol.webhooks import WebhookStore
from tasker.engines.protocol.workers import WorkerStore

__all__ = [
    "ArchiveStore",
    "AuditStore",
    "BulkStore",
    "ClaimRequest",
    "Control",
    "Engine",
    "FailureStore",
    "GroupStore",
    "Heartbeat",
    "InboxStore",
    "JournalStore",
    "KeyStore",
    "Lead",
    "Listener",
    "Peers",
    "QueueStore",
    "ScheduleStore",
    "SecretStore",
    "StatsStore",
    "StepStore",
    "TombstoneStore",
    "UsageStore",
    "WebhookStore",
    "WorkerStore",
]
