"""How rows of a file become submissions."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tasker.cli.batch import items
from tasker.cli.batch.items import Format, find_format, read_items
from tasker.cli.batch.rows import Row, Shape, read_rows
from tasker.cli.params import Accepts, UsageError
from tasker.validation.encoding import encode_strict

ACCEPTS = Accepts(
    {
        "prompt": frozenset({"string"}),
        "max_tokens": frozenset({"integer", "null"}),
        "stream": frozenset({"boolean"}),
        "schema": frozenset({"object", "null"}),
    }
)


def read(text: str | bytes, format: Format, **shape: Any) -> list[Row]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_rows(io.BytesIO(data), format, Shape(**shape)))


def plain(row: Row) -> Any:
    """The submission as it is sent; the fault of a row that is none."""
    return row.fault if row.submission is None else json.loads(encode_strict(row.submission))


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("a.jsonl", None, "jsonl"),
        ("a.ndjson", None, "jsonl"),
        ("A.CSV", None, "csv"),
        ("a.tsv", None, "tsv"),
        ("a.json", None, "json"),
        ("@-", None, "jsonl"),
        ("a.txt", None, "jsonl"),
        ("a.json", "jsonl", "jsonl"),
    ],
)
def test_the_end_of_the_name_is_the_format(name: str, given: Format | None, expected: str) -> None:
    assert find_format(name, given) == expected


def test_lines_are_whole_submissions_or_params_of_a_type() -> None:
    rows = read(
        '\ufeff{"type":"sum","params":[1,2],"queue":"own"}\n\n {"type":"sum"}\r\n', "jsonl", options={"queue": "q"}
    )
    assert [row.line for row in rows] == [1, 3]
    assert plain(rows[0]) == {"queue": "own", "type": "sum", "params": [1, 2]}
    assert plain(rows[1]) == {"queue": "q", "type": "sum"}
    rows = read('[1,2]\n{"a":1}', "jsonl", type="sum", options={"priority": 3})
    assert [plain(row)["params"] for row in rows] == [[1, 2], {"a": 1}]
    assert plain(rows[0]) == {"priority": 3, "type": "sum", "params": [1, 2]}


def test_numbers_keep_their_digits() -> None:
    (row,) = read('{"value": 1.234567890123456789012345}', "jsonl", type="echo")
    assert b"1.234567890123456789012345" in encode_strict(row.submission)


def test_members_are_chosen_by_the_map() -> None:
    rows = read(
        '{"text":"a","id":1}\n{"id":2}\n[1]', "jsonl", type="gpt", columns={"prompt": "text"}, params={"stream": False}
    )
    assert [plain(row) for row in rows[:2]] == [
        {"type": "gpt", "params": {"stream": False, "prompt": "a"}},
        {"type": "gpt", "params": {"stream": False}},
    ]
    assert (rows[2].line, rows[2].submission) == (3, None)


@pytest.mark.parametrize(
    ("text", "type", "said"),
    [
        ("{", None, "expected an object: a submission, in JSON"),
        ("5", None, "Expected `object`, got `int`"),
        ("5", "sum", "expected the params: an object or array, in JSON"),
        ("[1", "sum", "expected the params: an object or array, in JSON"),
        ("[1,2]", None, "for rows of params give --type"),
        ('{"a": NaN}', "sum", "in JSON"),
        ("[" * 600 + "]" * 600, "sum", "more than 64 levels"),
        (b'["\xff"]', "sum", ""),
        ('{"type": "sum", "params": [1], "params": [2]}', None, "'params'"),
        ('{"a": 1, "a": 2}', "sum", "'a'"),
        ('{"a": 1e999, "a": 2}', "sum", "the number 1e999 is too large"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_alone(text: str | bytes, type: str | None, said: str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    rows = read(data + b'\n{"type":"sum"}\n', "jsonl", type=type)
    assert [row.line for row in rows] == [1, 2]
    assert rows[0].submission is None
    assert rows[0].fault
    assert said in rows[0].fault
    assert rows[1].submission is not None


def test_cells_are_read_as_the_type_says() -> None:
    rows = read(
        "prompt,max_tokens,stream,schema,note\n"
        '"two\nlines, ""quoted""",5,True,"{""a"": 1}",x\n'
        "\n"
        "12,,false,,y\n"
        "a,many,,,z\n"
        "a,1\n",
        "csv",
        type="gpt",
        accepts=ACCEPTS,
    )
    assert [row.line for row in rows] == [2, 5, 6, 7]
    assert plain(rows[0])["params"] == {
        "prompt": 'two\nlines, "quoted"', "max_tokens": 5, "stream": True, "schema": {"a": 1},
    }  # fmt: skip
    assert plain(rows[1])["params"] == {"prompt": "12", "stream": False}
    assert plain(rows[2]) == "max_tokens: expected integer or null, in JSON, got 'many'"
    assert plain(rows[3]) == "expected 5 columns, got 2"


def test_columns_are_mapped() -> None:
    rows = read(
        "id\ttext\n1\thello\n", "tsv", type="gpt", columns={"prompt": "text"}, accepts=ACCEPTS, params={"stream": True}
    )
    assert plain(rows[0]) == {"type": "gpt", "params": {"stream": True, "prompt": "hello"}}


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ("id,text\n1,a", {"prompt": "txt"}, "expected one column 'txt', got the columns id, text"),
        ("text,text\n1,a", {"prompt": "text"}, "expected one column 'text'"),
        ("id,text\n1,a", {}, "expected a column for a param"),
        ('prompt\n"a', {}, "line 2: expected CSV"),
        (b"prompt\n\xff", {}, "expected text in UTF-8"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(text: str | bytes, columns: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(text, "csv", type="gpt", columns=columns, accepts=ACCEPTS)


def test_without_knowledge_of_the_type_every_column_is_a_param() -> None:
    (row,) = read("a,b\n1,x\n", "csv", type="secret")
    assert plain(row)["params"] == {"a": "1", "b": "x"}


def test_an_array_is_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [{"type": "sum", "params": [1, 2.50]}, {"type": "ä€😀", "params": {"a": [[], "]"]}}]
    text = json.dumps(values, ensure_ascii=False, indent=1)
    for size in (1, 2, 3, 7, 1000):
        monkeypatch.setattr("tasker.cli.batch.items._PIECE", size)
        rows = read(text, "json")
        assert [row.line for row in rows] == [1, 2]
        assert [plain(row) for row in rows] == values
    assert read(" [ ] ", "json") == []


def test_numbers_at_the_end_of_a_piece_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasker.cli.batch.items._PIECE", 1)
    assert [item.content for item in read_items(io.BytesIO(b"[12, 3.5e2 ,-4]"), "json")] == [b"12", b"3.5e2", b"-4"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a JSON array; .*, but the file has ended"),
        ('{"a": 1}', "expected a JSON array"),
        ("[1 2]", r"expected , or \] after element 1, got '2'"),
        ("[1,", "expected JSON as element 2"),
        ("[1,]", "expected JSON as element 2"),
        ('["a', "expected JSON as element 1: Unterminated string"),
        ("[1] 2", "expected nothing after the array"),
        (b'["\xff"]', "expected text in UTF-8"),
    ],
)
def test_a_wrong_array_is_refused(text: str | bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(text, "json")


def test_no_number_is_too_long_for_the_end_of_an_element() -> None:
    digits = "1" * 5000
    rows = read(f'[{{"a": {digits}}}, [1]]', "json", type="sum")
    assert [row.line for row in rows] == [1, 2]
    assert "an integer has 5,000 digits" in rows[0].fault
    assert plain(rows[1])["params"] == [1]


@pytest.mark.parametrize("end", ["\n[3]\n", "\n[3]"])
def test_a_line_that_no_service_takes_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(items, "_LONGEST_VALUE", 8)
    monkeypatch.setattr(items, "_PIECE", 3)
    rows = read("[1]\n       \n       1\n        1\n[" + "1" * 100 + "]\n[23456]" + end, "jsonl", type="sum")
    assert [(row.line, row.submission is None) for row in rows] == [
        (1, False),
        (3, True),
        (4, True),
        (5, True),
        (6, False),
        (7, False),
    ]
    assert "longer than a service takes" in rows[3].fault
