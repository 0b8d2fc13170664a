"""When words are stored, by table; and that each is stored once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tasker.errors import Unavailable
from tasker.model import Lease, Progress, Report
from tasker.reports import FLUSH_AFTER, MANY, Pace, ReportBuffer
from tasker.testing import ManualClock


def test_all_attempts_store_at_the_same_moments() -> None:
    pace = Pace()
    assert len({pace.next(now) for now in (10.001, 10.02, 10.049)}) == 1
    assert pace.next(10.02) == pytest.approx(10.05)
    assert pace.next(10.051) == pytest.approx(10.10)


@pytest.mark.parametrize(("talking", "times"), [(1, 1), (MANY - 1, 1), (MANY, 2), (2 * MANY, 3), (50 * MANY, 3)])
def test_words_wait_longer_while_many_talk(talking: int, times: int) -> None:
    pace, now = Pace(), 100.001
    for _ in range(4):
        moments = {pace.next(now) for _ in range(talking)}
        assert len(moments) == 1
        start, now = now, max(moments) + 0.001
        assert 0 < now - start <= 3 * FLUSH_AFTER + 0.001
    assert now - start == pytest.approx(times * FLUSH_AFTER, abs=0.002)
    pace.next(now)
    assert pace.next(now + 1) - (now + 1) <= FLUSH_AFTER, "when most have fallen silent, the rest are told at once"


class _Store:
    """Refuses the first report."""

    def __init__(self) -> None:
        self.kept: list[Report] = []
        self.refused = 0

    async def record(self, _: Lease, report: Report) -> bool:
        if not self.refused:
            self.refused += 1
            raise Unavailable("the disk is full")
        self.kept.append(report)
        return True


@pytest.mark.parametrize("says_more", [False, True])
async def test_what_could_not_be_stored_is_stored_once(says_more: bool) -> None:
    store: Any = _Store()
    report = ReportBuffer(store, Lease(uuid4(), 1), ManualClock())
    report.output("a")
    report.progress(Progress(fraction=0.5))
    report._flush()
    if says_more:
        report.progress(Progress(fraction=0.75))
    left = await report.finish()
    assert store.refused == 1
    assert left is not None
    progress = [b'{"fraction":0.5,', b'{"fraction":0.75']
    assert [event.data[:16] for event in left.events if event.type == "progress"] == progress[: 1 + says_more]
    assert [event.data for event in left.events if event.type == "output"] == [b'{"chunk":"a"}']
