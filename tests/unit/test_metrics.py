"""What is counted, and that clients cannot make the number of metrics grow without end."""

from __future__ import annotations

from datetime import timedelta

from tasker.metrics import MAX_QUEUES, Metrics
from tasker.model import Claim, Ending, PartitionStats, Policy, Status, Transition, new_task_id
from tasker.testing import START


def claim(queue: str = "default", attempt: int = 1) -> Claim:
    return Claim(
        task_id=new_task_id(START), attempt=attempt, type="sum", params=b"[]", queue=queue, priority=0, policy=Policy(),
        tries=0, crashes=0, interruptions=0, started_at=START + timedelta(seconds=1), worker="w",
    )  # fmt: skip


def change(status: Status = Status.COMPLETED, ending: Ending = "succeeded") -> Transition:
    return Transition(
        status=status, ending=ending, at=START + timedelta(seconds=3), type="sum", owner="", queue="default",
        started_at=START + timedelta(seconds=1), tries=1, crashes=0, interruptions=0,
    )  # fmt: skip


def lines(metrics: Metrics, *stats: PartitionStats) -> list[str]:
    return metrics.render(stats, START + timedelta(seconds=10)).decode().splitlines()


def test_an_attempt_and_its_task() -> None:
    metrics = Metrics(slots=7)
    metrics.attempt_started(claim(), START + timedelta(seconds=1))
    metrics.attempt_ended(claim(), change())
    shown = lines(metrics)
    assert 'tasker_tasks_total{outcome="completed",queue="default",type="sum"} 1.0' in shown
    assert 'tasker_attempts_total{ending="succeeded",type="sum"} 1.0' in shown
    assert 'tasker_attempt_run_seconds_sum{type="sum"} 2.0' in shown
    [waited] = [line for line in shown if line.startswith("tasker_task_wait_seconds_sum")]
    assert 0.999 <= float(waited.split()[1]) <= 1.002
    assert "tasker_slots 7.0" in shown


def test_a_retry_is_no_end_and_no_second_wait() -> None:
    metrics = Metrics()
    metrics.attempt_ended(claim(), change(Status.PENDING, "failed"))
    metrics.attempt_started(claim(attempt=2), START)
    shown = lines(metrics)
    assert 'tasker_attempts_total{ending="failed",type="sum"} 1.0' in shown
    assert not [line for line in shown if line.startswith(("tasker_tasks_total{", "tasker_task_wait_seconds_count"))]


def test_a_parked_attempt_is_told_apart_and_is_no_run() -> None:
    metrics = Metrics()
    metrics.attempt_ended(claim(), change(Status.PENDING, "parked"))
    shown = lines(metrics)
    assert 'tasker_attempts_total{ending="parked",type="sum"} 1.0' in shown
    assert not [line for line in shown if line.startswith("tasker_attempt_run_seconds_count")]


def test_lines_are_added_up_by_queue() -> None:
    shown = lines(
        Metrics(),
        PartitionStats(queue="q", type="a", pending=1, scheduled=2, oldest_due_at=START),
        PartitionStats(queue="q", type="b", pending=10, running=3, oldest_due_at=START + timedelta(seconds=5)),
    )
    assert 'tasker_tasks{queue="q",status="pending"} 11.0' in shown
    assert 'tasker_tasks{queue="q",status="scheduled"} 2.0' in shown
    assert 'tasker_tasks{queue="q",status="running"} 3.0' in shown
    assert 'tasker_oldest_waiting_seconds{queue="q"} 10.0' in shown


def test_clients_name_queues_but_not_without_end() -> None:
    metrics = Metrics()
    for number in range(MAX_QUEUES + 50):
        metrics.attempt_ended(claim(f"q{number}"), change())
    waiting = [PartitionStats(queue=f"q{number}", type="sum", pending=1) for number in range(MAX_QUEUES + 50)]
    shown = lines(metrics, *waiting)
    assert sum(line.startswith("tasker_tasks_total{") for line in shown) == MAX_QUEUES + 1
    assert 'tasker_tasks_total{outcome="completed",queue="other",type="sum"} 50.0' in shown
    assert 'tasker_tasks{queue="other",status="pending"} 50.0' in shown


def test_each_service_counts_for_itself() -> None:
    first, second = Metrics(), Metrics()
    first.request_ended("get_task", 200, 0.01)
    assert 'tasker_http_request_seconds_count{operation="get_task",status="200"} 1.0' in lines(first)
    assert not [line for line in lines(second) if line.startswith("tasker_http_request_seconds_count")]


def test_a_value_is_counted_in_the_first_bucket_that_holds_it() -> None:
    metrics = Metrics()
    for seconds in (0.0004, 0.0005, 0.0006, 61):
        metrics.request_ended("get_task", 200, seconds)
    shown = lines(metrics)
    name, labels = "tasker_http_request_seconds", 'operation="get_task",status="200"'
    buckets = [line for line in shown if line.startswith(f"{name}_bucket{{")]
    counts = [float(line.split()[1]) for line in buckets]
    assert counts == [2.0, *[3.0] * (len(counts) - 2), 4.0]
    assert 'le="0.0005"' in buckets[0]
    assert 'le="+Inf"' in buckets[-1]
    assert f"{name}_count{{{labels}}} 4.0" in shown
    assert f"{name}_sum{{{labels}}} 61.0015" in shown
    assert [line for line in shown if line.startswith(f"{name}_created{{{labels}}}")]
