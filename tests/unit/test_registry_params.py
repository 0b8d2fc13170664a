"""Params by position or by name: what is accepted and refused, and the message of every fault."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct
from tests.values import bind

from tasker import secret, task
from tasker.errors import Fault, Invalid
from tasker.model import RetryPolicy
from tasker.model.types import PublishedType
from tasker.tasktypes.published import publish, revive
from tasker.tasktypes.registry import Registry, TaskType
from tasker.validation.faults import MAX_FAULTS, make_validator

ZONED = "expected a date and time with a zone (RFC 3339, such as 2026-01-31T12:00:00Z)"
CANARY = "s3cret-canary"


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


@dataclass
class Point:
    x: int
    y: int = 0


class Cat(Struct, tag="cat"):
    lives: Annotated[int, Meta(ge=1, le=9)]


class Dog(Struct, tag="dog", forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1)]
    born: date | None = None


class Even(Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("the number must be even")


class Options(TypedDict):
    level: Required[int]
    word: NotRequired[str]


def register(function: Callable[..., Any]) -> TaskType:
    return Registry().add(function)


def taking(type_: Any) -> TaskType:
    def function(value): ...

    function.__annotations__ = {"value": type_}
    return register(function)


def faults(task_type: TaskType, params: Any) -> list[tuple[str, str]]:
    """Return the faults, the same from `check` and `bind`, and none that repeats a value."""
    with pytest.raises(Invalid) as checked:
        task_type.check(params)
    with pytest.raises(Invalid) as bound:
        bind(task_type, params)
    assert checked.value.faults == bound.value.faults
    assert checked.value.detail == bound.value.detail
    assert CANARY not in checked.value.detail + "".join(fault.detail for fault in checked.value.faults)
    assert all(len(fault.detail) <= 300 for fault in checked.value.faults)
    return [(fault.pointer, fault.detail) for fault in checked.value.faults]


@register
def mixed(a: int, b: str = "b", /, c: float = 1.5, *more: int, d: int, e: str | None = None) -> None: ...


@register
def short(a: int, b: int = 2, *, c: int = 3) -> None: ...


# Binding


@pytest.mark.parametrize(
    ("params", "bound"),
    [
        ([1], ((1, 2), {"c": 3})),
        ([1, 5], ((1, 5), {"c": 3})),
        ({"a": 1}, ((1, 2), {"c": 3})),
        ({"c": 9, "b": 8, "a": 7}, ((7, 8), {"c": 9})),
    ],
)
def test_binding(params: Any, bound: Any) -> None:
    short.check(params)
    assert bind(short, params) == bound


def test_named_params_reach_every_kind_of_parameter() -> None:
    assert bind(mixed, {"a": 1, "d": 4}) == ((1, "b", 1.5), {"d": 4, "e": None})
    assert bind(mixed, {"a": 1, "d": 4, "more": [7, 8]}) == ((1, "b", 1.5, 7, 8), {"d": 4, "e": None})
    assert bind(mixed, {"a": 1, "c": 2, "d": 4, "e": "x"}) == ((1, "b", 2.0), {"d": 4, "e": "x"})


# Faults


@pytest.mark.parametrize("params", [None, "x", 1, 1.5, True])
def test_params_are_an_array_or_an_object(params: Any) -> None:
    ((pointer, detail),) = faults(short, params)
    assert pointer == ""
    assert detail.startswith("expected array or object, got ")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([], [("/0", "`a` is missing")]),
        ({}, [("/a", "`a` is missing")]),
        ([1, 2, 3, 4], [("/2", "too many values: expected at most 2, got 4")]),
        (["x", None], [("/0", "expected integer, got string"), ("/1", "expected integer, got null")]),
        ([True, 1.0], [("/0", "expected integer, got boolean"), ("/1", "expected integer, got number")]),
        ({"a": "1", "c": []}, [("/a", "expected integer, got string"), ("/c", "expected integer, got array")]),
        (["x", 2, 3], [("/0", "expected integer, got string"), ("/2", "too many values: expected at most 2, got 3")]),
        ({"a": 1, "x/y~": 2}, [("/x~1y~0", "unknown field")]),
        ({"b": {}}, [("/a", "`a` is missing"), ("/b", "expected integer, got object")]),
    ],
)
def test_every_fault_is_reported(params: Any, expected: list[tuple[str, str]]) -> None:
    assert faults(short, params) == expected


def test_faults_of_rest_point_at_the_element() -> None:
    wrong = "expected integer, got string"
    assert faults(mixed, {"a": 1, "d": 1, "more": [1, "x", 2, "y"]}) == [("/more/1", wrong), ("/more/3", wrong)]
    assert faults(mixed, {"a": 1, "d": 1, "more": 5}) == [("/more", "expected array, got integer")]

    @register
    def rest(first: int, *others: int) -> None: ...

    assert faults(rest, [1, 2, "x", "y"]) == [("/2", wrong), ("/3", wrong)]


def test_a_param_that_an_array_cannot_reach_is_reported() -> None:
    assert faults(mixed, [1]) == [("", "`d` is missing, and can only be given by name; send an object")]


@pytest.mark.parametrize("name", ["__class__", "__proto__", "constructor", "base_url", "api_key", "p0", "", "context"])
def test_unknown_names_have_a_problem_of_their_own(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        short.check({"a": 1, name: 2})
    assert caught.value.kind.name == "unknown-field"
    assert caught.value.faults == (Fault(f"/{name}", "unknown field"),)


def test_unknown_names_with_other_faults_are_invalid_params() -> None:
    with pytest.raises(Invalid) as caught:
        short.check({"a": "x", "z": 2})
    assert caught.value.kind.name == "invalid-params"


def test_a_misspelt_name_is_helped() -> None:
    @register
    def gpt(prompt: str, temperature: float = 1.0) -> None: ...

    assert faults(gpt, {"prompt": "x", "temprature": 1}) == [
        ("/temprature", "unknown field; did you mean `temperature`?")
    ]


def test_a_long_unknown_name_is_not_repeated() -> None:
    assert faults(short, {"a": 1, "x" * 10_000: 1}) == [("", "unknown field, with a name of more than 200 characters")]


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (int, CANARY, [("", "expected integer, got string")]),
        (float, True, [("", "expected number, got boolean")]),
        (float, 10**400, [("", "number out of range")]),
        (int | float, CANARY, [("", "expected number, got string")]),
        (int | None, CANARY, [("", "expected integer or null, got string")]),
        (int | str | None, [], [("", "expected integer, string or null, got array")]),
        (str, 5, [("", "expected string, got integer")]),
        (None, 0, [("", "expected null, got integer")]),
        (Color, CANARY, [("", 'expected one of "blue", "red"')]),
        (Color | None, CANARY, [("", 'expected "blue", "red" or null, got string')]),
        (Size, 1.0, [("", "expected integer, got number")]),
        (Literal["only"], CANARY, [("", 'expected "only"')]),
        (Literal[1, "a"], True, [("", 'expected one of 1, "a"')]),
        (datetime, CANARY, [("", ZONED)]),
        (Annotated[datetime, Meta(tz=True)], CANARY, [("", ZONED)]),
        (
            Annotated[datetime, Meta(tz=True)],
            "2020-01-01T00:00:00",
            [("", ZONED)],
        ),
        (date, "2020-13-01", [("", "expected a string of the format date")]),
        (timedelta, CANARY, [("", "expected a string of the format duration")]),
        (UUID, CANARY, [("", "expected a string of the format uuid")]),
        (Decimal, CANARY, [("", "expected a finite decimal number")]),
        (bytes, "!" + CANARY, [("", "invalid base64 encoded string")]),
        (
            list[int],
            [1, CANARY, 2, None],
            [("/1", "expected integer, got string"), ("/3", "expected integer, got null")],
        ),
        (list[datetime], ["2020-01-01T00:00:00Z", CANARY], [("/1", ZONED)]),
        (
            list[UUID],
            [CANARY, "y"],
            [("/0", "expected a string of the format uuid"), ("/1", "expected a string of the format uuid")],
        ),
        (tuple[int, str], [1, CANARY, 3], [("", "expected at most 2 items, got 3")]),
        (tuple[int, str], ["x"], [("/0", "expected integer, got string"), ("", "expected at least 2 items, got 1")]),
        (dict[str, int], {"a/b": CANARY, "c": 1}, [("/a~1b", "expected integer, got string")]),
        (dict[int, int], {CANARY: 1}, [("", "expected integer, got string")]),
        (Point, {"y": CANARY}, [("/y", "expected integer, got string"), ("/x", "`x` is missing")]),
        (Point, [], [("", "expected object, got array")]),
        (Options, {"word": 1}, [("/word", "expected string, got integer"), ("/level", "`level` is missing")]),
        (
            Point | None,
            {"x": CANARY, "y": None},
            [("/x", "expected integer, got string"), ("/y", "expected integer, got null")],
        ),
        (Point | None, CANARY, [("", "expected object or null, got string")]),
        (list[Cat | Dog], [{"type": "cat", "lives": 10}], [("/0/lives", "expected at most 9")]),
        (list[Cat | Dog], [{"type": "cow", "lives": 10}], [("/0/type", 'expected "cat" or "dog"')]),
        (
            Cat | Dog,
            {"type": "dog", "name": "", "age": 3},
            [("/name", "expected at least 1 characters, got 0"), ("/age", "unknown field")],
        ),
        (
            Cat | Dog,
            {"type": "dog", "name": "Rex", "born": CANARY},
            [("/born", "expected a string of the format date")],
        ),
        (Even, {"number": 3}, [("", "the number must be even")]),
        (dict[str, list[Even]], {"a": [{"number": 3}]}, [("", "the number must be even")]),
        (
            Annotated[int, Meta(ge=1, multiple_of=2)],
            -3,
            [("", "expected at least 1"), ("", "expected a multiple of 2")],
        ),
        (Annotated[float, Meta(gt=0)], 0, [("", "expected more than 0")]),
        (Annotated[float, Meta(lt=1)], 1, [("", "expected less than 1")]),
        (Annotated[str, Meta(max_length=3)], CANARY, [("", f"expected at most 3 characters, got {len(CANARY)}")]),
        (Annotated[str, Meta(pattern="^a+$")], CANARY, [("", "expected a string that matches ^a+$")]),
        (Annotated[list[int], Meta(min_length=1)], [], [("", "expected at least 1 items, got 0")]),
        (Annotated[dict[str, int], Meta(max_length=1)], {"a": 1, "b": 2}, [("", "expected at most 1 members, got 2")]),
    ],
    ids=str,
)
def test_sentences(type_: Any, value: Any, expected: list[tuple[str, str]]) -> None:
    task_type = taking(type_)
    found = [(pointer.removeprefix("/0"), detail) for pointer, detail in faults(task_type, [value])]
    assert sorted(found) == sorted(expected)
    named = [(pointer.removeprefix("/value"), detail) for pointer, detail in faults(task_type, {"value": value})]
    assert named == found


def test_the_number_of_reported_faults_is_limited() -> None:
    @register
    def rest(*numbers: int) -> None: ...

    found = faults(rest, ["x"] * 500)
    assert len(found) == MAX_FAULTS + 1
    assert found[-1] == ("", f"there are more faults; these are the first {MAX_FAULTS}")
    assert len(faults(short, {str(n): 0 for n in range(500)})) == MAX_FAULTS + 1
    assert len(faults(taking(list[int]), [["x"] * 500])) == MAX_FAULTS + 1


@pytest.mark.parametrize(
    ("type_", "value", "first"),
    [
        (list[int], [1] * 50_000 + ["x", "y"], ("/0/50000", "expected integer, got string")),
        (list[list[int]], [[1]] * 20_000 + [["x", "y"]], ("/0/20000/0", "expected integer, got string")),
        (
            dict[str, int],
            {str(n): n for n in range(50_000)} | {"x": "x", "y": "y"},
            ("/0", "expected integer, got string"),
        ),
    ],
)
def test_only_the_first_fault_of_a_large_value_is_reported(type_: Any, value: Any, first: tuple[str, str]) -> None:
    """To look for them all would hold up the service: 100,000 elements take jsonschema more than a second."""
    assert faults(taking(type_), [value]) == [first]


# The schema shown to clients is what is accepted

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
    | st.sampled_from(["red", "a", "cat", "dog", "2020-01-01", "2020-01-01T00:00:00Z", "PT1S", "eA==", "1.5", "NaN"])
    | st.just("2020-01-01T00:00:00")
    | st.uuids().map(str),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["x", "y", "type", "lives", "name", "born", "level", "word", "1"]) | st.text(max_size=2), inner,
        max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip

_EXACT = [
    int, float, int | float, str, bool, None, int | None, str | int | None, list[int], list[int | None],
    dict[str, float], tuple[int, str], tuple[bool, ...], set[int], Color, Color | int, Literal["a", "b", None], date,
    timedelta, UUID,
    Point, list[Point], Point | None, Options, dict[str, Point], Dog, Dog | None, list[Dog], Cat | Dog | None,
    Annotated[int, Meta(ge=0, lt=10)], Annotated[str, Meta(min_length=1, max_length=2)],
    Annotated[list[int], Meta(min_length=1)], Any, object, dict[str, object], Decimal, list[Decimal | None],
    Decimal | int | None, Path, Path | None, datetime, dict[str, datetime | None],
]  # fmt: skip


def _params_for(task_type: TaskType) -> st.SearchStrategy[Any]:
    names = st.sampled_from(sorted(task_type.input_schema["properties"])) | st.text(max_size=2)
    return st.lists(_json, max_size=4) | st.dictionaries(names, _json, max_size=4) | _json


def _accepts(task_type: TaskType, params: Any) -> bool:
    try:
        task_type.check(params)
    except Invalid as error:
        return not error.faults
    return True


def _points_into(value: Any, pointer: str) -> bool:
    """Whether all but the last step of a pointer exist (the last may be a missing member)."""
    for step in pointer.split("/")[1:-1]:
        key = step.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return pointer == "" or isinstance(value, dict | list)


@settings(max_examples=600)
@given(type_=st.sampled_from(_EXACT), value=_json)
def test_the_schema_and_the_check_agree(type_: Any, value: Any) -> None:
    task_type = taking(type_)
    assert _accepts(task_type, [value]) is make_validator(task_type.input_schema).is_valid({"value": value})


@given(task_type=st.sampled_from([mixed, short, taking(Cat | Dog), taking(list[Point])]), data=st.data())
def test_what_check_takes_bind_takes(task_type: TaskType, data: st.DataObject) -> None:
    params = data.draw(_params_for(task_type))
    if _accepts(task_type, params):
        bind(task_type, params)
    else:
        found = faults(task_type, params)
        assert len(set(found)) == len(found)
        assert all(_points_into(params, pointer) for pointer, _ in found)


# A type that another process runs: its params are known by its schema alone


def elsewhere(task_type: TaskType) -> TaskType:
    """Return a type as a process without its function knows it."""
    text = msgspec.json.encode(publish(task_type))
    return revive(msgspec.json.decode(text, type=PublishedType))


@settings(max_examples=600)
@given(type_=st.sampled_from(_EXACT), value=_json)
def test_a_published_type_takes_the_same_values(type_: Any, value: Any) -> None:
    here = taking(type_)
    there = elsewhere(here)
    for params in ([value], {"value": value}):
        assert _accepts(there, params) is _accepts(here, params)


@settings(max_examples=400)
@given(task_type=st.sampled_from([mixed, short, taking(Cat | Dog), taking(list[Point])]), data=st.data())
def test_a_published_type_takes_the_same_params(task_type: TaskType, data: st.DataObject) -> None:
    params = data.draw(_params_for(task_type))
    assert _accepts(elsewhere(task_type), params) is _accepts(task_type, params)


@pytest.mark.parametrize("task_type", [mixed, short, taking(Cat | Dog), taking(list[Point])])
@pytest.mark.parametrize(
    "params",
    [
        None, "x", [], {}, [1], ["x", None], [1, 2, 3, 4], {"a": 1, "x/y~": 2}, {"a": 1, "d": 1, "more": [1, "x"]},
        [1, "b", 1.5, 7, "x"], [{"type": "cat", "lives": 10}], {"value": {"type": "cow"}}, [[{"x": "x"}, {}]],
        [[{"x": 1, "y": []}] * 3],
    ],
    ids=str,
)  # fmt: skip
def test_a_published_type_reports_the_same_faults(task_type: TaskType, params: Any) -> None:
    def told(one: TaskType) -> set[Fault]:
        try:
            one.check(params)
        except Invalid as error:
            return set(error.faults)
        return set()

    assert told(elsewhere(task_type)) == told(task_type)


def test_a_large_value_is_left_to_the_worker() -> None:
    """jsonschema would keep everybody waiting: 100,000 elements take it more than a second."""
    there = elsewhere(taking(list[int]))
    there.check([["x"] * 50_000])
    assert _accepts(there, [["x"] * 50]) is False
    assert _accepts(there, [[1] * 50_000, 2]) is False, "how many there are is known at once"


def test_a_published_type_has_the_defaults_of_its_worker() -> None:
    registry = Registry(default_timeout=timedelta(seconds=7), default_retention="forever")

    @task(queue="q", priority=3, retry=RetryPolicy(max_attempts=4, factor=3.0), on_crash="fail", memory_limit="64MB",
          costs=True, example=["key"])  # fmt: skip
    def paid(token: Annotated[str, secret], size: int = 1) -> int:
        """Cost something."""
        return size

    here = registry.add(paid)
    there = elsewhere(here)
    same = ("name", "description", "is_async", "queue", "priority", "policy", "policy_json", "memory_limit", "example",
            "input_schema", "output_schema", "costs", "retention", "secrets", "positional", "rest")  # fmt: skip
    assert {name: getattr(there, name) for name in same} == {name: getattr(here, name) for name in same}
    assert there.policy.timeout == timedelta(seconds=7)
    assert elsewhere(here.with_retention(timedelta(days=1))).retention == "forever"


@given(a=st.integers(), b=st.integers(), rest=st.lists(st.integers()), d=st.integers())
def test_params_by_name_and_by_position_bind_alike(a: int, b: int, rest: list[int], d: int) -> None:
    @register
    def function(a: int, b: int = 7, *more: int, d: int = 8) -> None: ...

    by_name = {"a": a, "b": b, "more": rest}
    assert bind(function, [a, b, *rest]) == bind(function, by_name) == ((a, b, *rest), {"d": 8})
    assert bind(function, by_name | {"d": d}) == ((a, b, *rest), {"d": d})


@given(numbers=st.lists(st.integers() | st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_arrive_as_they_were_sent(numbers: list[float]) -> None:
    (bound,), _ = bind(taking(list[int | float]), [numbers])
    assert [(type(number), number) for number in bound] == [(type(number), number) for number in numbers]


# Numbers and moments


_digits = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


@given(digits=_digits, quoted=st.booleans(), named=st.booleans())
def test_a_decimal_has_the_digits_of_the_text(digits: str, quoted: bool, named: bool) -> None:
    one = f'"{digits}"' if quoted else digits
    text = f"[{one}, {one}]"
    task_type = taking(list[Decimal])
    (bound,), _ = task_type.bind(f'{{"value": {text}}}'.encode() if named else f"[{text}]".encode())
    assert [(type(one), one) for one in bound] == [(Decimal, Decimal(digits))] * 2


class Amount(Struct):
    value: Decimal
    at: datetime | None = None


class Bill(pydantic.BaseModel):
    total: Decimal
    share: float = 0.0
    parts: list[Decimal] = []


DIGITS = "12345678901234567.89"


@pytest.mark.parametrize(
    ("type_", "text", "bound"),
    [
        (Decimal, DIGITS, Decimal(DIGITS)),
        (Decimal | None, DIGITS, Decimal(DIGITS)),
        (Decimal | int, DIGITS, Decimal(DIGITS)),
        (dict[str, Decimal], f'{{"a": {DIGITS}}}', {"a": Decimal(DIGITS)}),
        (tuple[Decimal, ...], f"[{DIGITS}]", (Decimal(DIGITS),)),
        (Amount, f'{{"value": {DIGITS}}}', Amount(Decimal(DIGITS))),
        (list[Amount | None], f'[null, {{"value": {DIGITS}}}]', [None, Amount(Decimal(DIGITS))]),
        (Decimal, "9" * 40, Decimal("9" * 40)),
        (int, "9" * 40, int("9" * 40)),
        (float, DIGITS, float(DIGITS)),
        (Any, DIGITS, float(DIGITS)),
        (Bill, f'{{"total": {DIGITS}, "share": {DIGITS}}}', Bill(total=Decimal(DIGITS), share=float(DIGITS))),
        (list[Bill], f'[{{"total": 1, "parts": [{DIGITS}]}}]', [Bill(total=Decimal(1), parts=[Decimal(DIGITS)])]),
    ],
    ids=str,
)
def test_no_digit_is_lost_at_any_depth(type_: Any, text: str, bound: Any) -> None:
    task_type = taking(type_)
    seen = []

    def check(value: Any) -> Iterator[Any]:
        seen.append(value)
        yield from ()

    checked = Registry().add(task(check=check)(task_type.function))
    raw = f"[{text}]".encode()
    checked.check(msgspec.json.decode(raw), raw)
    assert repr(seen[-1:]) == repr([bound])  # before, the example was checked
    assert repr(task_type.bind(raw)) == repr(((bound,), {}))


def test_each_parameter_has_its_own_rule_of_zones() -> None:
    def function(at: datetime, local: Annotated[datetime, Meta(tz=False)], amount: Amount | None = None): ...

    task_type = register(function)
    task_type.check(["2020-01-01T00:00:00Z", "2020-01-01T00:00:00"])
    assert faults(task_type, ["2020-01-01T00:00:00", "2020-01-01T00:00:00"]) == [("/0", ZONED)]
    amount = {"value": "NaN", "at": "2020-01-01T00:00:00"}
    assert faults(task_type, {"at": "2020-01-01T00:00:00Z", "local": "2020-01-01T00:00:00Z", "amount": amount}) == [
        ("/local", "expected datetime with no timezone component"),
        ("/amount/value", "expected a finite decimal number"),
        ("/amount/at", ZONED),
    ]


class Local(Struct):
    value: Decimal
    at: Annotated[datetime, Meta(tz=False)]


def test_a_decimal_next_to_a_datetime_without_a_zone() -> None:
    task_type = taking(list[Local])
    (bound,), _ = bind(task_type, [[{"value": "1", "at": "2020-01-01T00:00:00"}]])
    assert bound == [Local(Decimal(1), datetime(2020, 1, 1))]  # noqa: DTZ001
    assert faults(task_type, [[{"value": "NaN", "at": "2020-01-01T00:00:00"}]]) == [
        ("/0/0/value", "expected a finite decimal number")
    ]


def test_a_large_value_is_looked_at_as_a_whole() -> None:
    many = ["2020-01-01T00:00:00Z"] * 5000
    task_type = taking(list[datetime])
    task_type.check([many])
    assert faults(task_type, [[*many, "2020-01-01T00:00:00"]]) == [
        ("/0", "it holds a datetime without a time zone; use for example datetime.now(UTC)")
    ]


# pydantic


class Kind(enum.Enum):
    BOOK = "store"


class Item(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    sku: str = pydantic.Field(min_length=3, alias="SKU")
    kind: Kind = Kind.BOOK
    sizes: dict[str, int] = {}
    parent: Item | None = None

    @pydantic.field_validator("sku")
    @classmethod
    def _is_upper(cls, sku: str) -> str:
        if not sku.isupper():
            raise ValueError("expected capital letters, of which there are 26")
        return sku


class Meow(pydantic.BaseModel):
    type: Literal["cat"]
    lives: int


class Woof(pydantic.BaseModel):
    type: Literal["dog"]
    name: str


@pydantic.dataclasses.dataclass
class Place:
    x: int = pydantic.Field(gt=0)


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (Item, 5, [("", "expected an object")]),
        (Item, {"SKU": "ab"}, [("/SKU", "string should have at least 3 characters")]),
        (Item, {"SKU": "abc"}, [("/SKU", "expected capital letters, of which there are 26")]),
        (Item, {"sku": "ABC"}, [("/SKU", "`SKU` is missing"), ("/sku", "unknown field")]),
        (Item, {"SKU": "ABC", "kind": CANARY, "sizes": {"a/b": "x"}}, [
            ("/kind", "expected 'store'"),
            ("/sizes/a~1b", "expected a valid integer, unable to parse string as an integer"),
        ]),
        (list[Item | None], [None, {"SKU": "ABC", "parent": {"SKU": 3}}], [
            ("/1/parent/SKU", "expected a valid string"),
        ]),
        (Annotated[Meow | Woof, pydantic.Field(discriminator="type")], {"type": "cat", "lives": CANARY}, [
            ("/lives", "expected a valid integer, unable to parse string as an integer"),
        ]),
        (Place, {"x": 0}, [("/x", "expected greater than 0")]),
        (Place, {}, [("/x", "`x` is missing")]),
        (Annotated[int, pydantic.Field(ge=3)], 2, [("", "expected greater than or equal to 3")]),
        (Bill, {"total": "NaN"}, [("/total", "expected a finite number")]),
    ],
    ids=str,
)  # fmt: skip
def test_pydantics_faults_have_their_places(type_: Any, value: Any, expected: list[tuple[str, str]]) -> None:
    found = faults(taking(type_), [value])
    assert [(pointer.removeprefix("/0"), detail) for pointer, detail in found] == expected


def test_faults_of_models_and_others_are_reported_together() -> None:
    def function(item: Item, count: int, *more: Item): ...

    task_type = register(function)
    assert faults(task_type, [{"SKU": "ABC"}, "3", {"SKU": "DEF"}, {"SKU": "x"}]) == [
        ("/1", "expected integer, got string"),
        ("/3/SKU", "string should have at least 3 characters"),
    ]
    assert faults(task_type, {"item": {}, "more": [5], "itm": 1}) == [
        ("/item/SKU", "`SKU` is missing"),
        ("/count", "`count` is missing"),
        ("/more/0", "expected an object"),
        ("/itm", "unknown field; did you mean `item`?"),
    ]


def test_a_strict_model_refuses_digits_that_it_cannot_keep() -> None:
    class Strict(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True)
        total: Decimal
        day: date = date(2020, 1, 1)

    task_type = taking(Strict)
    task_type.bind(b'[{"total": 1.5, "day": "2020-01-01"}]')
    raw = f'[{{"total": {DIGITS}, "day": "2020-01-01"}}]'.encode()
    with pytest.raises(Invalid) as caught:
        task_type.check(msgspec.json.decode(raw), raw)
    assert [(fault.pointer, fault.detail) for fault in caught.value.faults] == [
        ("", "a number in it has more digits than a float keeps; send it as a string")
    ]
