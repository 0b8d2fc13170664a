"""The benchmark's own rules: it checks what it needs first, and a failure costs no figures but its own."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bench import __main__ as bench
from bench import needs, report
from bench.report import Row

Run = Callable[..., int]
SOURCE = Path(bench.__file__).parent


def fine(_plan: object) -> list[Row]:
    return [Row("a ratio", 7.0, bar=6)]


def missed(_plan: object) -> list[Row]:
    return [Row("another ratio", 5.0, bar=6)]


def fails(_plan: object) -> list[Row]:
    raise RuntimeError("no peer\nand its log")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the benchmark with measures of the test's own; its results go to `tmp_path`."""
    about = {"taken": "now", "commit": "x", "cpu": "x", "cores": 2, "load_average": 0.0, "kernel": "x", "python": "3",
             "sqlite": "3", "versions": {}, "fdatasync_ms": 0.1}  # fmt: skip
    monkeypatch.setattr(bench, "pin", lambda _core: None)
    monkeypatch.setattr(bench.machine, "check", lambda: None)
    monkeypatch.setattr(bench.machine, "describe", lambda _disk: about)
    monkeypatch.setattr(bench.resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(report, "RESULTS", tmp_path)

    def run(measures: dict[str, Any], *arguments: str) -> int:
        monkeypatch.setattr(bench, "MEASURES", measures)
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        return bench.main()

    return run


@pytest.mark.parametrize(
    ("measures", "status", "kept"),
    [
        ({"a": fine}, 0, ["a ratio"]),
        ({"a": fine, "b": missed}, 1, ["a ratio", "another ratio"]),
        ({"b": fails, "a": fine}, 2, ["a ratio"]),
    ],
)
def test_what_was_measured_is_kept(
    run: Run, tmp_path: Path, measures: dict[str, Any], status: int, kept: list[str]
) -> None:
    assert run(measures) == status
    record = json.loads((tmp_path / "latest.json").read_text())
    assert [row["measure"] for row in record["rows"]] == kept


def test_a_failure_is_named_with_its_reason(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run({"b": fails, "a": fine}) == 2
    assert "b failed: RuntimeError: no peer\n" in capsys.readouterr().err
    assert "**b failed**, and has no figures here: RuntimeError: no peer" in (tmp_path / "latest.md").read_text()


def test_nothing_is_kept_of_a_part_or_of_nothing(run: Run, tmp_path: Path) -> None:
    assert run({"a": fine}, "--only", "a") == 0
    assert run({"b": fails}) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named_before_anything_is_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[str] = []
    monkeypatch.setattr(needs, "find_binaries", lambda: None)
    monkeypatch.setattr(needs.shutil, "which", lambda _name: None)
    monkeypatch.setattr(needs, "find_spec", lambda name: None if name == "huey" else ModuleType(name))
    measures = dict.fromkeys(("submit", "latency", "shared_end_to_end", "queue_rate"), lambda _: measured.append("x"))
    assert run(measures) == 3
    assert measured == []
    assert capsys.readouterr().err.splitlines() == [
        "The benchmark cannot start:",
        "  the package huey is missing, for submit: pip install -e '.[dev]'",
        "  PostgreSQL's server is missing, for shared_end_to_end, queue_rate: apt install postgresql",
        "  Redis's server is missing, for shared_end_to_end: apt install redis-server",
    ]
    monkeypatch.setattr(needs, "find_spec", ModuleType)
    assert run({**measures, "latency": fine}, "--only", "latency") == 0, "what is not measured needs nothing"


def test_every_measure_of_a_need_is_one() -> None:
    assert set(needs.NEEDS) <= set(bench.MEASURES)


MODULES = sorted(set(SOURCE.rglob("*.py")) - set(SOURCE.glob("peers/*.py")))
"""All but the peers, which need packages of their own."""


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_every_module_can_be_imported(file: Path) -> None:
    module = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)
    importlib.import_module(module.removesuffix(".__init__"))
