"""The built-in tasks `sum` and `reverse`, through their task types as a worker runs them."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from itertools import product
from math import isinf
from typing import Any

import pytest
import regex
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.values import bind

from tasker.builtin.reverse import reverse
from tasker.builtin.sum import sum as sum_
from tasker.errors import Fail, Invalid
from tasker.tasktypes.registry import Registry

_registry = Registry()
SUM, REVERSE = _registry.add(sum_), _registry.add(reverse)


def total(params: Any) -> bytes:
    SUM.check(params)
    args, kwargs = bind(SUM, params)
    return SUM.encode_result(asyncio.run(SUM.function(*args, **kwargs)))


def turned(text: str) -> str:
    args, kwargs = bind(REVERSE, [text])
    result: str = REVERSE.function(*args, **kwargs)
    return result


def clusters(text: str) -> list[str]:
    return regex.findall(r"\X", text)


# sum


def test_sum_is_async_and_reverse_is_not() -> None:
    assert SUM.is_async
    assert not REVERSE.is_async
    assert (SUM.name, SUM.example, REVERSE.name, REVERSE.example) == ("sum", [4, 2], "reverse", ["Hello Seemplicity"])
    assert SUM.description
    assert REVERSE.description


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ([4, 2], b"6"),
        ({"a": 4, "b": 2}, b"6"),
        ({"a": 1, "b": 2, "more": [3, 4]}, b"10"),
        ([1, 2, 3, 4], b"10"),
        ([0.1, 0.2], b"0.30000000000000004"),
        ([0.1] * 10, b"0.9999999999999999"),  # math.fsum, and the built-in sum of 3.12, say 1.0
        ([1, 2.5], b"3.5"),
        ([1.0, 2], b"3.0"),
        ([-0.0, -0.0], b"-0.0"),
        ([2**53, 1], b"9007199254740993"),
        ([2**63, 2**63], b"18446744073709551616"),
        ([2**53, 1, 0.0], b"9007199254740992.0"),
        ([10**999, -(10**999)], b"0"),
        ([int("9" * 1000), 1], b"1" + b"0" * 1000),
        ([1e308, -1e308], b"0.0"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_sum(params: Any, text: bytes) -> None:
    assert total(params) == text


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ([1e308, 1e308], "the sum is too large for a float"),
        ([-1e308, -1e308, 1e308], "the sum is too large for a float"),
        ([1.5, 10**400], "an integer too large for a float"),
        ([10**400, 1, 1.5], "an integer too large for a float"),
    ],
)
def test_a_sum_that_overflows_fails_for_good(params: Any, says: str) -> None:
    with pytest.raises(Fail, match=says) as caught:
        total(params)
    assert not caught.value.retry


@pytest.mark.parametrize(
    ("params", "pointers"),
    [
        ([], ["/0", "/1"]),
        ({}, ["/a", "/b"]),
        ([1], ["/1"]),
        ({"a": 1, "more": [2]}, ["/b"]),
        (["4", "2"], ["/0", "/1"]),
        ([True, False], ["/0", "/1"]),
        ([1, 2, [3]], ["/2"]),
        ([1, 2, 3, None, {}, "x"], ["/3", "/4", "/5"]),
        ([[4, 2]], ["/0", "/1"]),
        ({"a": 1, "b": 2, "more": [1, "x"]}, ["/more/1"]),
        (None, [""]),
        ("42", [""]),
    ],
)
def test_sum_takes_two_or_more_numbers_only(params: Any, pointers: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        SUM.check(params)
    assert [fault.pointer for fault in caught.value.faults] == pointers
    assert caught.value.kind.name == "invalid-params"


@pytest.mark.parametrize("name", ["__class__", "__proto__", "c"])
def test_sum_knows_no_other_names(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        SUM.check({"a": 1, "b": 2, name: 3})
    assert caught.value.kind.name == "unknown-field"


@given(st.lists(st.integers(), min_size=2))
def test_integers_are_added_exactly(numbers: list[int]) -> None:
    assert int(total(numbers)) == sum(map(Fraction, numbers))


@given(st.lists(st.integers() | st.floats(allow_nan=False, allow_infinity=False), min_size=2))
def test_numbers_are_added_from_left_to_right(numbers: list[float]) -> None:
    expected = numbers[0]
    try:
        for number in numbers[1:]:
            expected += number
    except OverflowError:
        expected = float("inf")
    if isinstance(expected, float) and isinf(expected):
        with pytest.raises(Fail):
            total(numbers)
    else:
        assert total(numbers) == repr(expected).encode() or float(total(numbers)) == expected


# reverse

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
FLAG_IL, FLAG_DE = "\U0001f1ee\U0001f1f1", "\U0001f1e9\U0001f1ea"
WAVE_DARK = "\U0001f44b\U0001f3ff"
KEYCAP = "1\ufe0f\u20e3"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello Seemplicity", "yticilpmeeS olleH"),
        ("", ""),
        ("a", "a"),
        (f"a{FAMILY}b", f"b{FAMILY}a"),
        (f"{FLAG_IL}{FLAG_DE}", f"{FLAG_DE}{FLAG_IL}"),
        (f"x{WAVE_DARK}{KEYCAP}{SCOTLAND}", f"{SCOTLAND}{KEYCAP}{WAVE_DARK}x"),
        ("cafe\u0301 au lait", "tial ua e\u0301fac"),
        ("n\u0303a\u0308\u0304", "a\u0308\u0304n\u0303"),
        ("one\r\ntwo", "owt\r\neno"),
        ("שלום", "םולש"),
        ("\ud55c\uae00", "\uae00\ud55c"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "\u1100\u1173\u11af\u1112\u1161\u11ab"),
        ("क्षि!", "!क्षि"),
        ("<script>\x1b[2J", "J2[\x1b>tpircs<"),
    ],
)  # fmt: skip
def test_reverse(text: str, expected: str) -> None:
    assert turned(text) == expected
    assert REVERSE.encode_result(turned(text)) == REVERSE.encode_result(expected)


@pytest.mark.parametrize("params", [[123], [1.5], [None], [True], [["a"]], [], ["a", "b"], {"text": 1}, None, "abc"])
def test_reverse_takes_one_text_only(params: Any) -> None:
    with pytest.raises(Invalid) as caught:
        REVERSE.check(params)
    assert caught.value.kind.name == "invalid-params"


_texts = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.sampled_from(
        "\r\n\u0301\u200d\ufe0f\U0001f1ee\U0001f1f1\U0001f469\U0001f466\U0001f3ff\u0915\u094d\u1100\u1161"
    )
)


@given(_texts)
@example(FAMILY + FLAG_IL + "\r\n")
def test_reverse_keeps_every_character_whole(text: str) -> None:
    assert turned(text) == "".join(clusters(text)[::-1])
    assert sorted(turned(text)) == sorted(text)


def test_flags_in_a_row_are_separated_next_to_anything() -> None:
    """Every text of up to six of these: a letter, a flag's letter, and what joins from before and from behind."""
    parts = ("a", "\U0001f1ee", "\u0301", "\u0600", "\u200d", "\U0001f469")
    for size in range(7):
        for chosen in product(parts, repeat=size):
            text = "".join(chosen)
            assert turned(text) == "".join(clusters(text)[::-1]), ascii(text)


@given(_texts)
def test_twice_reversed_is_the_same(text: str) -> None:
    # Neighbours may grow together when they change places ("\n\r", an accent that came first, an odd flag letter):
    # such a text has other characters once it is turned.
    assume(clusters(turned(text)) == clusters(text)[::-1])
    assert turned(turned(text)) == text
