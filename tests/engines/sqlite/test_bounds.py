"""Bounds of partitions: their order, and the cost of claims with many partitions."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from datetime import timedelta
from pathlib import Path
from time import process_time

import pytest
from tests.stores import open_store

from tasker.engines.sqlite.bounds import UNKNOWN, Bounds, Partition, Rank
from tasker.testing import Driver, ManualClock, make_draft

TYPES = ("a", "b", "c")


def test_partitions_come_in_order_of_their_bounds() -> None:
    choices = random.Random(7)
    bounds, known = Bounds(), dict[Partition, Rank]()
    for _ in range(3000):
        partition = (f"q{choices.randrange(20)}", choices.choice(TYPES))
        if choices.random() < 0.3:
            bounds.discard(partition)
            known.pop(partition, None)
        elif choices.random() < 0.1:
            types = choices.sample(TYPES, choices.randrange(4))
            queues = choices.choice([None, {f"q{place}" for place in choices.sample(range(30), choices.randrange(30))}])
            taken = list(bounds.pop_all(types, queues))
            assert sorted(taken) == sorted(
                (bound, one) for one, bound in known.items() if one[1] in types and (queues is None or one[0] in queues)
            )
            assert [bound for bound, _ in taken] == sorted(bound for bound, _ in taken)
            for _, one in taken:
                del known[one]
        else:
            bound = choices.choice([UNKNOWN, (choices.randrange(-9, 9), choices.randrange(9), choices.randrange(9))])
            bounds.add(partition, bound)
            known[partition] = min(bound, known.get(partition, bound))
        for types in (("a",), ("b", "c"), ()):
            assert bounds.holds_any(types, None) == any(one[1] in types for one in known)
        assert bounds.holds_any(("a",), ("q1", "q2")) == any(one in known for one in (("q1", "a"), ("q2", "a")))
        assert set(bounds) == known.keys()


def test_partitions_may_change_during_iteration() -> None:
    bounds = Bounds()
    for place in range(6):
        bounds.add((f"q{place}", TYPES[place % 2]), (0, place, 0))
    for queues in (None, {f"q{place}" for place in range(6)}):
        taken = []
        for bound, partition in bounds.pop_all(TYPES, queues):
            taken.append((bound, partition))
            bounds.discard(("q1", "b"))
            bounds.discard(("q3", "b"))
        assert [partition for _, partition in taken] == [("q0", "a"), ("q2", "a"), ("q4", "a"), ("q5", "b")]
        assert not set(bounds)
        for bound, partition in [*taken, ((0, 1, 0), ("q1", "b")), ((0, 3, 0), ("q3", "b"))]:
            bounds.add(partition, bound)


@pytest.mark.parametrize("queues", [None, {"mine"}])
def test_removed_partitions_leave_nothing_in_memory(queues: set[str] | None) -> None:
    """Workers that name queues never pop the heap of all queues."""
    bounds = Bounds()
    bounds.add(("other", "b" if queues is None else "a"), UNKNOWN)

    def size_after(rounds: int) -> int:
        tracemalloc.start()
        for number in range(rounds):
            bounds.add(("mine", "a"), (0, number, 0))
            assert [partition for _, partition in bounds.pop_all("a", queues)] == [("mine", "a")]
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    size_after(1000)
    assert size_after(20_000) < 100_000


@pytest.mark.parametrize("seed", range(5))
async def test_claims_over_many_queues_keep_the_order_of_one_queue(tmp_path: Path, seed: int) -> None:
    """Priority, then time, with other submissions, cancels and claims in between."""
    choices, clock = random.Random(seed), ManualClock()
    async with open_store(tmp_path / "tasker.db", clock) as engine:
        driver = Driver(engine, clock)
        waiting: dict[tuple[int, int], object] = {}
        for number in range(300):
            clock.advance(timedelta(seconds=1))
            draft = make_draft(clock.now(), queue=f"q{choices.randrange(40)}", priority=choices.randrange(-2, 3))
            waiting[-draft.priority, number] = await driver.submit(draft)
            if choices.random() < 0.1:
                await engine.cancel(waiting.pop(choices.choice(list(waiting))))  # type: ignore[arg-type]
            if choices.random() < 0.2:
                limit = choices.randrange(1, 6)
                expected = sorted(waiting)[:limit]
                claims = await driver.claim(limit)
                assert {claim.task_id for claim in claims} == {waiting.pop(rank) for rank in expected}
        assert {claim.task_id for claim in await driver.claim(len(waiting))} == set(waiting.values())


async def test_a_claim_costs_the_same_with_eight_times_as_many_queues(tmp_path: Path) -> None:
    async def cost(number: int) -> float:
        clock = ManualClock()
        async with open_store(tmp_path / str(number) / "tasker.db", clock) as engine:
            driver = Driver(engine, clock)
            drafts = [make_draft(clock.now(), queue=f"q{place}") for place in range(number)]
            for start in range(0, number, 250):
                await engine.submit(drafts[start : start + 250])
            await driver.claim(10)
            spent = []
            for _ in range(20):
                begun = process_time()
                assert len(await driver.claim(10)) == 10
                spent.append(process_time() - begun)
        return min(spent)

    assert await cost(4000) < 3 * await cost(500)


async def cost_of_a_named_queue(folder: Path, others: int) -> tuple[float, float]:
    """Return the seconds of a claim from one named queue and of a submission to it, with `others` other queues."""
    clock = ManualClock()
    async with open_store(folder / str(others) / "tasker.db", clock) as engine:
        driver = Driver(engine, clock)
        drafts = [make_draft(clock.now(), queue=f"q{place}") for place in range(others)]
        for start in range(0, others, 250):
            await engine.submit(drafts[start : start + 250])
        claims, submissions = [], []
        for _ in range(20):
            await engine.submit([make_draft(clock.now(), queue="mine") for _ in range(2)])
            begun = process_time()
            assert len(await driver.claim(2, queues=("mine",))) == 2
            claims.append(process_time() - begun)
            waiting = asyncio.create_task(driver.claim(1, queues=("mine",), wait_for=timedelta(hours=1)))
            await asyncio.sleep(0)
            await engine.check()  # after this transaction the claim waits
            begun = process_time()
            await driver.submit(make_draft(clock.now(), queue="mine"))
            assert len(await waiting) == 1
            submissions.append(process_time() - begun)
    return min(claims), min(submissions)


async def test_a_claim_by_queue_name_costs_the_same_with_many_other_queues(tmp_path: Path) -> None:
    costs = ""
    for number in range(4):  # a busy machine may need more than one try
        few = await cost_of_a_named_queue(tmp_path / str(number), 100)
        many = await cost_of_a_named_queue(tmp_path / str(number), 8000)
        costs = f"claim, submission: {few} s beside 100 queues, {many} s beside 8000"
        if all(after < 2.5 * before for before, after in zip(few, many, strict=True)):
            return
    pytest.fail(costs)
