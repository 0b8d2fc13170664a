"""`gpt` with a JSON Schema: checked at submission, sent to the model, and enforced on its text."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from tests.gpt.conftest import Ask
from tests.gpt.fault_server import (
    Exchange,
    chats,
    completed,
    delta,
    fault_server,
    incomplete,
    refuses,
    says,
    streams,
)
from tests.gpt.recorder import Recorder

from tasker.builtin.gpt import shape as gpt_shape
from tasker.builtin.gpt.shape import make_shape
from tasker.builtin.gpt.task import Gpt, make_gpt
from tasker.config.settings import GptSettings
from tasker.errors import Fail, Invalid
from tasker.tasktypes.registry import Registry
from tasker.validation.schemas import check_schema

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
OPEN: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}}
NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
TREE: dict[str, Any] = {
    "$ref": "#/$defs/node",
    "$defs": {"node": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                       "required": ["kids"], "additionalProperties": False}},
}  # fmt: skip
UNBOUND: list[dict[str, Any]] = [{}, {"type": ["object", "null"]}]
LIST_OF_LISTS: dict[str, Any] = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}


async def asked(ask: Ask, schema: Any, text: str) -> tuple[Any, Exchange]:
    async with fault_server(says(text)) as server:
        result = await ask(server, schema=schema)
    return result, server.exchanges[0]


async def test_the_result_is_the_value(ask: Ask, recorder: Recorder) -> None:
    result, exchange = await asked(ask, PERSON, '{"name": "Lena", "age": 31}')
    assert result == {"name": "Lena", "age": 31}
    assert recorder.chunks == ['{"name": "Lena", "age": 31}']
    assert exchange.body["text"] == {
        "format": {"type": "json_schema", "name": "result", "schema": PERSON, "strict": True}
    }
    assert "max_output_tokens" not in exchange.body


async def test_chat_completions_get_the_schema(ask: Ask) -> None:
    async with fault_server(refuses(404), chats('{"name": "Lena",', ' "age": 31}')) as server:
        assert await ask(server, schema=PERSON, max_tokens=99) == {"name": "Lena", "age": 31}
    body = server.exchanges[1].body
    assert body["response_format"] == {
        "type": "json_schema", "json_schema": {"name": "result", "schema": PERSON, "strict": True},
    }  # fmt: skip
    assert body["max_tokens"] == 99


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (NUMBERS, '{"value": [1, 2]}', [1, 2]),
        ({"enum": ["a", "b"]}, '{"value": "a"}', "a"),
        (TREE, '{"value": {"kids": [{"kids": []}]}}', {"kids": [{"kids": []}]}),
        (LIST_OF_LISTS, '{"value": [[], null, [[]]]}', [[], None, [[]]]),
        ({}, '{"value": 5}', 5),
        ({"type": ["object", "null"]}, '{"value": null}', None),
        ({"type": "array", "items": {"$ref": "#/definitions/n"}, "definitions": {"n": {"type": "integer"}}},
         '{"value": [1]}', [1]),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/b"}, "type": "array"}, "b": {"const": 1}}},
         '{"value": [1]}', [1]),
    ],
)  # fmt: skip
async def test_other_values_are_wrapped_in_an_object(ask: Ask, schema: Any, text: str, value: Any) -> None:
    result, exchange = await asked(ask, schema, text)
    assert result == value
    told = exchange.body["text"]["format"]["schema"]
    assert (told["type"], told["required"], list(told["properties"])) == ("object", ["value"], ["value"])
    assert check_schema(told) == ()
    for one, holds in ((json.loads(text), True), ({"value": {"kids": 3}}, schema in UNBOUND), ([], False)):
        assert is_fit(told, one) == holds


def is_fit(schema: Any, value: Any) -> bool:
    try:
        gpt_shape.Shape(schema, schema, True, False).read(json.dumps(value))
    except Fail:
        return False
    return True


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (PERSON, True),
        (NUMBERS, True),
        (TREE, True),
        (LIST_OF_LISTS, True),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", **PERSON}, True),
        (OPEN, False),  # what else is there, nobody knows
        ({**PERSON, "required": ["name"]}, False),  # strict would have the model make up an age
        ({**PERSON, "minProperties": 1}, False),
        ({**PERSON, "properties": {**PERSON["properties"], "age": {}}}, False),
        ({"allOf": [PERSON]}, False),
        ({"type": "string", "format": "iri"}, False),
        ({"type": "array"}, False),
        ({"type": ["object", "null"]}, False),
        ({"properties": {"a": {"type": "string"}}, "type": "string"}, False),
        ({**PERSON, "additionalProperties": True}, False),
        ({word: value for word, value in PERSON.items() if word != "additionalProperties"}, False),
        ({**PERSON, "required": [*PERSON["required"], "more"]}, False),
        ({"type": "array", "items": OPEN}, False),
        ({"anyOf": [{"type": "null"}, OPEN]}, False),
        ({"$ref": "#/$defs/a", "$defs": {"a": OPEN}}, False),
        ({"$ref": "#/definitions/a", "definitions": {"a": OPEN}}, False),
        (nested(9), True),
        (nested(10), False),
    ],
)
def test_strict_mode_is_used_if_it_keeps_the_meaning(schema: Any, strict: bool) -> None:
    shape = make_shape(schema, objects_only=True)
    assert shape.strict == strict
    assert "$schema" not in shape.asked


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "Lena"}', "'age' is a required property"),
        ('{"name": "Lena", "age": -1}', "-1 is less than the minimum of 0 at /age"),
        ('{"name": "Lena", "age": 1, "x": 1}', "'x' was unexpected"),
        ("I am a person", "it is not JSON"),
        ('{"name": "Lena"', "it is not JSON"),
        ("[]", "[] is not of type 'object'"),
        ("[" * 100_000, "it is not JSON"),
    ],
)
async def test_a_text_that_does_not_fit_is_retried(ask: Ask, recorder: Recorder, text: str, words: str) -> None:
    with pytest.raises(Fail, match="the model's text does not fit the schema") as caught:
        await asked(ask, PERSON, text)
    assert (caught.value.problem, caught.value.retry) == ("gpt-schema-mismatch", True)
    assert words in caught.value.detail
    assert recorder.used["output_tokens"] == 3, "it was paid for"


@pytest.mark.parametrize("text", ["[1, 2]", '"value"', "{}", '{"value": [1], "more": 2}'])
async def test_a_wrapped_text_must_be_the_wrapper(ask: Ask, text: str) -> None:
    with pytest.raises(Fail, match="an object that holds `value` alone"):
        await asked(ask, NUMBERS, text)


@pytest.mark.parametrize(
    ("schema", "value", "fits"),
    [
        ({"pattern": "b"}, "abc", True),
        ({"pattern": "^b"}, "abc", False),
        ({"pattern": "b"}, 5, True),  # it is about strings
        ({"patternProperties": {"^x": {"type": "null"}}}, {"x": 1}, False),
    ],
)
def test_patterns_are_searched_for_in_strings(schema: Any, value: Any, fits: bool) -> None:
    assert is_fit(schema, value) == fits


def test_a_mismatch_quotes_a_shortened_value() -> None:
    with pytest.raises(Fail) as caught:
        make_shape({"enum": ["y" * 5000]}, objects_only=False).read(json.dumps("x" * 5000))
    assert len(caught.value.detail) < 300
    [fault] = check_schema({"type": "x" * 5000})
    assert len(fault.detail) < 300


async def test_truncated_json_is_a_failure(ask: Ask) -> None:
    async with fault_server(streams(delta('{"name"'), incomplete("max_output_tokens"))) as server:
        with pytest.raises(Fail, match="max_tokens before its JSON was whole") as caught:
            await ask(server, schema=PERSON, max_tokens=9)
    assert (caught.value.problem, caught.value.retry) == ("gpt-truncated", False)


@pytest.mark.parametrize(
    ("pieces", "name"),
    [
        (["\ud83d", "\ude00"], "😀"),
        (["\ud83d", "x"], "\ufffdx"),
        (["\\ud83d\\ude00"], "😀"),
        (["\\ud83", "d\\ude00"], "😀"),
        (["\\ud83d"], "\ufffd"),
        (["\\uDE00\\uD83Dx"], "\ufffd\ufffdx"),
        (["\\ud83d\\ud83d\\ude00"], "\ufffd😀"),
        (["\\\\ud83d"], "\\ud83d"),
        (["\\\\\\ud83d\\n"], "\\\ufffd\n"),
        (["\\u00e9\\u20ac"], "é€"),
    ],
)
async def test_lone_surrogates_do_not_lose_the_value(ask: Ask, pieces: list[str], name: str) -> None:
    async with fault_server(says('{"name": "', *pieces, '"}')) as server:
        assert await ask(server, schema=OPEN) == {"name": name}


async def test_a_refusal_is_not_checked_against_the_schema(ask: Ask) -> None:
    refusal = {"type": "response.refusal.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "No."}
    async with fault_server(streams(refusal, completed())) as server:
        with pytest.raises(Fail, match=r"declined: No\.") as caught:
            await ask(server, schema=PERSON)
    assert caught.value.problem == "gpt-refused"


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"type": "objekt"}, "/type", "is not valid"),
        ({"properties": {"a/b": {"type": 3}}}, "/properties/a~1b/type", "3"),
        ({"required": "name"}, "/required", "not of type 'array'"),
        ({"minLength": -1}, "/minLength", "minimum"),
        ({"items": [{"type": "string"}]}, "/items", "not of type"),
        ({"$ref": "https://example.com/schema.json"}, "/$ref", "within this one"),
        ({"$ref": "file:///etc/passwd"}, "/$ref", "within this one"),
        ({"$ref": "#/$defs/no"}, "/$ref", "within this one"),
        ({"enum": [{"type": 5}], "$ref": "#/enum/0"}, "/$ref", "within this one"),
        ({"$ref": "x/$defs/a", "$defs": {"a": {}}}, "/$ref", "within this one"),
        ({"$ref": "#"}, "/$ref", "without end"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}}, "/$defs/a/$ref", "without end"),
        ({"$id": "https://example.com/"}, "/$id", "not supported"),
        ({"$defs": {"a": {"$anchor": "a"}}}, "/$defs/a/$anchor", "not supported"),
        ({"$defs": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}}, "/$defs/a/$schema", "at the top"),
        ({"patternProperties": {"^x": {}}}, "/patternProperties", "not supported"),
        ({"$dynamicRef": "#a"}, "/$dynamicRef", "not supported"),
        ({"$dynamicAnchor": "a"}, "/$dynamicAnchor", "not supported"),
        ({"pattern": "("}, "/pattern", "not a regular expression"),
        ({"description": "x" * 32_751}, "", "at most 32,768 bytes"),
    ],
)
def test_a_wrong_schema_is_refused(schema: Any, pointer: str, words: str) -> None:
    task_type = Registry().add(make_gpt(GptSettings()))
    for params, start in (({"prompt": "Hi", "schema": schema}, "/schema"), (["Hi", *[None] * 5, schema], "/6")):
        with pytest.raises(Invalid) as caught:
            task_type.check(params)
        assert caught.value.kind.name == "invalid-params"
        assert [fault.pointer for fault in caught.value.faults] == [start + pointer]
        assert words in caught.value.faults[0].detail


@pytest.mark.parametrize(
    "place",
    [
        "properties/a", "$defs/a", "definitions/a", "dependentSchemas/a", "allOf/0", "anyOf/0", "oneOf/0",
        "prefixItems/0", "items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames",
        "unevaluatedItems", "unevaluatedProperties",
    ],
)  # fmt: skip
def test_faults_are_found_everywhere_in_a_schema(place: str) -> None:
    word, _, name = place.partition("/")
    inner: Any = {"$ref": "https://example.com/"}
    faults = check_schema({word: {"": inner, "0": [inner], "a": {"a": inner}}[name]})
    assert [fault.pointer for fault in faults] == [f"/{place}/$ref"]


@pytest.mark.parametrize(
    "schema",
    [
        PERSON, OPEN, NUMBERS, TREE, LIST_OF_LISTS, {}, {"properties": {"$ref": {"type": "string"}}},
        {"enum": [{"$ref": "nowhere"}], "default": {"$id": 5}}, {"$ref": "#/$defs/a%20b", "$defs": {"a b": {}}},
        {"properties": {"pattern": {"type": "string"}}, "pattern": r"^\p{L}+$"}, {"description": "x" * 32_750},
    ],
)  # fmt: skip
def test_a_valid_schema_is_accepted(schema: Any) -> None:
    assert check_schema(schema) == ()


DEEP: dict[str, Any] = {}
for _ in range(40):
    DEEP = {"not": DEEP}


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"pattern": "()" * 15_900}, "/pattern", "at most 1,000 characters, got 31,800"),
        ({"pattern": "(" * 5_000 + ")" * 5_000}, "/pattern", "at most 1,000 characters"),
        ({"pattern": r"(\pL{500}){2}"}, "/pattern", "too large"),
        ({"pattern": "(?=a)b"}, "/pattern", "is not a regular expression of the supported kind"),
        ({"pattern": r"(a)\1"}, "/pattern", "is not a regular expression of the supported kind"),
        ({"allOf": [{"pattern": "a"}] * 101}, "", "and 100 patterns"),
        ({"allOf": [{}] * 10_000}, "", "at most 5,000 values"),
        ({"allOf": [{}] * 1_000}, "", "at most 1,000 schemas"),
        ({"$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(1_000)}}, "", "at most 1,000 schemas"),
        ({"enum": [[[0] * 50] * 50] * 2}, "", "at most 5,000 values"),
        ({"enum": [1] * 5_000}, "", "at most 5,000 values"),
        ({"not": DEEP}, "", "at most 40 levels"),
    ],
)  # fmt: skip
def test_a_schema_is_bounded(schema: Any, pointer: str, words: str) -> None:
    [fault] = check_schema(schema)
    assert fault.pointer == pointer
    assert words in fault.detail


@pytest.mark.parametrize(
    "schema",
    [
        DEEP, {"allOf": [{}] * 999}, {"enum": list(range(4_990))}, {"pattern": "()" * 500},
        {"allOf": [{"pattern": f"a{n}"} for n in range(100)]}, {"pattern": "(" * 450 + ")" * 450},
    ],
)  # fmt: skip
def test_a_large_schema_is_accepted(schema: Any) -> None:
    assert check_schema(schema) == ()


@pytest.mark.parametrize("length", [1, 2, 900])
@pytest.mark.parametrize(("last", "words"), [({}, ""), ({"$ref": "#/$defs/a0"}, "end"), ({"$ref": "#/x"}, "within")])
def test_references_are_followed_to_their_end(length: int, last: Any, words: str) -> None:
    """Each reference of a chain reports the fault at its end."""
    defs = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(length)}
    faults = check_schema({"$defs": {**defs, f"a{length}": last}})
    assert len(faults) == (min(length + 1, 20) if words else 0)
    assert all(words in fault.detail for fault in faults)


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        (r"^\u00e9$", "é", True),
        (r"^\\u00e9$", r"\u00e9", True),
        (r"\cJ", "\n", True),
        (r"^a$", "a\n", False),  # as in ECMA-262
        (r"^\d+$", "٣", False),
        (r"^.$", "😀", True),
        (r"^\p{L}+$", "Ελλάς", True),
        (r"(?<year>[0-9]{4})-\/", "2026-/", True),
        ("^(a|aa)+$", "a" * 100_000 + "!", False),
        ("(x+x+)+y", "x" * 100_000, False),
    ],
)
def test_patterns_of_json_schema_take_linear_time(pattern: str, text: str, fits: bool) -> None:
    assert check_schema({"pattern": pattern}) == ()
    assert is_fit({"pattern": pattern}, text) == fits


def test_faults_are_reported_once_and_bounded() -> None:
    faults = check_schema({"properties": {f"p{number}": {"type": number} for number in range(50)}})
    assert len(faults) == len(set(faults)) == 20


def doubling(depth: int) -> dict[str, Any]:
    """A schema whose check takes 2 ** depth steps."""
    defs: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{depth}": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "text", "why"),
    [
        (doubling(40), '"x"', "the check takes too long"),
        ({"allOf": [{"$ref": "#"}]}, '"x"', "it refers to itself without end"),
        ({"pattern": "(?=a)"}, '"a"', "a pattern is no longer supported"),
        ({"multipleOf": 0.5}, "1" + "0" * 400, "a number is too large"),
    ],
    ids=["doubling", "endless", "pattern", "overflow"],
)
def test_no_schema_blocks_the_service(schema: Any, text: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt_shape, "MAX_SECONDS", 0.2)
    assert why.startswith("a pattern") or check_schema(schema) == ()
    with pytest.raises(Fail, match=f"cannot be checked against the schema: {why}") as caught:
        make_shape(schema, objects_only=False).read(text)
    assert caught.value.problem == "gpt-schema-mismatch"
    assert not caught.value.retry


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by a schema that was never checked."""
    asked: list[str] = []

    class Connection(socket.socket):
        def connect(self, address: Any) -> None:
            asked.append(address)
            super().connect(address)

    monkeypatch.setattr(socket, "socket", Connection)
    with pytest.raises(Exception, match="127"):
        make_shape({"$ref": "http://127.0.0.1:9/"}, objects_only=False).read("1")
    assert asked == []


async def test_the_local_model_writes_what_fits(recorder: Recorder) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 120},
                       "mood": {"enum": ["glad", "sad"]}},
        "required": ["name", "age", "mood"], "additionalProperties": False,
    }  # fmt: skip
    gpt = Gpt(GptSettings(provider="local"))
    try:
        person = await gpt.function(recorder.context, "Make up a person.", schema=schema, temperature=0, max_tokens=100)
        mood = await gpt.function(recorder.context, "How are you?", schema={"enum": ["glad", "sad"]}, temperature=0)
    finally:
        await gpt.aclose()
    assert set(person) == {"name", "age", "mood"}
    assert mood in {"glad", "sad"}
    assert recorder.used["cost"] == 0
    assert recorder.used["estimated"] is False
