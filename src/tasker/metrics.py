"""Metrics for Prometheus: counters and histograms updated by events, gauges read from the engine on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tasker.clock import to_micros
from tasker.model import Claim, PartitionStats, Transition
from tasker.release import release

MAX_QUEUES = 200
"""Queues with a label of their own. Clients name queues: the rest share the label `other`, to bound memory."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
_REQUEST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one service, in their own registry. No label names a task.

    slots: how many attempts the worker runs at a time.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, *, slots: int = 0) -> None:
        self.registry = registry = CollectorRegistry()
        self._tasks = Counter(
            "tasker_tasks", "Tasks that ended, by outcome.", ("type", "queue", "outcome"), registry=registry
        )
        self._attempts = Counter(
            "tasker_attempts", "Attempts that ended, by how.", ("type", "ending"), registry=registry
        )
        self._wait = Histogram(
            "tasker_task_wait_seconds",
            "From submission to the first start, a requested delay included.",
            ("type",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._run = Histogram(
            "tasker_attempt_run_seconds", "How long attempts ran.", ("type",), buckets=_SECONDS, registry=registry
        )
        self._requests = Histogram(
            "tasker_http_request_seconds",
            "HTTP requests, waiting for a task included.",
            ("operation", "status"),
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self._webhooks = Counter(
            "tasker_webhook_attempts", "Attempts to notify a receiver, by outcome.", ("outcome",), registry=registry
        )
        Gauge("tasker_slots", "Attempts that can run at a time.", registry=registry).set(slots)
        version, _, build = release().partition("+")
        Info("tasker_build", "The version that runs, and its build.", registry=registry).info(
            {"version": version, "build": build}
        )
        ProcessCollector(registry=registry)
        self._queues = _QueueGauges()
        registry.register(self._queues)
        # `labels()` takes a lock and compares names; these tables are what makes counting cheap.
        self._ended: dict[tuple[str, str, str], Counter] = {}
        self._endings: dict[tuple[str, str], Counter] = {}
        self._waits: dict[str, Histogram] = {}
        self._runs: dict[str, Histogram] = {}
        self._served: dict[tuple[str, int], Histogram] = {}
        self._names: set[str] = set()

    def attempt_started(self, claim: Claim, now: datetime) -> None:
        """Count a start; the first one of a task shows how long it waited."""
        if claim.attempt == 1:
            child = self._waits.get(claim.type)
            if child is None:
                child = self._waits[claim.type] = self._wait.labels(claim.type)
            submitted_millis = claim.task_id.int >> 80  # a UUIDv7 begins with the time of submission
            child.observe(max(0.0, to_micros(now) / 1e6 - submitted_millis / 1e3))

    def attempt_ended(self, claim: Claim, transition: Transition) -> None:
        """Count the end of an attempt, and of its task if it is terminal."""
        ending = self._endings.get((claim.type, transition.ending))
        if ending is None:
            ending = self._attempts.labels(claim.type, transition.ending)
            self._endings[claim.type, transition.ending] = ending
        ending.inc()
        run = self._runs.get(claim.type)
        if run is None:
            run = self._runs[claim.type] = self._run.labels(claim.type)
        run.observe(max(0.0, (transition.at - transition.started_at).total_seconds()))
        if transition.status.is_terminal:
            self.task_ended(claim.type, claim.queue, transition.status)

    def task_ended(self, type_: str, queue: str, outcome: str) -> None:
        """Count a task that reached a terminal status (also one cancelled before it ran)."""
        child = self._ended.get((type_, queue, outcome))
        if child is None:
            known = queue in self._names or len(self._names) < MAX_QUEUES
            child = self._tasks.labels(type_, queue if known else "other", outcome)
            if known:
                self._names.add(queue)
                self._ended[type_, queue, outcome] = child
        child.inc()

    def webhook_attempted(self, outcome: str) -> None:
        """Count one attempt to notify a receiver: `delivered`, or the name of its failure."""
        self._webhooks.labels(outcome).inc()

    def request_ended(self, operation: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        child = self._served.get((operation, status))
        if child is None:
            child = self._served[operation, status] = self._requests.labels(operation, status)
        child.observe(seconds)

    def render(self, partitions: Sequence[PartitionStats], now: datetime) -> bytes:
        """Return everything as Prometheus text, with the gauges of these queue partitions."""
        self._queues.families = tuple(_queue_families(partitions, now))
        return generate_latest(self.registry)


class _QueueGauges(Collector):
    """Returns the gauges of the engine's last reading."""

    def __init__(self) -> None:
        self.families: tuple[Metric, ...] = ()

    def collect(self) -> Iterator[Metric]:
        return iter(self.families)


def _queue_families(partitions: Sequence[PartitionStats], now: datetime) -> Iterator[Metric]:
    tasks = GaugeMetricFamily("tasker_tasks", "Open tasks.", labels=("queue", "status"))
    oldest = GaugeMetricFamily(
        "tasker_oldest_waiting_seconds", "How long the oldest due task has waited.", labels=("queue",)
    )
    queues: dict[str, list[PartitionStats]] = {}
    for one in partitions:
        queues.setdefault(one.queue if one.queue in queues or len(queues) < MAX_QUEUES else "other", []).append(one)
    for queue, own in queues.items():
        tasks.add_metric((queue, "pending"), sum(one.pending for one in own))
        tasks.add_metric((queue, "scheduled"), sum(one.scheduled for one in own))
        tasks.add_metric((queue, "running"), sum(one.running for one in own))
        waited = [(now - one.oldest_due_at).total_seconds() for one in own if one.oldest_due_at]
        oldest.add_metric((queue,), max(0.0, *waited, 0.0))
    yield tasks
    yield oldest
