"""The pipe under a child's descriptors 1 and 2: every line is logged or counted, whatever it holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator

import pytest

from tasker.executor.frames import Line
from tasker.executor.line_rate import BURST, LineRate
from tasker.executor.raw_output import AT_ONCE, RawOutput

_LARGE = 1 << 20


class _Pipe:
    """A pipe as large as a child can make it. told: the lines passed on. dropped: how many were only counted."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, _LARGE)
        self.told: list[str] = []
        self.dropped = 0
        self.output = RawOutput(reading, self._take)

    def write(self, data: bytes) -> None:
        assert os.write(self.writing, data) == len(data)

    def _take(self, line: Line) -> None:
        if line.source == "tasker":
            self.dropped += int(line.text.split()[0].replace(",", ""))
        else:
            self.told.append(line.text)


@pytest.fixture
async def pipe() -> AsyncIterator[_Pipe]:
    pipe = _Pipe()
    yield pipe
    pipe.output.close()
    os.close(pipe.writing)


@pytest.mark.parametrize("unit", [b"\n", b"a\n", b"\r\n", b"\n\na\n"])
async def test_lines_past_the_rate_are_counted_without_a_look_at_each(
    pipe: _Pipe, unit: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    take = LineRate.take

    def looked_at(rate: LineRate) -> bool:
        nonlocal looks
        looks += 1
        return take(rate)

    monkeypatch.setattr(LineRate, "take", looked_at)
    data = unit * (_LARGE // len(unit))
    pipe.write(data)
    pipe.output.drain()
    assert len(pipe.told) + pipe.dropped == data.count(b"\n")
    assert BURST <= len(pipe.told) <= looks < 2 * BURST


async def test_a_larger_pipe_does_not_make_it_log_more_at_once(pipe: _Pipe) -> None:
    line = b"b" * 511 + b"\n"
    pipe.write(line * (_LARGE // len(line)))
    pipe.output.drain()
    assert 0 < len(pipe.told) <= 2 * AT_ONCE // len(line)
    assert len(pipe.told) + pipe.dropped == _LARGE // len(line)


async def test_an_incomplete_line_continues_after_dropped_ones(pipe: _Pipe) -> None:
    pipe.write(b"\n" * (AT_ONCE - 4) + b"half")
    pipe.output._on_readable()
    pipe.output._rate = LineRate()
    pipe.write(b" and half\n")
    pipe.output.drain()
    assert pipe.told[-1] == "half and half"
