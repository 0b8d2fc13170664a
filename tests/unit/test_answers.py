"""Schemas of questions, and answers to them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tasker.errors import Fault
from tasker.validation import answers
from tasker.validation.answers import answer_faults, question_faults

APPROVAL = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "by": {"type": "string", "minLength": 1}, "count": {"type": "integer"}},
    "required": ["ok", "by"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "boolean"},
        {"enum": ["yes", "no"]},
        APPROVAL,
        {"$ref": "#/$defs/A", "$defs": {"A": APPROVAL}},
        {"type": "string", "pattern": "^[a-z]+$"},
    ],
)
def test_a_schema_of_a_question_can_be_used(schema: Any) -> None:
    assert question_faults(schema) == ()


@pytest.mark.parametrize(
    ("schema", "pointer", "part"),
    [
        (True, "", "expected an object, got boolean"),
        (None, "", "expected an object, got null"),
        ({"type": "strnig"}, "/type", "strnig"),
        ({"properties": {"a": {"$ref": "https://example.com/a"}}}, "/properties/a/$ref", "within this one"),
        ({"pattern": "(?=a)"}, "/pattern", "RE2"),
        ({"$ref": "#"}, "/$ref", "without end"),
    ],
)
def test_a_schema_that_no_answer_can_be_checked_by_is_refused(schema: Any, pointer: str, part: str) -> None:
    found = question_faults(schema)
    assert [fault.pointer for fault in found] == [pointer]
    assert part in found[0].detail


@pytest.mark.parametrize(
    ("schema", "value", "faults"),
    [
        ({}, None, []),
        (APPROVAL, {"ok": True, "by": "ann"}, []),
        ({"type": "boolean"}, "yes", [Fault("", "expected boolean, got string")]),
        ({"type": "integer"}, 1.0, [Fault("", "expected integer, got number")]),
        ({"enum": ["yes", "no"]}, "maybe", [Fault("", 'expected one of "yes", "no"')]),
        ({"pattern": "^[a-z]+$"}, "A", [Fault("", "expected a string that matches ^[a-z]+$")]),
        ({"type": "string", "format": "date"}, "soon", [Fault("", "expected a string of the format date")]),
        ({"additionalProperties": False}, {"a": 1}, [Fault("/a", "unknown field")]),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, 1, [Fault("", "expected string or null, got integer")]),
        ({"oneOf": [{"type": "string"}, {}]}, "a", [Fault("", "does not meet `oneOf` of the schema")]),
        ({"not": {}}, "a", [Fault("", "does not meet `not` of the schema")]),
        ({"anyOf": [False]}, 1, [Fault("", "holds what the schema allows nowhere")]),
        ({"anyOf": [False, {"type": "string"}]}, 1, [Fault("", "expected string, got integer")]),
        ({"properties": {"a": False}}, {"a": 1}, [Fault("", "holds what the schema allows nowhere")]),
        ({"multipleOf": 0.1}, 1e308 * 10, [Fault("", "cannot be checked: a number is too large")]),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
            1,
            [Fault("", "cannot be checked: the schema refers to itself without end")],
        ),
        (
            APPROVAL,
            {"ok": "yes", "count": 1.5, "b/y": "ann"},
            [
                Fault("/by", "`by` is missing"),
                Fault("/b~1y", "unknown field; did you mean `by`?"),
                Fault("/ok", "expected boolean, got string"),
                Fault("/count", "expected integer, got number"),
            ],
        ),
    ],
)
def test_every_fault_of_an_answer_is_found(schema: Any, value: Any, faults: list[Fault]) -> None:
    found = answer_faults(msgspec.json.encode(schema), value)
    assert sorted(found, key=str) == sorted(faults, key=str)


def test_a_panic_where_the_stack_ends_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):  # as pyo3 raises it
        pass

    def fail(*_: Any) -> Any:
        raise PanicException

    monkeypatch.setattr(answers, "schema_faults", fail)
    [fault] = answer_faults(b"{}", 1)
    assert "refers to itself without end" in fault.detail
