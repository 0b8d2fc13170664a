"""Reports that a function makes through its Context, and how they arrive."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tasker.model import Progress
from tasker.tasktypes.context import Context
from tasker.tasktypes.reporting import MAX_FIELDS, MAX_MESSAGE


class Said:
    def __init__(self) -> None:
        self.progresses: list[Progress] = []
        self.chunks: list[str] = []
        self.logs: list[tuple[str, str, Mapping[str, Any]]] = []
        self.usages: list[Mapping[str, Any]] = []

    def progress(self, progress: Progress) -> None:
        self.progresses.append(progress)

    def output(self, chunk: str) -> None:
        self.chunks.append(chunk)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self.logs.append((level, message, fields))

    def usage(self, usage: Mapping[str, Any]) -> None:
        self.usages.append(usage)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def context(said: Said) -> Context:
    return Context(UUID(int=1), 2, said, lambda: False)


def test_tells_who_it_is_and_whether_to_stop(said: Said) -> None:
    answers = iter([False, True])
    context = Context(UUID(int=1), 2, said, lambda: next(answers))
    assert (context.task_id, context.attempt) == (UUID(int=1), 2)
    assert [context.cancelled, context.cancelled] == [False, True]


@pytest.mark.parametrize(
    ("given", "fraction"),
    [
        ({"fraction": 0.25}, 0.25),
        ({"fraction": 1.0000001}, 1.0),
        ({"fraction": -1}, 0.0),
        ({"current": 1, "total": 4}, 0.25),
        ({"current": 5, "total": 4}, 1.0),
        ({"current": 1, "total": 0}, None),
        ({"current": 1}, None),
        ({"fraction": 0.5, "current": 1, "total": 4}, 0.5),
        ({"message": "on it"}, None),
    ],
)
def test_progress(context: Context, said: Said, given: dict[str, Any], fraction: float | None) -> None:
    context.progress(**given)
    (progress,) = said.progresses
    assert progress.fraction == fraction
    assert progress.message == given.get("message")


def test_numbers_of_progress_keep_their_kind_if_every_reader_can_hold_them(context: Context, said: Said) -> None:
    context.progress(current=3, total=2**70)
    (progress,) = said.progresses
    assert repr((progress.current, progress.total)) == repr((3, float(2**70)))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize("name", ["fraction", "current", "total"])
def test_progress_refuses_what_is_no_number(context: Context, said: Said, name: str, number: float) -> None:
    with pytest.raises(ValueError, match="progress must be"):
        context.progress(**{name: number})
    assert said.progresses == []


def test_log_keeps_json_and_makes_the_rest_text(context: Context, said: Said) -> None:
    context.log("note", count=2**70, when=datetime(2026, 1, 2, tzinfo=UTC), odd=ValueError("x"), message="a field")
    assert said.logs == [
        ("info", "note", {"count": 2**70, "when": "2026-01-02T00:00:00Z", "odd": "x", "message": "a field"})
    ]


@pytest.mark.parametrize(
    ("value", "kept"), [("lone \ud800", "lone \\ud800"), ({1: {2: "\ud800"}}, "{1: {2: '\\ud800'}}")]
)
def test_log_takes_text_that_no_json_can_hold(context: Context, said: Said, value: Any, kept: str) -> None:
    context.log("lone \ud800", level="debug", value=value)
    level, message, fields = said.logs[0]
    assert (level, message) == ("debug", "lone \\ud800")
    assert fields["value"].replace("\\\\", "\\") == kept


def test_log_takes_a_value_that_contains_itself(context: Context, said: Said) -> None:
    endless: list[Any] = []
    endless.append(endless)
    context.log("note", endless=endless)
    assert said.logs[0][2] == {"endless": "[[...]]"}


def test_log_refuses_an_unknown_level(context: Context) -> None:
    with pytest.raises(ValueError, match="level must be one of debug, info"):
        context.log("note", level="loud")  # type: ignore[arg-type]


def test_too_much_is_cut_and_says_so(context: Context, said: Said) -> None:
    context.log("x" * (MAX_MESSAGE + 1), blob="y" * MAX_FIELDS)
    context.progress(message="x" * (MAX_MESSAGE + 1))
    context.usage(blob="y" * MAX_FIELDS)
    assert said.logs == [("info", "x" * MAX_MESSAGE + "...", {"dropped": "16,395 bytes of fields, more than 16,384"})]
    assert said.progresses[0].message == "x" * MAX_MESSAGE + "..."
    assert list(said.usages[0]) == ["dropped"]


def test_output_is_any_text_but_none(context: Context, said: Said) -> None:
    for chunk in ("a", "", "\ud800 é"):
        context.output(chunk)
    assert said.chunks == ["a", "\\ud800 é"]


class Text(str):
    """A text that shows itself as another one."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another text"


class Level(IntEnum):
    LOW = 1


class Unshown:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_subclasses_count_as_their_base(context: Context, said: Said) -> None:
    context.progress(current=Level.LOW, total=Decimal("2.5"), message=Text("text"))
    context.output(Text("text"))
    context.log(Text("text"), level=Text("info"), field=Text("text"))  # type: ignore[arg-type]
    context.usage(cost=Level.LOW, model=Text("text"))
    (progress,) = said.progresses
    kept = [progress.current, progress.total, progress.message, *said.chunks, *said.logs[0][:2]]
    kept += [said.logs[0][2]["field"], *said.usages[0].values()]
    assert kept == [1, 2.5, "text", "text", "info", "text", "text", "text", 1]
    assert {type(one) for one in kept} == {int, float, str}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (msgspec.Raw(b"not json"), None),
        (msgspec.Raw(b'{"a": 1}'), {"a": 1}),
        ({1: "a", "1": "b"}, "{1: 'a', '1': 'b'}"),
        (float("nan"), "nan"),
        ([1.5, float("-inf")], "[1.5, -inf]"),
        (Decimal("1.10"), "1.10"),
        (Decimal("NaN"), "NaN"),
        (datetime(2026, 1, 2), "2026-01-02 00:00:00"),  # noqa: DTZ001
        (Unshown(), "(Unshown that cannot be shown)"),
        ([Unshown()], ["(Unshown that cannot be shown)"]),
        ("a\0b", "a\0b"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_log_never_fails_over_a_value(context: Context, said: Said, value: Any, kept: Any) -> None:
    context.log("note", value=value, other=1)
    fields = said.logs[0][2]
    assert fields["other"] == 1
    assert kept is None or fields["value"] == kept
    assert msgspec.json.decode(msgspec.json.encode(fields)) == fields


@pytest.mark.parametrize("chunk", [b"bytes", 5, None, ["a"]])
def test_output_that_is_no_text_is_refused(context: Context, said: Said, chunk: Any) -> None:
    with pytest.raises(TypeError, match=r"output takes text \(str\), got"):
        context.output(chunk)
    assert said.chunks == []


@pytest.mark.parametrize(
    ("value", "kept"),
    [(Decimal("0.1"), 0.1), (Fraction(1, 4), 0.25), (3, 3), (0, 0), (-0.0, -0.0), (Level.LOW, 1), (None, None)],
)
@pytest.mark.parametrize("name", ["cost", "input_tokens", "output_tokens", "cached_tokens"])
def test_usage_that_adds_up_is_a_number(context: Context, said: Said, name: str, value: Any, kept: Any) -> None:
    context.usage(**{name: value})
    assert said.usages == [{name: kept}]
    assert type(said.usages[0][name]) is type(kept)


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ("0.1", TypeError, r"must be a number, got '0.1' \(str\)"),
        (True, TypeError, "must be a number, got True"),
        ([1], TypeError, "must be a number"),
        (1j, TypeError, "must be a number"),
        (-1, ValueError, "must be a number from 0 to 9,007,199,254,740,992, got -1"),
        (Decimal("-0.1"), ValueError, "must be a number from 0"),
        (float("nan"), ValueError, "must be a number from 0"),
        (Decimal("sNaN"), ValueError, "must be a number from 0"),
        (float("inf"), ValueError, "must be a number from 0"),
        (10**400, ValueError, "must be a number from 0"),
        (Fraction(10**400), ValueError, "must be a number from 0"),
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("name", ["cost", "output_tokens"])
def test_usage_refuses_what_cannot_be_counted(
    context: Context, said: Said, name: str, value: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=f"{name} {says}"):
        context.usage(**{name: value}, model="m")
    assert said.usages == []


def test_usage_that_counts_is_kept_when_the_rest_is_too_large(context: Context, said: Said) -> None:
    context.usage(cost=2, blob="y" * MAX_FIELDS)
    assert said.usages == [{"dropped": "16,395 bytes of fields, more than 16,384", "cost": 2}]


def test_usage(context: Context, said: Said) -> None:
    context.usage(model="small", tokens=3)
    assert said.usages == [{"model": "small", "tokens": 3}]
