"""Params with many numbers such as 1e300, which msgspec reads slowly: read another way, and to the same values."""

from __future__ import annotations

from decimal import Decimal
from time import process_time
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from tests.values import bind

from tasker.errors import Invalid
from tasker.tasktypes.registry import Registry
from tasker.validation import encoding
from tasker.validation.encoding import NotJson, encode_strict


def rest(first: float, *more: int | float) -> None: ...
def named(x: list[float], y: dict[str, Any], *, z: Annotated[float, Meta(ge=0)] = 1.0) -> None: ...
def anything(x: Any, y: list[int] = [1], z: str | None = None) -> None: ...  # noqa: B006
def exact(x: list[Decimal]) -> None: ...


MANY = [1.5e300, -2e-10, 3e55] * 500
PARAMS: list[Any] = [
    MANY, [*MANY, "x"], [1, MANY], [MANY, {"a": 1}], [MANY, {"a": MANY}], [MANY, [1, 2]], [MANY, [1.0, 2]],
    [MANY, [1e2]],
    [MANY, 1, 2], [MANY, [1], "z"], [[MANY]], [MANY], [True, *MANY], [2**70, *MANY], [None, *MANY],
    {"x": MANY, "y": {}, "z": 2}, {"x": MANY, "y": {}, "z": -2}, {"x": MANY, "q": 1}, {"x": MANY},
    {"x": MANY, "y": [True]},
    {"first": 1, "more": MANY}, {"first": 1, "more": [*MANY, None]}, {"more": MANY}, {"": 1, "x": MANY},
    {"first": 1, "more": 2, "x": MANY},
]  # fmt: skip


def told(function: Any, params: Any) -> str:
    """Return the arguments, or that there are none."""
    task_type = Registry().add(function)
    try:
        task_type.check(params, msgspec.json.encode(params))
        return repr(bind(task_type, params))
    except Invalid as error:
        return repr(error.faults)


@pytest.mark.parametrize("function", [rest, named, anything, exact])
@pytest.mark.parametrize("params", PARAMS, ids=range(len(PARAMS)))
def test_they_are_read_as_a_few_are(function: Any, params: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(function, params)
    monkeypatch.setattr(encoding, "_FEW_EXPONENTS", 10**9)
    assert found == told(function, params)


def test_results_are_written_as_they_are() -> None:
    text = encode_strict(MANY)
    assert text == msgspec.json.encode(MANY)
    assert encoding.has_many_exponents(text)
    with pytest.raises(msgspec.DecodeError):
        encoding.read_any(text[:-1])


def test_they_are_read_sooner_than_msgspec_reads_them() -> None:
    """By far, and by the least of some tries."""
    text = msgspec.json.encode([1e300] * 5_000)

    def took(read: Any) -> float:
        began = process_time()
        read(text)
        return process_time() - began

    assert min(took(encoding.read_any) for _ in range(8)) < min(took(msgspec.json.decode) for _ in range(8)) / 2


MALFORMED: list[bytes] = [
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1" * 400 + b".0", b'"\\ud800"', b'"\\udc00\\ud800"',
    b'"\\ud800\\u0041"', b'{"\\ud800":1}', b'"\xed\xa0\x80"', b'"\xff"', b"\x0c1", b"01", b"1.", b'"\t"', b"[" * 2000,
    b"1" * 5000,
]  # fmt: skip
STRANGE: list[bytes] = [
    b'"\\ud83d\\ude00"', b'"\\u0000"', b"-0", b"-0.0", b"1e-400", b"1" * 300, b'{"a":1,"a":2}', b"1E5", b'"\\/"',
]  # fmt: skip


@pytest.mark.parametrize("item", [*MALFORMED, *STRANGE], ids=range(len(MALFORMED) + len(STRANGE)))
def test_what_msgspec_refuses_is_refused_and_the_rest_is_the_same(item: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"[%b,%b]" % (b",".join([b"1.5e300"] * 1_500), item)
    outcomes = []
    for few in (1_000, 10**9):
        monkeypatch.setattr(encoding, "_FEW_EXPONENTS", few)
        assert encoding.has_many_exponents(text) == (few == 1_000)
        try:
            outcomes.append(repr(encoding.read_any(text)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]
    assert (outcomes[0] == "refused") == (item in MALFORMED)


@pytest.mark.parametrize("item", MALFORMED, ids=range(len(MALFORMED)))
def test_a_result_with_many_exponents_is_no_way_round_the_rules(item: bytes) -> None:
    with pytest.raises(NotJson):
        encode_strict([*MANY, msgspec.Raw(item)])


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", "[".encode("utf-16")[:2]])
def test_no_byte_order_mark_is_passed_over(start: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        encoding.read_any(start + msgspec.json.encode(MANY))
