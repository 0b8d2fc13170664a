"""Metrics for Prometheus: counters and histograms updated by events, gauges read from the engine on request."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from time import time

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Gauge,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

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
        self._tasks = _Counters(registry, "tasker_tasks", "Tasks that ended, by outcome.", "type", "queue", "outcome")
        self._attempts = _Counters(registry, "tasker_attempts", "Attempts that ended, by how.", "type", "ending")
        self._wait = _Histograms(
            registry,
            "tasker_task_wait_seconds",
            "From submission to the first start, a requested delay included.",
            "type",
            bounds=_SECONDS,
        )
        self._run = _Histograms(
            registry,
            "tasker_attempt_run_seconds",
            "How long attempts ran, except for those that parked.",
            "type",
            bounds=_SECONDS,
        )
        self._requests = _Histograms(
            registry,
            "tasker_http_request_seconds",
            "HTTP requests, waiting for a task included.",
            "operation",
            "status",
            bounds=_REQUEST_SECONDS,
        )
        self._webhooks = _Counters(
            registry, "tasker_webhook_attempts", "Attempts to notify a receiver, by outcome.", "outcome"
        )
        Gauge("tasker_slots", "Attempts that can run at a time.", registry=registry).set(slots)
        version, _, build = release().partition("+")
        Info("tasker_build", "The version that runs, and its build.", registry=registry).info(
            {"version": version, "build": build}
        )
        ProcessCollector(registry=registry)
        self._queues = _QueueGauges()
        registry.register(self._queues)
        self._names: set[str] = set()

    def attempt_started(self, claim: Claim, now: datetime) -> None:
        """Count a start; the first one of a task shows how long it waited."""
        if claim.attempt == 1:
            submitted_millis = claim.task_id.int >> 80  # a UUIDv7 begins with the time of submission
            self._wait.observe(max(0.0, now.timestamp() - submitted_millis / 1e3), claim.type)

    def attempt_ended(self, claim: Claim, transition: Transition) -> None:
        """Count the end of an attempt, and of its task if it is terminal. One that parked is no whole run."""
        self._attempts.inc(claim.type, transition.ending)
        if transition.ending != "parked":
            self._run.observe(max(0.0, (transition.at - transition.started_at).total_seconds()), claim.type)
        if transition.status.is_terminal:
            self.task_ended(claim.type, claim.queue, transition.status)

    def task_ended(self, type_: str, queue: str, outcome: str) -> None:
        """Count a task that reached a terminal status (also one cancelled before it ran)."""
        if queue not in self._names:
            if len(self._names) < MAX_QUEUES:
                self._names.add(queue)
            else:
                queue = "other"
        self._tasks.inc(type_, queue, outcome)

    def webhook_attempted(self, outcome: str) -> None:
        """Count one attempt to notify a receiver: `delivered`, or the name of its failure."""
        self._webhooks.inc(outcome)

    def request_ended(self, operation: str, status: int, seconds: float) -> None:
        """Count one HTTP request."""
        self._requests.observe(seconds, operation, status)

    def render(self, partitions: Sequence[PartitionStats], now: datetime) -> bytes:
        """Return everything as Prometheus text, with the gauges of these queue partitions."""
        self._queues.families = tuple(_queue_families(partitions, now))
        return generate_latest(self.registry)


class _Counters(Collector):
    """Counters of one name. Unlike the library's they take no lock: all calls are made in the event loop's thread.

    The labels of a counter are given as strings or numbers; each set of them becomes a counter when it is first used.
    """

    def __init__(self, registry: CollectorRegistry, name: str, documentation: str, *labels: str) -> None:
        self._about = name, documentation
        self._labels = labels
        self._values: dict[tuple[object, ...], float] = {}
        self._created: dict[tuple[object, ...], float] = {}
        registry.register(self)

    def inc(self, *labels: object) -> None:
        """Count one."""
        if labels in self._values:
            self._values[labels] += 1.0
        else:
            self._values[labels], self._created[labels] = 1.0, time()

    def describe(self) -> list[Metric]:
        return [CounterMetricFamily(*self._about, labels=self._labels)]

    def collect(self) -> list[Metric]:
        family = CounterMetricFamily(*self._about, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(_texts(labels), value, self._created[labels])
        return [family]


class _Histograms(Collector):
    """Histograms of one name, made like `_Counters`. bounds: upper limits of the buckets, in order."""

    def __init__(
        self, registry: CollectorRegistry, name: str, documentation: str, *labels: str, bounds: Sequence[float]
    ) -> None:
        self._about = name, documentation
        self._labels = labels
        self._bounds = bounds
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._children: dict[tuple[object, ...], _Histogram] = {}
        registry.register(self)

    def observe(self, value: float, *labels: object) -> None:
        """Count a value in its bucket."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = _Histogram(len(self._names))
        child.counts[bisect_left(self._bounds, value)] += 1.0
        child.sum += value

    def describe(self) -> list[Metric]:
        return [HistogramMetricFamily(*self._about, labels=self._labels)]

    def collect(self) -> list[Metric]:
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        for labels, child in self._children.items():
            texts = _texts(labels)
            family.add_metric(texts, list(zip(self._names, accumulate(child.counts), strict=True)), child.sum)
            family.add_sample(f"{self._about[0]}_created", dict(zip(self._labels, texts, strict=True)), child.created)
        return [family]


class _Histogram:
    """The values under one set of labels: how many there are in each bucket, and their sum."""

    __slots__ = ("counts", "created", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0.0] * buckets
        self.sum = 0.0
        self.created = time()


def _texts(labels: Sequence[object]) -> list[str]:
    return [str(label) for label in labels]


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
