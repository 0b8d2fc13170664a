"""The one seam: what keeps tasks and hands each of them to one worker at a time.

Every method is a step of a task's life. An engine stores and coordinates; it decides nothing (lifecycle.py does) and
validates nothing (service.py does). Rules that hold for every method:

- What a method has returned is durable: it survives kill -9 and a power cut.
- Writes of an attempt carry its lease and change nothing unless that attempt is the current one and still running.
- When the store cannot write (disk full, I/O error), `Unavailable` is raised and nothing has changed.
- Times are compared with the engine's clock, never with the caller's.
"""

from __future__ import annotations

from tasker.engines.protocol.archive import ArchiveStore
from tasker.engines.protocol.audit import AuditStore
from tasker.engines.protocol.control import Control
from tasker.engines.protocol.engine import ClaimRequest, Engine, Heartbeat, Listener
from tasker.engines.protocol.journal import JournalStore
from tasker.engines.protocol.keys import KeyStore
from tasker.engines.protocol.queues import QueueStore
from tasker.engines.protocol.schedules import ScheduleStore
from tasker.engines.protocol.secrets import SecretStore
from tasker.engines.protocol.tombstones import TombstoneStore
from tasker.engines.protocol.usage import UsageStore
from tasker.engines.protocol.webhooks import WebhookStore
from tasker.engines.protocol.workers import WorkerStore

__all__ = [
    "ArchiveStore",
    "AuditStore",
    "ClaimRequest",
    "Control",
    "Engine",
    "Heartbeat",
    "JournalStore",
    "KeyStore",
    "Listener",
    "QueueStore",
    "ScheduleStore",
    "SecretStore",
    "TombstoneStore",
    "UsageStore",
    "WebhookStore",
    "WorkerStore",
]
