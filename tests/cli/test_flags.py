"""The params of a type as flags: how words are sorted and read, and how faults are named. No service."""

from __future__ import annotations

from typing import Any

import pytest

from tasker.cli.flags import Flags, has_options, split, split_at_type
from tasker.cli.given import Given
from tasker.cli.params import UsageError
from tasker.cli.typehelp import describe_type
from tasker.errors import Fault
from tasker.tasktypes.registry import Registry
from tests.cli.typed_tasks import thumbnail

OPTIONS = {"--queue": True, "--tag": True, "--json": False, "-d": False, "--url": True, "--timeout": True}


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """The type `thumbnail`, as GET /type/{name} shows it."""
    made = Registry().add(thumbnail)
    return {
        "name": "thumbnail", "description": "Make a thumbnail of a picture.", "input_schema": made.input_schema,
        "positional": made.positional, "rest": made.rest, "example": {"url": "http://a/b c", "width": 3},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ("--url x --width 3", {"url": "x", "width": 3}),
        ("--url=x=y --width=-3", {"url": "x=y", "width": -3}),
        ("--url -3 --width -3", {"url": "-3", "width": -3}),
        ("--url 4 --width x", {"url": "4", "width": "x"}),
        ('--url "@me" --tags "-"', {"url": "@me", "tags": ["-"]}),
        ('--url "4" --tags "@a"b', {"url": '"4"', "tags": ['"@a"b']}),
        ("--crop", {"crop": True}),
        ("--no-crop", {"crop": False}),
        ("--crop=false", {"crop": False}),
        ("--tags a", {"tags": ["a"]}),
        ("--tags a --tags 4", {"tags": ["a", "4"]}),
        ('--tags ["a","b"]', {"tags": ["a", "b"]}),
        ("--tags null", {"tags": None}),
        ("--sizes 1 --sizes 2", {"sizes": [1, 2]}),
        ("--sizes x", {"sizes": ["x"]}),
        ('--person {"name":"A"}', {"person": {"name": "A"}}),
        ("--person.name A --person.age 3", {"person": {"name": "A", "age": 3}}),
        ("--labels.x 3 --labels.y-z 4", {"labels": {"x": 3, "y-z": 4}}),
        ("--timeout 5 --token=--x", {"timeout": 5, "token": "--x"}),
    ],
)
def test_flags_are_read_as_the_type_says(words: str, params: dict[str, Any], shown: dict[str, Any]) -> None:
    found = split(words.split(), Flags(shown), OPTIONS)
    assert (found.params, found.own, found.words) == (params, [], [])
    assert repr(found.params) == repr(params)


def test_other_words_stay_and_a_param_goes_before_an_option(shown: dict[str, Any]) -> None:
    words = [
        "a",
        "--queue",
        "q",
        "-4",
        "--url",
        "x",
        "--tag=t",
        "--width",
        "3",
        "-d",
        "b=1",
        "--json",
    ]
    found = split([*words, "--", "--url", "-x"], Flags(shown), OPTIONS)
    assert found.params == {"url": "x", "width": 3}
    assert found.own == ["--queue", "q", "--tag=t", "-d", "--json"]
    assert found.words == ["a", "-4", "b=1", "--url", "-x"]
    unknown = split(["--url", "x", "a"], None, OPTIONS)
    assert (unknown.params, unknown.own, unknown.words) == ({}, ["--url", "x"], ["a"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--widht 3",
            "--widht: no param of the type and no option of the command has this name. Did you mean --width?",
        ),
        ("--width", "--width: expected a value"),
        (
            "--width --url x",
            "--width: expected a value, got --url; a text that begins with -- is given as --width=TEXT",
        ),
        ("--width 3 --width 4", "--width: given twice"),
        ("--no-crop=true", "--no-crop: it takes no value"),
        ("--person.size 3", "--person.size: no param"),
        ("--person {} --person.name A", "--person.name: --person is given as a whole, too"),
        ("--person.name A --person {}", "--person.name: --person is given as a whole, too"),
        ("-x", "After -- every word is a param"),
        ("--url - --person @-", "standard input: it can be the content of one param only"),
        ("--url - width=-", "standard input: it can be the content of one param only"),
        ("--url @no-such-file", "--url: @no-such-file: No such file"),
    ],
)
def test_what_is_wrong_is_named(words: str, message: str, shown: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        split(words.split(), Flags(shown), OPTIONS)
    assert message in str(caught.value)


def test_the_type_is_the_first_word_that_is_no_option() -> None:
    words = ["--queue", "q", "--json", "--url=u", "thumbnail", "--url", "x"]
    assert split_at_type(words, OPTIONS) == (words[:4], words[4:])
    assert [has_options(words) for words in ([], ["-4"], ["--", "--x"], ["a", "-d"], ["--x=1"])] == [
        False, False, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pointer", "detail", "said"),
    [
        ("/params/width", "expected integer, got string", '--width: expected integer, got "3x"'),
        ("/params/person/age", "expected integer, got string", '--person.age: expected integer, got "y"'),
        ("/params/sizes/0", "expected integer, got string", "--sizes/0: expected integer, got string"),
        ("/params/token", "expected TEXT, got string", "--token: expected TEXT, got string"),
        ("/params/url", "`url` is missing", "--url: `url` is missing"),
        ("/params/person/name", "`name` is missing", "--person.name: `name` is missing"),
        ("/params/labels", "expected object, got string", "/params/labels: expected object, got string"),
        ("/params/0", "expected string, got integer", "/params/0: expected string, got integer"),
        ("/params/0", "`url` is missing", "--url: `url` is missing"),
        ("/type", "there is no task type 'x'", "TYPE: there is no task type 'x'"),
        ("/run_at", "is past", "--run-at: is past"),
        ("/timeout", "too long", "--attempt-timeout: too long"),
        ("/tags/1", "too long", "--tag/1: too long"),
        ("", "expected an object", "params: expected an object"),
    ],
)
def test_a_fault_has_the_name_of_its_flag(pointer: str, detail: str, said: str, shown: dict[str, Any]) -> None:
    words = ["--width", "3x", "--person.age", "y", "--sizes", "x", "--token", "secret"]
    assert Given(shown, split(words, Flags(shown), OPTIONS)).describe(Fault(pointer, detail)) == said


def test_the_help_of_a_type(shown: dict[str, Any]) -> None:
    text = describe_type(shown, 80)
    assert text.startswith(
        "Usage: tasker run [OPTIONS] thumbnail [PARAMS] [OPTIONS]\n\nMake a thumbnail of a picture.\n"
    )
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if line.startswith("  --")}
    assert rows == {
        "--url": "TEXT [required]",
        "--width": "INTEGER In pixels. [default: 200]",
        "--[no-]crop": "[default: false]",
        "--tags": "TEXT ... May be repeated.",
        "--sizes": "INTEGER ... May be repeated.",
        "--size": "large|small [default: small]",
        "--person": "JSON Somebody. Also --person.name, --person.age.",
        "--labels": "JSON",
        "--timeout": "NUMBER [default: 1.5]",
        "--token": "TEXT",
    }
    assert text.endswith("\n\nExample: tasker run thumbnail --url 'http://a/b c'")
