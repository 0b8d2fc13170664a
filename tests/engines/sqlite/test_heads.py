"""Many lines: which a claim looks at, and what that costs."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from time import process_time

import pytest

from tasker.engines.sqlite import SqliteEngine
from tasker.engines.sqlite.heads import UNKNOWN, Heads, LineName, Rank
from tasker.testing import Driver, ManualClock, make_draft

TYPES = ("a", "b", "c")


def test_lines_come_in_order_of_their_bounds_whatever_was_told_before() -> None:
    choices = random.Random(7)
    heads, known = Heads(), dict[LineName, Rank]()
    for _ in range(3000):
        line = (f"q{choices.randrange(20)}", choices.choice(TYPES))
        if choices.random() < 0.3:
            heads.discard(line)
            known.pop(line, None)
        elif choices.random() < 0.1:
            types = choices.sample(TYPES, choices.randrange(4))
            taken = list(heads.taken(types))
            assert sorted(taken) == sorted((bound, one) for one, bound in known.items() if one[1] in types)
            assert [bound for bound, _ in taken] == sorted(bound for bound, _ in taken)
            for _, one in taken:
                del known[one]
        else:
            bound = choices.choice([UNKNOWN, (choices.randrange(-9, 9), choices.randrange(9), choices.randrange(9))])
            heads.add(line, bound)
            known[line] = min(bound, known.get(line, bound))
        for types in (("a",), ("b", "c"), ()):
            assert heads.holds_any(types, None) == any(one[1] in types for one in known)
        assert heads.holds_any(("a",), ("q1", "q2")) == any(one in known for one in (("q1", "a"), ("q2", "a")))
        assert set(heads) == known.keys()


@pytest.mark.parametrize("seed", range(5))
async def test_claims_over_many_queues_keep_the_order_of_one_line(tmp_path: Path, seed: int) -> None:
    """Priority and then time, whatever else is submitted, cancelled and claimed in between."""
    choices, clock = random.Random(seed), ManualClock()
    engine = SqliteEngine(tmp_path / "tasker.db", clock)
    await engine.open()
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
    await engine.close()


async def test_a_claim_costs_the_same_with_four_times_as_many_queues(tmp_path: Path) -> None:
    async def cost(number: int) -> float:
        clock = ManualClock()
        engine = SqliteEngine(tmp_path / str(number) / "tasker.db", clock)
        await engine.open()
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
        await engine.close()
        return min(spent)

    assert await cost(4000) < 2 * await cost(1000)
