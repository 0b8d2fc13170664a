"""Figures as text, and the grid as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.scale import simulation
from bench.scale.model import BUSY, Costs, Machine, Setup, Step, Usage, costs_of, most, usage

WORKERS = 1, 10, 100, 1000
RATES = 10, 100, 1000, 10_000, 100_000
HERE = Machine(connections=5000)
LARGE = Machine(cores=32, wal_per_second=1e9, connections=5000, round_trip=0.3e-3)
PICTURE = Path(__file__).parent.parent.parent / "docs" / "scale.svg"
_SETUP = Setup(workers=1, rate=1, pool_size=4)
REMEDIES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "TASKER_POOL_SIZE=3 instead of 4": {"pool_size": 3},
    "a pooler with 100 connections": {"pooled": 100},
    "clients submit 100 in a request": {"submitted_in": 100},
    "a tenth of the workers, ten times the slots": {"fewer": 10},
    "somebody waits for every task": {"awaited": 1},
    "4 databases (queues or shards)": {"shards": 4},
    "16 databases (queues or shards)": {"shards": 16},
}


def figures(measured: dict[str, Any]) -> str:
    """Return the tables of one part's figures."""
    return "\n\n".join(f"{name}\n{_table(value)}" for name, value in measured.items())


def _table(value: Any) -> str:
    if isinstance(value, dict):
        rows = [{"": str(name)} | (one if isinstance(one, dict) else {"value": one}) for name, one in value.items()]
        if any(isinstance(cell, dict) for row in rows for cell in row.values()):
            return "\n\n".join(f"{name}\n{_table(one)}" for name, one in value.items())
        return table(rows)
    return table(value) if isinstance(value, list) else str(value)


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    if not rows:
        return "(nothing)"
    head = list(dict.fromkeys(name for row in rows for name in row))
    lines = [head, ["---"] * len(head), *([number(row.get(name, "")) for name in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: Any) -> str:
    """Return a figure with its significant digits."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def simulation_of(kept: dict[str, Any]) -> str:
    """Return how long the ends of attempts wait for their commit, by the load of their process."""
    return f"batches at one process\n{table(_waits(costs_of(kept).complete))}"


def _waits(step: Step) -> list[dict[str, Any]]:
    """Return how long the ends of attempts wait for their commit at one process, by its load."""
    fixed, per_task = step.per_transaction + 4 * HERE.round_trip + HERE.sync, step.per_task
    rows = []
    for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9):
        waits = simulation.batches(share / per_task, fixed, per_task)
        row = {"tasks/s": share / per_task, "share of the maximum": share, "batch": waits.batch}
        rows.append(row | {"p50_ms": waits.p50 * 1e3, "p99_ms": waits.p99 * 1e3})
    return rows


def grid(costs: Costs, machine: Machine) -> dict[tuple[int, int], Usage]:
    """Return the usage by workers and rate."""
    return {
        (workers, rate): usage(costs, machine, replace(_SETUP, workers=workers, rate=rate))
        for workers in WORKERS
        for rate in RATES
    }


def model(kept: dict[str, Any]) -> str:
    """Return the grid for both machines, the needs of each setup, and the effect of each remedy; draw the picture."""
    costs = costs_of(kept)
    parts = [str(costs)]
    for name, machine in (("this machine", HERE), ("32 cores", LARGE)):
        cells = grid(costs, machine)
        parts.append(f"{name}\n{table(list(_rows(cells)))}")
    parts.append(f"needs, on 32 cores\n{table([_needs(*key, one) for key, one in grid(costs, LARGE).items()])}")
    limits = []
    for name, change in REMEDIES.items():
        limits.append({"": name} | {f"{workers} workers": _limit(costs, workers, change) for workers in WORKERS[1:]})
    parts.append(f"most tasks/s, 32 cores\n{table(limits)}")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture(grid(costs, LARGE)))
    return "\n\n".join(parts)


def _limit(costs: Costs, workers: int, change: dict[str, Any]) -> str:
    rest = {name: value for name, value in change.items() if name != "fewer"}
    setup = replace(_SETUP, workers=workers // change.get("fewer", 1), **rest)
    rate = most(costs, LARGE, setup, besides=("worker processor",))
    if not rate:
        return f"none ({usage(costs, LARGE, replace(setup, rate=1e-3)).first})"
    share = usage(costs, LARGE, replace(setup, rate=rate)).share
    first = max((name for name in share if name != "worker processor"), key=lambda name: share[name])
    return f"{number(float(f'{rate:.2g}'))} ({first})"


def _rows(cells: dict[tuple[int, int], Usage]) -> Iterable[dict[str, Any]]:
    for workers in WORKERS:
        row: dict[str, Any] = {"workers": workers}
        for rate in RATES:
            one = cells[workers, rate]
            row[f"{rate:,}/s"] = f"{one.first} {_share(one.share[one.first])}"
        yield row


def _share(share: float) -> str:
    return f"{share:.0%}" if share < 10 else f"{share:,.0f}x"


def _needs(workers: int, rate: int, one: Usage) -> dict[str, Any]:
    return {
        "workers": workers, "tasks/s": rate, "database cores": one.cores, "API processes": one.api_processes,
        "worker cores": one.worker_cores, "connections": one.connections, "notifications/s": one.notices,
        "WAL MB/s": one.wal_per_second / 1e6, "GB/day kept": one.kept_per_day / 1e9,
        "batches": " / ".join(number(float(f"{size:.2g}")) for size in one.batches),
    }  # fmt: skip


_WIDTH, _HEIGHT, _LEFT, _TOP = 150, 62, 110, 58
_COLOURS = ((0.35, "#b7e1c0"), (BUSY, "#f6e3a1"), (1.5, "#f3b98b"), (float("inf"), "#e88f8f"))


def picture(cells: dict[tuple[int, int], Usage]) -> str:
    """Return the grid as SVG: the most used resource, and how much of it."""
    width, height = _LEFT + _WIDTH * len(RATES) + 10, _TOP + _HEIGHT * len(WORKERS) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="13" text-anchor="middle">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT + _WIDTH * len(RATES) / 2}" y="22">tasks a second</text>',
        f'<text x="{_LEFT / 2}" y="{_TOP - 12}">workers</text>',
    ]
    for column, rate in enumerate(RATES):
        parts.append(f'<text x="{_LEFT + _WIDTH * (column + 0.5)}" y="{_TOP - 12}">{rate:,}</text>')
    for line, workers in enumerate(WORKERS):
        y = _TOP + _HEIGHT * line
        parts.append(f'<text x="{_LEFT / 2}" y="{y + _HEIGHT / 2 + 4}">{workers:,}</text>')
        for column, rate in enumerate(RATES):
            parts += _cell(_LEFT + _WIDTH * column, y, cells[workers, rate])
    return "\n".join([*parts, "</svg>", ""])


def _cell(x: float, y: float, one: Usage) -> list[str]:
    share = one.share[one.first]
    colour = next(colour for below, colour in _COLOURS if share <= below)
    middle = x + _WIDTH / 2
    return [
        f'<rect x="{x + 2}" y="{y + 2}" width="{_WIDTH - 4}" height="{_HEIGHT - 4}" rx="6" fill="{colour}"/>',
        f'<text x="{middle}" y="{y + 26}" fill="#222222">{one.first}</text>',
        f'<text x="{middle}" y="{y + 46}" fill="#222222">{_share(share)}</text>',
    ]
