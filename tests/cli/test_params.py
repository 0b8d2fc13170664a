"""Params on a command line: how each argument is read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from tasker.cli.params import Accepts, UsageError, read_accepts, read_params, read_value
from tasker.tasktypes.registry import Registry


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ([], []),
        (["4", "2"], [4, 2]),
        (["-4", "2.5", "1e3"], [-4, 2.5, 1000.0]),
        (["hello", "two words", ""], ["hello", "two words", ""]),
        (["true", "null", "[1, 2]", '{"a": 1}'], [True, None, [1, 2], {"a": 1}]),
        (['"4"', '"a=b"', '"@text"'], ["4", "a=b", "@text"]),
        (["NaN", "Infinity", "01", "'x'"], ["NaN", "Infinity", "01", "'x'"]),
        (["123456789012345678901234567890"], [123456789012345678901234567890]),
        (["[1,2]"], [[1, 2]]),
        (["@"], ["@"]),
        (["a=4", "b:=4"], {"a": "4", "b": 4}),
        (["text=x=y", "empty=", "list:=[1]"], {"text": "x=y", "empty": "", "list": [1]}),
        (["text=two\nlines"], {"text": "two\nlines"}),
        (["1=2", "a-b=c", "http://host/?a=b"], ["1=2", "a-b=c", "http://host/?a=b"]),
    ],
)
def test_words(words: list[str], params: Any) -> None:
    read = read_params(words)
    assert read == params
    assert repr(read) == repr(params)


OBJECT = {
    "$ref": "#/$defs/A",
    "$defs": {"A": {"properties": {"ok": {"type": "boolean"}, "by": {"type": "string"}, "more": {}}}},
}


@pytest.mark.parametrize(
    ("words", "schema", "value"),
    [
        (["true"], {}, True),
        (["true"], {"type": "string"}, "true"),
        (["true"], {"type": ["string", "boolean"]}, True),
        (["4"], {"enum": ["4", "5"]}, "4"),
        (["4"], {"enum": [4, 5]}, 4),
        (["yes"], {"type": "boolean"}, "yes"),
        (["[1,2]"], {"type": "array"}, [1, 2]),
        (["a=b"], {"type": "string"}, "a=b"),
        (["a=4"], {}, {"a": "4"}),
        (["ok=true", "by=7", "more=4"], OBJECT, {"ok": True, "by": "7", "more": "4"}),
        (["ok:=false", "by=ann"], {}, {"ok": False, "by": "ann"}),
        (['{"ok":true}'], OBJECT, {"ok": True}),
        (["null"], {}, None),
        ([""], {}, ""),
    ],
)
def test_the_words_of_one_value(words: list[str], schema: Any, value: Any) -> None:
    read = read_value(words, schema)
    assert (read, repr(read)) == (value, repr(value))


def test_one_value_is_one(tmp_path: Path) -> None:
    for words in (["a", "b"], ["ok=true", "b"]):
        with pytest.raises(UsageError, match="expected one value"):
            read_value(words, {})
    file = tmp_path / "answer"
    file.write_text('{"a": 1}')
    assert read_value([f"@{file}"], {}) == {"a": 1}
    assert read_value([f"@{file}"], {"type": "string"}) == '{"a": 1}'


def test_numbers_that_no_float_holds_are_sent_with_their_digits() -> None:
    words = ["12345678901234567.8900", "[0.1, 1e-400]", "0.30000000000000004"]
    assert msgspec.json.encode(read_params(words)) == b"[12345678901234567.8900,[0.1,1e-400],0.30000000000000004]"
    assert msgspec.json.encode(read_params(["a:=12345678901234567.89"])) == b'{"a":12345678901234567.89}'


def test_numbers_that_are_too_large_are_named() -> None:
    with pytest.raises(UsageError, match="1e400: the number is too large"):
        read_params(["[1e400]"])


@dataclass
class Place:
    city: str


def a_type(
    x: int, price: Decimal, on: bool, either: int | str, maybe: int | None, name: str | None, sizes: list[float],
    colour: Literal["red", "1"], level: Literal[1, 2], where: Place, free: Any, *more: str
) -> None:  # fmt: skip
    """Takes something of each kind."""


@pytest.fixture(scope="module")
def accepts() -> Accepts:
    """What `a_type` takes, as the service tells it."""
    made = Registry().add(a_type)
    return read_accepts({"input_schema": made.input_schema, "positional": made.positional, "rest": made.rest})


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("x=100", 100),
        ("x=-1.5", -1.5),
        ("x=ten", "ten"),
        ("x=", ""),
        ("price=12345678901234567.89", "12345678901234567.89"),
        ("on=true", True),
        ("on=yes", "yes"),
        ("either=100", "100"),
        ("maybe=null", None),
        ("maybe=7", 7),
        ("name=null", "null"),
        ("name=100", "100"),
        ("sizes=[1, 2.5]", [1, 2.5]),
        ("sizes=1", 1),
        ("colour=1", "1"),
        ("level=1", 1),
        ('where={"city": "Bern"}', {"city": "Bern"}),
        ("free=100", "100"),
        ("free:=100", 100),
        ('more=["1"]', ["1"]),
        ("unknown=100", "100"),
    ],
)
def test_a_named_text_is_what_the_type_takes(word: str, value: Any, accepts: Accepts) -> None:
    name = word.partition("=")[0].rstrip(":")
    read = read_params([word], lambda: accepts)
    assert read == {name: value}
    assert repr(read) == repr({name: value})


def test_a_word_stays_a_text_where_the_type_takes_nothing_else(accepts: Accepts) -> None:
    words = ["1", "2.50", "true", "3", "null", "4", "[5]", "1", "2", '{"city": "Bern"}', "6", "7", "null"]
    read = read_params(words, lambda: accepts)
    assert read == [1, 2.5, True, 3, None, "4", [5], "1", 2, {"city": "Bern"}, 6, "7", "null"]


def test_the_service_is_not_asked_for_a_type_where_it_does_not_matter() -> None:
    for words in ([], ["a", "b"], ["a:=1"], ["[1]"][:0]):
        read_params(words, pytest.fail)


@pytest.mark.parametrize(
    ("content", "params"),
    [
        ("[4, 2]", [4, 2]),
        ('{"text": "x"}', {"text": "x"}),
        ("plain text\n", ["plain text\n"]),
        ("42", [42]),
        ("[not json", ["[not json"]),
    ],
)
@pytest.mark.parametrize("source", ["file", "-", "@-"])
def test_one_file_or_standard_input(
    source: str, content: str, params: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "content"
    file.write_text(content)
    monkeypatch.setattr("sys.stdin", io.StringIO(content))
    assert read_params([f"@{file}" if source == "file" else source]) == params


def test_files_among_other_words(tmp_path: Path) -> None:
    file = tmp_path / "content"
    file.write_text("[1, 2]")
    assert read_params([f"@{file}", "x"]) == [[1, 2], "x"]
    assert read_params([f"text=@{file}", f"list:=@{file}"]) == {"text": "[1, 2]", "list": [1, 2]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["4", "a=b"], "by position or by name, not both"),
        (["a:=text"], "a: expected JSON after :=, got 'text'"),
        (["a:=NaN"], "NaN is not JSON"),
        (["@no-such-file"], "@no-such-file: No such file or directory; quote a text that begins with @"),
        (["@/"], "@/: Is a directory"),
        (["a=1", "a=2"], "a: given twice"),
        (["a=-", "@-"], "standard input: it can be the content of one param only"),
    ],
)
def test_what_cannot_be_understood(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_params(words)
    assert message in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "content"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="expected text in UTF-8"):
        read_params([f"@{file}"])
