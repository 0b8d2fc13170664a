"""What a task has said, in an amount that a page can show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tasker.model import Event
from tasker.web import said
from tasker.web.said import Piece, Reader


def event(type_: str, attempt: int = 1, **data: Any) -> Event:
    raw = msgspec.Raw(msgspec.json.encode(data))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Event(sequence=1, task_id=UUID(int=0), attempt=attempt, type=type_, time=now, data=raw)


def test_output_is_joined_up_to_the_next_attempt() -> None:
    events = [event("output", chunk="a\x1b[3"), event("output", chunk="1mb"), event("started", 2), event("started", 3)]
    pieces = Reader({}).read([*events, event("output", 3, chunk="c")]).pieces
    assert pieces == [Piece("ab"), Piece(attempt=3), Piece("c")]


def test_no_more_fields_of_a_line_are_read_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = said._value
    monkeypatch.setattr(said, "_value", lambda value: read.append(value) or real(value))
    fields = {f"name{number}": number for number in range(5000)}
    [line] = Reader({}).lines_of([event("log", message="m" * 5000, fields=fields)])
    assert line.fields.startswith("name0=0 name1=1 ")
    assert len(line.fields) <= 1000
    assert len(line.text) <= 1001
    assert len(read) < 200
