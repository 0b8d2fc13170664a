"""The one object that every face of Tasker is given: the use cases, by what they are about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from msgspec import structs

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.model import PartitionStats, WorkerState
from tasker.model.history import History
from tasker.model.keys import Caller
from tasker.requests.schedules import MIN_INTERVAL
from tasker.rules.urls import UrlRules
from tasker.service import open_queues, schedules
from tasker.service.admission import Admission
from tasker.service.audit import Audit
from tasker.service.batches import Batches
from tasker.service.budgets import Budgets
from tasker.service.bulk import Bulk
from tasker.service.cursors import Cursors
from tasker.service.feed import Feed
from tasker.service.following import Following
from tasker.service.hub import Hub
from tasker.service.keys import Keys
from tasker.service.load import Load
from tasker.service.queues import Queues
from tasker.service.readiness import Readiness, StoreCheck
from tasker.service.reading import Reading
from tasker.service.submitting import Submissions
from tasker.service.tasks import Tasks
from tasker.service.types import Types
from tasker.service.usage import UsageService
from tasker.service.waiting import Waiting
from tasker.service.webhooks import Webhooks
from tasker.tasktypes.registry import Registry


class Service:
    """What can be asked of Tasker, by any face of it.

    health: what the worker says of itself for readiness, by name: "ok", or what is wrong; None without a worker.
    daily_budget: of owners whose keys have none. max_pending: tasks that may be pending; None for any number.
    public_load: whether whoever may read is told of all owners' tasks together (Load).
    max_queues: queues in which an owner may have open tasks. max_schedules: of an owner. min_interval: between ticks.
    url_rules: where the webhooks of submissions may lead.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        hub: Hub,
        clock: Clock,
        *,
        health: Callable[[list[PartitionStats]], dict[str, str]] | None,
        daily_budget: float | None = None,
        max_pending: int | None = None,
        public_load: bool = False,
        max_queues: int = open_queues.DEFAULT_LIMIT,
        max_schedules: int = schedules.DEFAULT_LIMIT,
        min_interval: timedelta = MIN_INTERVAL,
        history: History | None = None,
        url_rules: UrlRules | None = None,
    ) -> None:
        self._engine = engine
        self._hub = hub
        self._health = health
        self._store_check = StoreCheck(engine, clock)
        self._load = load = Load(public_load)
        cursors = Cursors(engine.keys)
        self.registry = registry
        self.audit = Audit(engine.audit, cursors)
        self.keys = Keys(engine.keys, clock, is_shared=engine.is_shared)
        self.queues = Queues(engine, load, max_queues)
        self.usage = UsageService(engine, clock)
        self.budgets = Budgets(engine.usage, self.keys, clock, default=daily_budget)
        self.webhooks = Webhooks(engine, clock, cursors)
        reading = Reading(registry, clock, url_rules or UrlRules())
        self._open_queues = open_queues.OpenQueues(engine, clock, max_queues)
        self.schedules = schedules.Schedules(
            engine, registry, clock, cursors, reading, open_queues=self._open_queues, limit=max_schedules,
            min_interval=min_interval,
        )  # fmt: skip
        self.feed = Feed(engine, hub, cursors)
        self.waiting = Waiting(engine, clock, history or History(), lambda: hub.closed, load)
        self.tasks = Tasks(engine, registry, cursors, self._open_queues)
        self.types = Types(engine, registry, clock)
        self.following = Following(engine, self.tasks, hub)
        self.submissions = Submissions(
            engine, clock, reading=reading, tasks=self.tasks, schedules=self.schedules, budgets=self.budgets,
            admission=Admission(engine, clock, max_pending), open_queues=self._open_queues,
            store_check=self._store_check,
        )  # fmt: skip
        self.batches = Batches(reading, self.submissions.submit_many)
        self.bulk = Bulk(engine, clock, cursors, self._open_queues)

    async def workers(self, caller: Caller) -> list[WorkerState]:
        """Return the workers of this service, in order of their start; of what they run that which the caller sees."""
        found = await self._engine.workers.find_all()
        if caller.only is None:
            return found
        return [
            structs.replace(state, running=tuple(one for one in state.running if caller.sees(one.owner)))
            for state in found
        ]

    def shows_load(self, caller: Caller) -> bool:
        """Tell whether the caller is told how busy the service is with everybody's tasks."""
        return self._load.of(caller) is None

    async def readiness(self) -> Readiness:
        """Tell whether the store takes writes, and whether what this process has of a worker lives and keeps up."""
        checks = {"store": await self._store_check.run()}
        if checks["store"] == "ok" and self._health is not None:
            limited = await self.queues.settings()  # what waits there may wait for a limit: nobody is behind
            lines = [line for line in await self._engine.stats() if line.queue not in limited]
            checks |= self._health(lines)
        if self._hub.closed:
            checks["service"] = "stopping"
        is_ready = all(word == "ok" for word in checks.values())
        if faults := self.registry.faults:  # the other types run: it is no reason to send nobody here any more
            checks["tasks"] = "not loaded: " + "; ".join(fault.detail for fault in faults)
        return Readiness(is_ready, checks)

    @property
    def stopping(self) -> bool:
        return self._hub.closed

    def stop(self) -> None:
        """Let every wait return now; readiness says that the service is stopping."""
        self._hub.close()
