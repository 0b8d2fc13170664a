"""Figures and their bars: printed as they come, stored in bench/results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One figure. bar: None if it is for information only. detail: how it was made."""

    measure: str
    figure: float
    unit: str = "x"
    bar: float | None = None
    want: Literal["at least", "at most"] = "at least"
    detail: str = ""

    @property
    def is_met(self) -> bool | None:
        if self.bar is None:
            return None
        return self.figure >= self.bar if self.want == "at least" else self.figure <= self.bar

    def cells(self) -> tuple[str, str, str, str, str]:
        """Return the row's text: measure, figure, bar, verdict, detail."""
        if self.bar is None:
            return self.measure, _number(self.figure, self.unit), "", "", self.detail
        sign = ">=" if self.want == "at least" else "<="
        verdict = "met" if self.is_met else f"MISSED by {abs(self.figure / self.bar - 1):.0%}"
        bar = f"{sign} {_number(self.bar, self.unit)}"
        return self.measure, _number(self.figure, self.unit), bar, verdict, self.detail


def _number(value: float, unit: str) -> str:
    if unit == "/s":
        return f"{value:,.0f}/s"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:,.{digits}f} {unit}" if unit != "x" else f"{value:.2f}x"


_HEAD = ("measure", "figure", "bar", "", "how")


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table that also reads well in a terminal."""
    lines = [_HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def keep(rows: list[Row], machine: dict[str, Any], mode: str, failed: dict[str, str]) -> None:
    """Write results/latest.md and latest.json; `failed`: measures without rows, and why."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.md").write_text(_markdown(rows, machine, mode, failed))
    record = {
        "mode": mode,
        "machine": machine,
        "failed": failed,
        "rows": [{**asdict(row), "is_met": row.is_met} for row in rows],
    }
    (RESULTS / "latest.json").write_text(json.dumps(record, indent=2) + "\n")


def _markdown(rows: list[Row], machine: dict[str, Any], mode: str, failed: dict[str, str]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return "\n".join(
        [
            "# The newest run of `make bench`",
            "",
            f"{machine['taken']}, commit {machine['commit']}, {mode} run. {machine['cpu']}, {machine['cores']} cores, "
            f"load average {machine['load_average']} at the start,",
            f"Linux {machine['kernel']}, fdatasync {machine['fdatasync_ms']} ms. Python {machine['python']}, "
            f"SQLite {machine['sqlite']}, {versions}.",
            "",
            "Each server on one core, the load on another; rounds interleaved, medians. Ratios hold better than rates.",
            "",
            table(rows),
            "",
            *(f"**{name} failed**, and has no figures here: {reason}\n" for name, reason in failed.items()),
        ]
    )
