"""The model behind docs/scale.md: from costs to what gives out first. Figures here are round, not measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.scale.model import BUSY, GROUP_COMMIT, MAX_BATCH, Costs, Machine, Setup, Step, batch, costs_of, most, usage
from bench.scale.simulation import batches

FREE = Step(0, 0)
NOTHING = Costs(
    submit=FREE, claim=FREE, complete=FREE, api=FREE, worker=FREE, listen=0, listen_worker=0,
    idle=0, idle_worker=0, idle_syncs=0, wal=0, kept=0,
)  # fmt: skip
MACHINE = Machine(cores=2, sync=1e-3, wal_per_second=1e6, connections=1000, round_trip=0)
SETUP = Setup(workers=10, rate=100, api_processes=1, pool_size=4)


def test_step_goes_through_both_measured_costs() -> None:
    step = Step.through(100e-6, 19e-6, batch=10)
    assert step.each(1) == pytest.approx(100e-6)
    assert step.each(10) == pytest.approx(19e-6)
    assert step.per_task == pytest.approx(10e-6)


@pytest.mark.parametrize(
    ("rate", "lanes", "expected"),
    [
        (1, 1, 1),  # alone
        (1000, 1, 2.5),  # 2 come in 2 ms, and those that come while they are stored: 1000 * 0.002 / (1 - 0.2)
        (1000, 2, 1.25),
        (5000, 1, MAX_BATCH),  # the process cannot keep up
        (4990, 1, MAX_BATCH),
    ],
)
def test_batch(rate: float, lanes: int, expected: float) -> None:
    assert batch(rate, fixed=2e-3, per_task=200e-6, lanes=lanes) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("costs", "setup", "first", "share"),
    [
        ({"idle": 0.1}, SETUP, "database processor", 0.1 * 11 / 2),
        ({"listen": 1e-3}, replace(SETUP, rate=100), "database processor", 100 * 11 * 1e-3 / 2),
        ({"listen": 1e-3}, replace(SETUP, rate=100, awaited=1), "database processor", 200 * 11 * 1e-3 / 2),
        ({"wal": 5000}, SETUP, "WAL", 0.5),
        ({}, replace(SETUP, rate=300), "commits", 300 * (1 + 1 / GROUP_COMMIT) * 1e-3),
        ({}, replace(SETUP, rate=300, awaited=1), "commits", 0.6),  # both notify, one after the other
        ({"listen_worker": 5e-3}, replace(SETUP, rate=100, pool_size=3), "worker processor", 100 * 5e-3),
        ({}, replace(SETUP, workers=999, rate=1), "connections", 5 * BUSY),
    ],
)
def test_what_is_used_most(costs: dict[str, float], setup: Setup, first: str, share: float) -> None:
    used = usage(replace(NOTHING, **costs), MACHINE, setup)
    assert used.first == first
    assert used.share[first] == pytest.approx(share, rel=0.15)  # batches form a little


def test_many_workers_share_no_transactions() -> None:
    costs = replace(NOTHING, complete=Step(500e-6, 20e-6))
    few, many = (usage(costs, MACHINE, replace(SETUP, rate=10_000, workers=workers)) for workers in (1, 1000))
    assert few.batches[2] > 15
    assert many.batches[2] == 1
    assert many.cores > 4 * few.cores


@pytest.mark.parametrize(
    "remedy",
    [
        {"shards": 4},
        {"submitted_in": 100},
        {"workers": 10},
    ],
)
def test_each_remedy_moves_the_limit(remedy: dict[str, float]) -> None:
    costs = replace(NOTHING, listen=30e-6, submit=Step(300e-6, 20e-6), complete=Step(300e-6, 20e-6))
    machine = replace(MACHINE, connections=10_000)
    setup = replace(SETUP, workers=100)
    assert most(costs, machine, replace(setup, **remedy)) > 1.3 * most(costs, machine, setup)


def test_pooler_moves_connections_alone() -> None:
    machine, setup = replace(MACHINE, connections=100), replace(SETUP, workers=50)
    assert most(NOTHING, machine, setup) == 0  # 51 processes of 5 connections
    assert most(NOTHING, machine, replace(setup, pooled=20)) > 0


def test_costs_of_what_was_measured() -> None:
    step = {"1": {"database_us": 500, "wal_bytes": 1}, "100": {"database_us": 20, "wal_bytes": 1000}}
    row = {"api_us": 500, "worker_us": 800, "commits": 1}
    kept = {
        "tasks": {
            "steps": {"submit": step, "claim": step, "complete": step},
            "bytes_kept": {"task": 300.0, "task_pkey": 50.0, "pgqueuer_log": 200.0},
        },
        "processes": {
            "accepted": [row, row, {"api_us": 60, "commits": 0.1}],
            "ran": [
                row | {"workers": 1, "connections": 1, "database_us": 1000},
                {"workers": 1, "connections": 64, "worker_us": 80, "commits": 0.1},
                {"workers": 11, "connections": 1, "worker_us": 9800, "database_us": 8600},
            ],
        },
        "crowd": {
            "idle": [{"workers": 50, "database_us": 800, "client_us": 900, "syncs": 0.3}],
        },
        "notices": {
            "listeners": [{"listeners": 0, "database_us": 100, "client_us": 200}],
            "other_channel": [{"listeners": 100, "database_us": 3100, "client_us": 2200}],
        },
    }
    costs = costs_of(kept)
    assert costs.submit.each(100) == pytest.approx(20e-6)
    assert costs.api.each(10) == pytest.approx(60e-6)
    assert costs.worker.each(10) == pytest.approx(80e-6)
    assert (costs.listen, costs.listen_worker) == pytest.approx((30e-6, 20e-6))
    assert (costs.wal, costs.kept) == (3000, 350)


@pytest.mark.parametrize("rate", [100, 2000, 20_000])
def test_formula_of_batches_holds_in_the_simulation(rate: float) -> None:
    fixed, per_task = 1e-3, 25e-6
    simulated = batches(rate, fixed, per_task, tasks=20_000)
    assert simulated.batch == pytest.approx(batch(rate, fixed, per_task), rel=0.15)
    assert simulated.p50 < simulated.p99
