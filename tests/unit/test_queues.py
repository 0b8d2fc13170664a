"""Settings of queues, and the arithmetic of rates: by table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tasker.engines.shared.gates import Candidate, Gate, merge
from tasker.errors import Invalid
from tasker.model.queues import QueueChange, QueueSettings, Rate
from tasker.requests.queues import read_queue_change

SECOND = timedelta(seconds=1)
RATE = Rate(limit=100, per=SECOND, burst=10)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, QueueChange()),
        ({"paused": True}, QueueChange(paused=True)),
        ({"concurrency": 3, "concurrency_per_key": None}, QueueChange(concurrency=3, concurrency_per_key=None)),
        ({"rate": {"limit": 100}}, QueueChange(rate=RATE)),
        ({"rate": {"limit": 100, "per": "PT1S"}}, QueueChange(rate=RATE)),
        ({"rate": {"limit": 5}}, QueueChange(rate=Rate(limit=5, per=SECOND, burst=1))),
        ({"rate": {"limit": 100, "per": 1, "burst": None}}, QueueChange(rate=RATE)),
        (
            {"rate": {"limit": 90_000, "per": 60, "burst": 1}},
            QueueChange(rate=Rate(limit=90_000, per=60 * SECOND, burst=1)),
        ),
        ({"rate": None}, QueueChange(rate=None)),
        ({"shared_keys": True}, QueueChange(shared_keys=True)),
    ],
)
def test_valid_settings_are_read(body: dict[str, Any], expected: QueueChange) -> None:
    assert read_queue_change(msgspec.json.encode(body)) == expected


@pytest.mark.parametrize(
    ("body", "pointers", "name"),
    [
        ([], [""], "invalid-request"),
        ({"paused": None}, ["/paused"], "invalid-request"),
        ({"paused": 1}, ["/paused"], "invalid-request"),
        ({"shared_keys": None}, ["/shared_keys"], "invalid-request"),
        ({"concurrency": 0}, ["/concurrency"], "invalid-request"),
        ({"concurrency": True}, ["/concurrency"], "invalid-request"),
        ({"concurrency": 1.5, "concurrency_per_key": "1"}, ["/concurrency", "/concurrency_per_key"], "invalid-request"),
        ({"rate": 100}, ["/rate"], "invalid-request"),
        ({"rate": {}}, ["/rate/limit"], "invalid-request"),
        ({"rate": {"limit": None}}, ["/rate/limit"], "invalid-request"),
        ({"rate": {"limit": 1, "per": "5m"}}, ["/rate/per"], "invalid-request"),
        ({"rate": {"limit": -1, "per": 0, "burst": 0}}, ["/rate/limit", "/rate/per", "/rate/burst"], "invalid-request"),
        ({"rate": {"limit": 1, "window": 60}}, ["/rate/window"], "unknown-field"),
        ({"pause": True}, ["/pause"], "unknown-field"),
        ({"pause": True, "concurrency": 0}, ["/pause", "/concurrency"], "invalid-request"),
    ],
)
def test_every_fault_is_named(body: Any, pointers: list[str], name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        read_queue_change(msgspec.json.encode(body))
    assert [fault.pointer for fault in refusal.value.faults] == pointers
    assert refusal.value.kind.name == name


@pytest.mark.parametrize(
    ("tokens", "weight", "wait"),
    [(10, 1, 0), (10, 10, 0), (10, 1000, 0), (9, 1000, 0.01), (0, 1, 0.01), (-90, 1, 0.91), (0.5, 1, 0.005)],
)
def test_how_long_a_weight_waits(tokens: float, weight: int, wait: float) -> None:
    assert RATE.wait(tokens, weight) == timedelta(seconds=wait)
    assert RATE.can_pay(tokens, weight) == (wait == 0)
    assert RATE.can_pay(RATE.refill(tokens, timedelta(seconds=wait)), weight)


def test_a_bucket_is_never_more_than_full_and_loses_nothing_when_time_runs_back() -> None:
    assert RATE.refill(5, timedelta(hours=1)) == 10
    assert RATE.refill(5, -SECOND) == 5


def candidates(*keys: str | None, queue: str = "q", weight: int = 1, rank: int = 0) -> list[Candidate]:
    return [Candidate((rank, number), queue, weight, key, (queue, number)) for number, key in enumerate(keys)]


@pytest.mark.parametrize(
    ("settings", "running", "limit", "passing", "blocked", "is_cut"),
    [
        ({}, 0, 9, [0, 1, 2, 3], [], False),
        ({}, 0, 2, [0, 1], [], True),
        ({"concurrency": 3}, 1, 9, [0, 1], [], True),
        ({"concurrency": 3}, 5, 9, [], [], True),
        ({"concurrency_per_key": 1}, 0, 9, [0, 2, 3], [1], False),
        ({"concurrency_per_key": 1}, 0, 2, [0, 2], [1], True),
        ({"concurrency_per_key": 2}, 0, 9, [0, 1, 2, 3], [], False),
        ({"rate": RATE}, 0, 9, [0, 1], [], True),
    ],
)
def test_what_a_gate_lets_through(
    settings: dict[str, Any], running: int, limit: int, passing: list[int], blocked: list[int], is_cut: bool
) -> None:
    gate = Gate(QueueSettings(name="q", **settings), running=running, tokens=2.0)
    passage = gate.sift(candidates("a", "a", "b", None), limit)
    assert [one.place[1] for one in passage.passing] == passing
    assert [one.place[1] for one in passage.blocked] == blocked
    assert passage.is_cut == is_cut


def test_a_paused_gate_is_shut() -> None:
    gate = Gate(QueueSettings(name="q", paused=True))
    assert gate.is_shut
    assert gate.free_slots(5) == 0
    assert not gate.admit(candidates(None)[0])


def test_what_is_merged_keeps_the_order_and_the_limits() -> None:
    gates = {"q": Gate(QueueSettings(name="q", concurrency=2)), "r": Gate(QueueSettings(name="r", rate=RATE), tokens=1)}
    found = [
        *candidates(None, None, None, rank=1),
        *candidates(None, None, queue="r", rank=0),
        *candidates(None, queue="free", rank=2),
    ]
    assert [one.place for one in merge(found, gates, 9)] == [("r", 0), ("q", 0), ("q", 1), ("free", 0)]
    assert gates["r"].has_spent
    assert not gates["q"].has_spent
