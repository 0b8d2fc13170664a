"""Steps, children and questions are found by indexes, however many there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.contract.steps import claim_children, new_question, new_step, put, start
from tests.stores import open_store

from tasker.engines.sqlite import reads
from tasker.engines.sqlite.sql import QUERIES
from tasker.engines.sqlite.storage import connect
from tasker.rules.lifecycle import Succeeded
from tasker.testing import Driver, ManualClock, make_draft

BY_INDEX = (
    "end_sleep", "step_by_key", "steps_by_seq", "concerns_others", "asked_of", "child_counts", "total_children",
    "not_awaited", "await_steps", "any_there", "wake", "is_awaited", "note_answer", "asks_no_more", "asks_again",
    "set_sequence", "children_may_run_again", "copy_steps", "forget_steps", "steps_to_erase", "erase_steps",
    "any_of", "number_stored", "step_stored", "in_flight", "child_by_seq", "count_child", "child_runs_again",
    "next_held", "not_held", "hold_child", "one_in_flight", "child_expires", "child_stays", "cut_loose",
    "unsettled_children", "child_settled", "parent_goes_on", "children_unsettled", "unsettled_parents", "children_at",
    "children_to_run_again", "ran_again", "children_of_step", "any_child", "expire_deleted", "forget_children",
    "steps_of", "some_steps_of", "family_of", "questions_of", "erase_secret_values", "steps_up", "steps_down",
    "move_steps", "expired_tasks", "groups_page_of",
)  # fmt: skip
ORDERED = (
    "asked_of",
    "next_held",
    "questions",
    "questions_of",
    "children_at",
    "steps_by_seq",
    "steps_up",
    "steps_down",
    "groups_page",
    "groups_page_of",
)
"""Queries whose index has the order that they ask for."""
LISTS = {"keys": "[]", "seqs": "[]", "ids": "[]", "task_ids": "[]"}


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store with a parent, its children, its steps and its question."""
    path = tmp_path / "data" / "tasker.db"
    clock = ManualClock()
    async with open_store(path, clock) as engine:
        driver = Driver(engine, clock)
        await driver.submit()
        claim = await driver.claim_one()
        await put(engine, claim, new_step(clock.now()), new_question(clock.now(), timeout=timedelta(hours=1)))
        await start(driver, claim, 30, max_in_flight=10)
        for child in (await claim_children(driver))[:5]:
            await driver.finish(child, Succeeded(b"1"))
        await engine.submit([make_draft(clock.now()) for _ in range(40)])
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[apsw.Connection]:
    connection = connect(path)
    yield connection
    connection.close()


def plan(connection: apsw.Connection, name: str) -> list[str]:
    query = re.sub("--.*", "", QUERIES[name])
    names = re.findall(r":(\w+)", query)
    places = len(set(re.findall(r"\?\d+", query))) or query.count("?")
    values: Any = dict.fromkeys(names, 1) | LISTS if names else (1,) * places
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]


@pytest.mark.parametrize("name", BY_INDEX)
def test_nothing_is_scanned(connection: apsw.Connection, name: str) -> None:
    steps = plan(connection, name)
    allowed = r"SCAN (json_each|CONSTANT|wanted VIRTUAL|wanted|one\b|\(subquery|task USING INDEX task_running)"
    scans = [step for step in steps if step.startswith("SCAN") and not re.match(allowed, step)]
    assert steps
    assert scans == [], steps


@pytest.mark.parametrize("name", ORDERED)
def test_nothing_is_sorted(connection: apsw.Connection, name: str) -> None:
    assert [step for step in plan(connection, name) if "TEMP B-TREE" in step] == []


@pytest.mark.parametrize(("name", "index"), [("questions", "step_asks"), ("questions_of", "step_asks_own")])
def test_questions_are_found_by_an_index_of_open_ones(connection: apsw.Connection, name: str, index: str) -> None:
    assert any(re.search(rf"(SCAN|SEARCH) main.step USING INDEX {index}\b", step) for step in plan(connection, name))


def test_running_children_are_found_among_the_running_tasks(connection: apsw.Connection) -> None:
    first, second = plan(connection, "running_children")
    assert "task_running" in first
    assert re.match(r"SEARCH child USING (COVERING )?INDEX child_seq", second)


class Steps:
    """Counts the instructions of SQLite's virtual machine, which are the same on every machine."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.count = 0
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._note)

    def _note(self, event: dict[str, Any]) -> None:
        self.count += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]


async def test_a_parent_is_read_at_the_same_cost_with_many_children(tmp_path: Path) -> None:
    path, clock = tmp_path / "data" / "tasker.db", ManualClock()
    costs = []
    async with open_store(path, clock) as engine:
        driver = Driver(engine, clock)
        for number in (10, 2000):
            await driver.submit()
            claim = await driver.claim_one()
            await start(driver, claim, number)
            connection = connect(path, read_only=True)
            steps = Steps(connection)
            task = reads.find(connection, claim.task_id, 0)
            connection.close()
            assert task is not None
            assert task.children is not None
            assert task.children.pending == number
            costs.append(steps.count)
    assert costs[1] <= costs[0] + 20


async def test_the_end_of_a_child_costs_the_same_with_many_siblings(tmp_path: Path) -> None:
    costs = []
    for number in (10, 1000):
        path, clock = tmp_path / str(number) / "tasker.db", ManualClock()
        async with open_store(path, clock) as engine:
            driver = Driver(engine, clock)
            await driver.submit()
            await start(driver, await driver.claim_one(), number, max_in_flight=4)
            first, second, *_ = await claim_children(driver)
            await driver.finish(first, Succeeded(b"1"))
            steps = Steps(engine._commits._connection)
            await driver.finish(second, Succeeded(b"1"))
            costs.append(steps.count)
    assert costs[1] <= costs[0] * 1.2


@pytest.mark.parametrize(("number", "size", "most"), [(100, 10, 20), (12, 300_000, 4)])
async def test_one_step_of_erasure_takes_some_steps(tmp_path: Path, number: int, size: int, most: int) -> None:
    path, clock = tmp_path / "data" / "tasker.db", ManualClock()
    async with open_store(path, clock) as engine:
        driver = Driver(engine, clock)
        await driver.submit(make_draft(clock.now(), retention=timedelta(seconds=1)))
        claim = await driver.claim_one()
        value = b'"%s"' % (b"x" * size)
        await put(engine, claim, *(new_step(clock.now(), f"step{place}", value) for place in range(number)))
        await driver.finish(claim, Succeeded(b"1"))
        clock.advance(timedelta(hours=1))
        connection = connect(path, read_only=True)
        left = number
        while left:
            assert await engine.prune(limit=20)
            now_left: int = connection.execute("SELECT count(*) FROM step").get
            assert left - most <= now_left < left
            left = now_left
        connection.close()
