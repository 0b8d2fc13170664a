"""What is taken as JSON, and what is not: every limit from both sides."""

from __future__ import annotations

import json
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import Fault, Invalid, RequestError
from tasker.validation.jsontext import MAX_DEPTH, MAX_DIGITS, MAX_ITEMS, escape, read_json


def status_of(body: bytes) -> int | None:
    try:
        read_json(body)
    except RequestError as error:
        return error.kind.status
    return 200


def refused(body: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        read_json(body)
    return caught.value.kind.name


@pytest.mark.parametrize(
    "body",
    [
        b"", b"   ", b"{", b"[1,]", b"{} x", b"01", b"NaN", b"[Infinity]", b"-Infinity", b"'a'", b"{a:1}", b"[1 2]",
        b'"\xff"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", '{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-16-le"),
        b'"a', b'"a\nb"', b"nul", b"[", b"]", b'{"a"}', b'"\\x41"', b"\0",
    ],
)  # fmt: skip
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    assert refused(body) == "malformed-json"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"9223372036854775808", 2**63),
        (b"-0", 0),
        (b"1e2", 100.0),
        (b"1.10", 1.1),
        (b" [1, {}] \r\n", [1, {}]),
        (b"1e308", 1e308),
        (b"1e-999", 0.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'"\\\\ud800"', "\\ud800"),
        ('"\U0001f600"'.encode(), "\U0001f600"),
        (b'{"a":{"a":1},"b":[{"a":2}]}', {"a": {"a": 1}, "b": [{"a": 2}]}),
    ],
)
def test_json_is_read(body: bytes, value: Any) -> None:
    assert read_json(body) == value


def test_depth() -> None:
    assert MAX_DEPTH == 64
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert refused(b"[" * 65 + b"]" * 65) == "too-deep"
    assert refused(b'{"a":' * 65 + b"1" + b"}" * 65) == "too-deep"
    assert refused(b"[" * 100_000) == "too-deep"
    assert read_json(b"[" + b"[]," * 200 + b"[]]"), "many side by side are not deep"
    assert read_json(b'["' + b"[" * 200 + b'"]'), "brackets in a string are no levels"
    assert read_json(b'["\\"' + b"[" * 200 + b'"]'), "nor behind an escaped quote"


def test_items() -> None:
    assert MAX_ITEMS == 100_000
    assert len(read_json(b"[" + b"1," * (MAX_ITEMS - 1) + b"1]")) == MAX_ITEMS
    assert refused(b"[" + b"1," * MAX_ITEMS + b"1]") == "too-many-items"
    assert refused(b"[" + b"[1]," * (MAX_ITEMS // 2) + b"[1]]") == "too-many-items"
    assert read_json(b"[" + b"[]," * (MAX_ITEMS - 1) + b"[]]"), "an empty array holds no item"
    assert refused(b"{" + b",".join(b'"%d":1' % n for n in range(MAX_ITEMS + 1)) + b"}") == "too-many-items"
    assert read_json(b'"' + b"," * (MAX_ITEMS + 1) + b'"')


def test_digits() -> None:
    assert MAX_DIGITS == 1000
    assert read_json(b"[-" + b"9" * MAX_DIGITS + b"]") == [-(10**MAX_DIGITS - 1)]
    assert refused(b"9" * (MAX_DIGITS + 1)) == "number-out-of-range"
    assert refused(b"[" + b"9" * 4301 + b"]") == "number-out-of-range"
    assert read_json(b'"' + b"9" * 2000 + b'"')


@pytest.mark.parametrize("body", [b"1e400", b"[-1e400]", b"9" * 400 + b".0"])
def test_floats_that_overflow(body: bytes) -> None:
    assert refused(body) == "number-out-of-range"


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'[{"b":{"a":1,"\\u0061":2}}]'])
def test_a_key_twice(body: bytes) -> None:
    assert refused(body) == "duplicate-key"


@pytest.mark.parametrize("text", ["\\ud800", "\\udc00\\ud800", "\\u0000", "a\\uD83Db"])
def test_strings_that_are_no_text(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_json(b'{"a/b":["x","%b"]}' % text.encode())
    assert caught.value.kind.name == "invalid-unicode"
    assert caught.value.faults == (Fault("/a~1b/1", "holds a lone surrogate or a NUL character"),)
    assert refused(b'{"%b":1}' % text.encode()) == "invalid-unicode"


def test_pointers_escape_what_they_must() -> None:
    assert escape("a/b~c") == "a~1b~0c"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab/~\\\"[{,"), inner),
    max_leaves=40,
)  # fmt: skip


@given(values, st.booleans())
def test_whatever_json_writes_is_read_back(value: Any, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200) | st.text('[]{}",:\\u0d819 eE-.tn', max_size=200).map(str.encode))
def test_anything_else_is_refused_and_never_breaks(body: bytes) -> None:
    assert status_of(body) in (200, 400, 422)


def test_a_long_key_is_shown_once_and_cut_off() -> None:
    """Its faults together would be larger than memory: as many as strings, each with the key in it."""
    body = b'{"%b":[%b]}' % (b"k" * 100_000, b",".join([rb'"\u0000"'] * 3_000))
    with pytest.raises(Invalid) as caught:
        read_json(body)
    assert len(caught.value.faults) == 100
    assert all(len(fault.pointer) < 300 for fault in caught.value.faults)
    assert caught.value.faults[1].pointer == f"/{'k' * 200}.../1"


def test_a_long_key_costs_its_length_once() -> None:
    def cost(key: int) -> float:
        body = b'{"%b":[%b]}' % (b"k" * key, rb'"\ud83d\ude00"' + b",1" * 20_000)
        begun = process_time()
        read_json(body)
        return process_time() - begun

    assert min(cost(400_000) for _ in range(5)) < 5 * min(cost(4_000) for _ in range(5))
