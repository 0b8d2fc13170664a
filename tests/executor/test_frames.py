"""The bytes between the service and a child."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from tasker.executor.frames import Cancel, Corrupt, Ended, FromChild, Line, Output, Reader, Run, ToChild, encode, ended
from tasker.rules.lifecycle import Failed, Outcome, Snoozed, Succeeded, problem

TASK_ID = UUID(int=7)
OUTCOMES: list[Outcome] = [
    Succeeded(b"null"),
    Succeeded(b""),
    Failed(problem("task-failed", "no", retryable=True), timedelta(seconds=3)),
    Failed(problem("task-failed", "no")),
    Snoozed(timedelta(0)),
    Snoozed(timedelta(days=3, microseconds=1)),
]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_survives_the_round_trip(outcome: Outcome) -> None:
    (frame,) = Reader(FromChild, 1000).feed(encode(ended(outcome, noticed=True, leftovers=False)))
    assert isinstance(frame, Ended)
    assert (frame.outcome, frame.noticed, frame.leftovers) == (outcome, True, False)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1000])
def test_frames_are_found_wherever_the_bytes_are_cut(size: int) -> None:
    frames = [Run(TASK_ID, 1, "sum", b"[1,2]"), Cancel(TASK_ID, 1), Run(TASK_ID, 2, "x", b"y" * 300)]
    data = b"".join(map(encode, frames))
    reader = Reader(ToChild, 1000)
    found = [frame for start in range(0, len(data), size) for frame in reader.feed(data[start : start + size])]
    assert found == frames


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\4nope",
        b"\xff\xff\xff\xff",
        b"\0\0\3\xe9",
        encode(Line(20, "stdout", "x")).replace(b"line", b"lime"),
        encode(Cancel(TASK_ID, 1)),
        encode(Output("ab")).replace(b"ab", b"\xff\xff"),
        b"\0\0\0\0",
    ],
)
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        list(Reader(FromChild, 1000).feed(data))


def test_frames_before_the_broken_one_count() -> None:
    frames = Reader(FromChild, 1000).feed(encode(Output("good")) + b"\0\0\0\4nope")
    assert next(frames) == Output("good")
    with pytest.raises(Corrupt):
        next(frames)
