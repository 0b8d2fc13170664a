"""The object that the API gets: the use cases by subject."""

from __future__ import annotations

from datetime import timedelta

from tasker.clock import Clock
from tasker.engines.protocol import Engine
from tasker.model.history import History
from tasker.requests.schedules import MIN_INTERVAL
from tasker.rules.urls import UrlRules
from tasker.service import admission, schedules
from tasker.service.admission import Admission, OpenQueues
from tasker.service.audit import Audit
from tasker.service.batches import Batches
from tasker.service.budgets import Budgets
from tasker.service.bulk import Bulk
from tasker.service.children import ChildLimits, ChildService
from tasker.service.cursors import Cursors
from tasker.service.failures import FailureService
from tasker.service.feed import Feed
from tasker.service.following import Following
from tasker.service.groups import GroupService
from tasker.service.hub import Hub
from tasker.service.inbox import MAX_BODY, Inbox
from tasker.service.keys import Keys
from tasker.service.queues import Load, Queues
from tasker.service.readiness import Health, ReadinessCheck, StoreCheck
from tasker.service.reading import Reading
from tasker.service.stats import StatsService
from tasker.service.steps import MAX_ANSWER, StepService
from tasker.service.submitting import Submissions
from tasker.service.tasks import Tasks
from tasker.service.types import Types
from tasker.service.usage import UsageService
from tasker.service.waiting import Waiting
from tasker.service.webhooks import Webhooks
from tasker.service.workers import Workers
from tasker.tasktypes.registry import Registry


class Service:
    """The use cases of one process, by subject; each gets the stores that it needs.

    health: see readiness.Health; None without a worker. daily_budget: in US dollars, of owners whose keys have none.
    max_pending: limit of pending tasks; None for any number. public_load: see queues.Load. max_queues: limit of an
    owner's queues with open tasks, and of queues with settings. max_schedules: limit of an owner's schedules.
    child_limits: of the children of one task. min_interval: shortest time between two ticks of a schedule. url_rules:
    where the webhooks of submissions may lead. max_answer: see StepService. max_body: see Inbox.
    """

    def __init__(
        self,
        engine: Engine,
        registry: Registry,
        hub: Hub,
        clock: Clock,
        *,
        health: Health | None,
        daily_budget: float | None = None,
        max_pending: int | None = None,
        public_load: bool = False,
        max_queues: int = admission.DEFAULT_LIMIT,
        max_schedules: int = schedules.DEFAULT_LIMIT,
        child_limits: ChildLimits | None = None,
        min_interval: timedelta = MIN_INTERVAL,
        history: History | None = None,
        url_rules: UrlRules | None = None,
        max_answer: int = MAX_ANSWER,
        max_body: int = MAX_BODY,
    ) -> None:
        is_shared = engine.is_shared
        load, cursors = Load(public_load), Cursors(engine.keys)
        open_queues = OpenQueues(engine.queues, clock, max_queues, is_shared=is_shared)
        store_check = StoreCheck(engine.check, clock)
        self._hub = hub
        self._hands_over = False
        self.registry = registry
        self.audit = Audit(engine.audit, cursors)
        self.keys = Keys(engine.keys, clock, is_shared=is_shared)
        self.queues = Queues(engine, load, self.keys, clock, max_queues)
        self.workers = Workers(engine.workers)
        self.types = Types(engine.workers, registry, clock)
        self.usage = UsageService(engine.usage, clock)
        self.stats = StatsService(engine.stats, clock)
        self.failures = FailureService(engine.failures, clock, cursors)
        self.budgets = Budgets(engine.usage, self.keys, clock, default=daily_budget)
        self.webhooks = Webhooks(engine.webhooks, clock, cursors)
        self.feed = Feed(engine.journal, hub, cursors, is_shared=is_shared)
        self.waiting = Waiting(engine, clock, history or History(), self._is_restarting, load)
        self.readiness = ReadinessCheck(store_check, self.queues, registry, hub, health)
        reading = Reading(registry, clock, url_rules or UrlRules())
        self._check_threads = reading.threads
        self.children = ChildService(engine.steps, reading, clock, open_queues, child_limits or ChildLimits())
        self.schedules = schedules.Schedules(
            engine,
            registry,
            clock,
            cursors,
            reading,
            open_queues=open_queues,
            limit=max_schedules,
            min_interval=min_interval,
        )
        pending = Admission(self.queues.stats, clock, max_pending)
        self.inbox = Inbox(
            engine.inbox, registry, reading, clock, admission=pending, open_queues=open_queues, max_size=max_body
        )
        self.tasks = Tasks(engine, registry, cursors, open_queues, self.inbox)
        self.steps = StepService(engine, clock, self.tasks, reading.threads, max_answer)
        self.following = Following(engine, self.tasks, hub)
        self.bulk = Bulk(engine, clock, cursors, open_queues)
        self.groups = GroupService(engine.groups, self.bulk, hub, cursors)
        self.submissions = Submissions(
            engine,
            clock,
            reading=reading,
            tasks=self.tasks,
            schedules=self.schedules,
            budgets=self.budgets,
            admission=pending,
            open_queues=open_queues,
            store_check=store_check,
        )
        self.batches = Batches(reading, self.submissions.submit_many)

    @property
    def stopping(self) -> bool:
        """Whether the service is about to end."""
        return self._hub.closed

    def stop(self, *, hands_over: bool = False) -> None:
        """End every wait now; readiness then says that the service is stopping.

        hands_over: another process goes on with the same socket, so that no reply tells of a restart.
        """
        self._hands_over = hands_over
        self._hub.close()

    def _is_restarting(self) -> bool:
        return self._hub.closed and not self._hands_over

    def close(self) -> None:
        """End the threads of checks that are idle."""
        self._check_threads.close()
