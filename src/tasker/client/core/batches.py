"""Many tasks: submitted in batches, and awaited together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from msgspec import UNSET, structs

from tasker.client.core.effects import NOTHING, Call, Emit, Flow, Pull
from tasker.client.core.exchange import Exchange, decode, is_transient, refusal
from tasker.client.errors import ServiceError
from tasker.validation.encoding import NotJson, encode_strict, place_of_fault
from tasker.wire.batches import BatchItem, BatchSummary

MOST_ROWS = 1000
"""Submissions in one request."""
_MOST_BYTES = 1 << 20
"""Bytes of one request; one more submission may be added before."""


class Answers(NamedTuple):
    """What the service said to a chunk. problem: why it has not answered to all of it."""

    items: list[BatchItem]
    problem: ServiceError | None


@dataclass(frozen=True)
class BatchCalls:
    """What `Tasker.batch` does; see there."""

    exchange: Exchange

    def batch(
        self, source: Any, *, idempotency_key: str | None, group: str | None, validate: bool, chunk: int
    ) -> Flow[BatchItem]:
        if chunk < 1:
            raise ValueError(f"chunk must be a whole number from 1 on, got {chunk!r}")
        key, start = idempotency_key or str(uuid4()), 0
        for number in itertools.count():
            lines = yield from self._take(source, start, chunk)
            if not lines:
                return
            headers = {"Prefer": "handling=validate"} if validate else {"Idempotency-Key": f"{key}-{number}"}
            items, problem = yield from self.send(lines, headers, group)
            for item in items:
                index = start + item.index
                yield Emit(structs.replace(item, index=index, line=index + 1))
            if problem is not None:
                raise problem
            start += len(lines)

    def send(self, lines: Sequence[bytes], headers: Mapping[str, str], group: str | None = None) -> Call[Answers]:
        """Submit lines in one request, with retries under one key; submissions that are stored stay the same tasks."""
        answers = Answers([], None)
        for retry in itertools.count():
            reply = yield from self.exchange.send(
                "POST", "/batch", lines=b"".join(lines), query={"group": group}, headers=headers
            )
            answers = _read_answers(reply.content, reply.url)
            if answers.problem is None or not is_transient(answers.problem) or retry >= self.exchange.retries:
                break
            yield from self.exchange.pause(answers.problem, retry)
        return answers

    def _take(self, source: Any, start: int, chunk: int) -> Call[list[bytes]]:
        """Return the next lines of a batch. Where it ends depends on the rows alone: so a batch can be sent again."""
        lines: list[bytes] = []
        size = 0
        while len(lines) < chunk and size < _MOST_BYTES and (row := (yield Pull(source))) is not NOTHING:
            lines.append(encode_line(row, start + len(lines)))
            size += len(lines[-1])
        return lines


def encode_line(submission: Mapping[str, Any], index: int) -> bytes:
    """Return a submission as a line. Raises ValueError for what JSON cannot hold."""
    try:
        return encode_strict(submission).replace(b"\n", b" ") + b"\n"
    except NotJson as error:
        raise ValueError(f"row {index} is not sent, for {place_of_fault(submission)}: {error}") from None


def _read_answers(text: bytes, url: str) -> Answers:
    *items, last = _lines(text) or [b"{}"]
    summary = decode(last, BatchSummary, url)
    problem = None if summary.problem is UNSET else refusal(summary.problem.status or 500, summary.problem)
    return Answers([decode(item, BatchItem, url) for item in items], problem)


def _lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line]
