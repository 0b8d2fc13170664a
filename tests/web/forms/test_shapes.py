"""Which control each place of a schema has: the table of the forms, row by row; and that it is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from tests.web.forms.controls import controls_of, html_of, sent

from tasker.web.forms.exact import Number, exact
from tasker.web.forms.fields import MAX_FILLED, Field, fill
from tasker.web.forms.posted import read
from tasker.web.forms.shapes import MAX_FIELDS, Kind, Shape, shape_of


def shape_of_param(schema: Any, **defs: Any) -> Shape:
    """Return the shape of a param `p` with a schema."""
    return shape_of({"type": "object", "properties": {"p": schema}, "$defs": defs}).members[0].shape


@pytest.mark.parametrize(
    ("schema", "kind", "words"),
    [
        ({"type": "string"}, Kind.TEXT, "text"),
        ({"type": "string", "minLength": 3, "maxLength": 40}, Kind.TEXT, "text, 3 to 40 characters"),
        ({"type": "integer", "minimum": 1, "maximum": 100_000}, Kind.NUMBER, "whole number, 1 to 100,000"),
        ({"type": "number", "maximum": 2}, Kind.NUMBER, "number, at most 2"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, Kind.NUMBER, "number"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, Kind.NUMBER, "whole number"),
        ({"type": ["integer", "null"]}, Kind.NUMBER, "whole number"),
        ({"type": "boolean"}, Kind.BOOL, "yes or no"),
        ({"enum": ["a", "b"]}, Kind.CHOICE, "choice"),
        ({"enum": ["a"]}, Kind.CONST, "constant"),
        ({"const": 3}, Kind.CONST, "constant"),
        ({"type": "string", "format": "date"}, Kind.DATE, "date"),
        ({"type": "string", "format": "date-time"}, Kind.MOMENT, "date and time with a zone"),
        ({"type": "string", "format": "time"}, Kind.TIME, "time"),
        ({"type": "string", "format": "duration"}, Kind.DURATION, "duration"),
        ({"type": "string", "format": "uuid"}, Kind.UUID, "UUID"),
        ({"type": ["string", "number"], "format": "decimal"}, Kind.DECIMAL, "decimal"),
        ({"type": "string", "writeOnly": True}, Kind.SECRET, "secret"),
        ({"anyOf": [{"type": "string", "format": "password"}, {"type": "null"}]}, Kind.SECRET, "secret"),
        ({"type": "array", "items": {"type": "string"}, "writeOnly": True}, Kind.JSON, "any JSON"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, Kind.LIST, "list, at least 1 item"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, Kind.LIST, "list, at least 2 items"),
        ({"type": "object", "properties": {"a": {}}}, Kind.OBJECT, "object"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, Kind.MAP, "names and values"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, Kind.UNION, "one of several"),
        (
            {"oneOf": [{"type": "integer"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}]},
            Kind.UNION,
            "one of several",
        ),
        ({"type": "object"}, Kind.JSON, "any JSON"),
        ({"type": "array"}, Kind.JSON, "any JSON"),
        ({"type": "array", "prefixItems": [{}], "items": {"type": "string"}}, Kind.JSON, "any JSON"),
        ({"type": "object", "patternProperties": {"a": {}}, "properties": {"a": {}}}, Kind.JSON, "any JSON"),
        ({"allOf": [{"type": "string"}]}, Kind.JSON, "any JSON"),
        ({"if": {}, "type": "string"}, Kind.JSON, "any JSON"),
        ({}, Kind.JSON, "any JSON"),
        (True, Kind.JSON, "any JSON"),
        ({"type": "string", "anyOf": [{"minLength": 1}, {"pattern": "a"}]}, Kind.TEXT, "text"),
        ({"$ref": "#/$defs/T"}, Kind.TEXT, "text"),
        ({"$ref": "#/$defs/nowhere"}, Kind.JSON, "any JSON"),
        ({"$ref": "https://example.com/x"}, Kind.JSON, "any JSON"),
        ({"$ref": "#/$defs/Loop"}, Kind.JSON, "any JSON"),
        ({"type": "object", "properties": 5, "required": "x", "additionalProperties": 3}, Kind.JSON, "any JSON"),
    ],
)
def test_each_schema_has_its_control(schema: Any, kind: Kind, words: str) -> None:
    made = shape_of_param(schema, T={"type": "string"}, Loop={"$ref": "#/$defs/Loop"})
    assert (made.kind, made.words) == (kind, words)


def test_what_stands_beside_a_reference_wins() -> None:
    made = shape_of_param(
        {"$ref": "#/$defs/T", "default": "x", "description": "own"}, T={"type": "string", "default": "y"}
    )
    assert (made.default, made.description) == ("x", "own")


def test_null_makes_a_value_optional_and_its_description_is_that_of_the_variant() -> None:
    made = shape_of_param({"anyOf": [{"type": "string", "description": "d"}, {"type": "null"}], "default": None})
    assert (made.kind, made.is_nullable, made.default, made.description) == (Kind.TEXT, True, None, "d")


def test_variants_are_flat_and_named_by_tag_title_or_type() -> None:
    inner = {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
             "discriminator": {"propertyName": "kind", "mapping": {"be": "#/$defs/B"}}}  # fmt: skip
    made = shape_of_param(
        {"anyOf": [inner, {"type": "null"}, {"type": "integer"}]},
        A={"title": "Alpha", "type": "object", "properties": {"via": {"const": "mail"}}},
        B={"title": "Beta", "type": "object", "properties": {"x": {"type": "string"}}},
    )
    assert [one.label for one in made.variants] == ["mail", "be", "whole number"]
    assert made.is_nullable


def test_long_texts_have_several_lines() -> None:
    schema = {"type": "object", "properties": {"prompt": {"type": "string"}, "name": {"type": "string"},
              "text": {"type": "string", "maxLength": 5}}}  # fmt: skip
    assert [one.shape.is_long for one in shape_of(schema).members] == [True, False, False]


def test_exact_defaults() -> None:
    assert shape_of_param({"type": "integer", "default": 10**30}).default == Number("1" + "0" * 30)


def depth_of(field: Field) -> int:
    return 1 + max(map(depth_of, field.fields), default=0)


def count(shape: Shape) -> int:
    inner = [member.shape for member in shape.members] + [one.shape for one in shape.variants]
    return 1 + sum(map(count, [*inner, *([shape.item] if shape.item else [])]))


def test_recursion_ends_in_json() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#/$defs/T"}, "name": {"type": "string"}}}
    shape = shape_of_param({"$ref": "#/$defs/T"}, T=tree)
    for _ in range(4):
        assert shape.kind is Kind.OBJECT
        shape = shape.members[0].shape
    assert shape.kind is Kind.JSON


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "string"}]}}},
        {"type": "object", "properties": {"p": {"$ref": "#/properties/p"}}},
        {"type": "object", "properties": {str(n): {"type": "string"} for n in range(MAX_FIELDS + 1)}},
        {"type": "object", "properties": {"p": {"$ref": "#/$defs/W0"}},
         "$defs": {f"W{n}": {"type": "object", "properties": {f"{k}": {"$ref": f"#/$defs/W{n + 1}"} for k in range(30)}}
                   for n in range(40)}},
        {"type": "object", "properties": {"p": {"anyOf": [{"$ref": "#/$defs/U"}] * 10}},
         "$defs": {"U": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/U"}, *[{"type": "string"}] * 9]}}}},
        {"type": "object", "properties": {"p": {"enum": list(range(10_000))}}},
        {"type": "object", "properties": {"x" * 10_000: {"type": "string"}}},
    ],
)  # fmt: skip
def test_any_schema_gives_a_small_form(schema: Any) -> None:
    shape = shape_of(schema)
    assert count(shape) <= 4 * MAX_FIELDS
    assert depth_of(fill(shape, {})) <= 12


def test_a_large_value_gives_a_bounded_form() -> None:
    line = {"type": "object", "properties": {str(n): {"type": "integer"} for n in range(100)}}
    shape = shape_of({"type": "object", "properties": {"p": {"type": "array", "items": line}}})
    value = exact({"p": [{str(n): n for n in range(100)}] * 90})
    form = fill(shape, value)
    assert sum(1 for _ in form.all_active()) < 2 * MAX_FILLED
    assert read(shape, sent(form)) == value


def test_a_long_list_is_json_as_a_whole() -> None:
    shape = shape_of({"type": "object", "properties": {"p": {"type": "array", "items": {"type": "integer"}}}})
    field = fill(shape, {"p": exact(list(range(101)))}).fields[0]
    assert field.is_json
    assert not field.fields


@pytest.mark.parametrize(("number", "is_list"), [(4, False), (5, True)])
def test_many_choices_are_a_list_to_open(number: int, is_list: bool) -> None:
    param = {"enum": list("abcde"[:number])}
    shape = shape_of({"type": "object", "properties": {"p": param}, "required": ["p"]})
    html = html_of(fill(shape, {"p": "b"}))
    assert ("<select" in html, 'type="radio"' in html) == (is_list, not is_list)
    assert read(shape, controls_of(html)) == {"p": "b"}
