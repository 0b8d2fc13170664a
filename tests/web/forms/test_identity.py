"""Form and JSON are one state: a value that fills a form comes back from it, whatever the schema and the value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus.samples import INPUTS, corpus
from tests.web.forms.controls import sent

from tasker.web.forms.exact import Absent, Given, Number, Value, exact, parse, write
from tasker.web.forms.fields import fill
from tasker.web.forms.posted import read
from tasker.web.forms.shapes import Shape, shape_of

SHAPES = {one.name: shape_of(one.input_schema) for one in corpus() if one.name != "hidden"}


def back(shape: Shape, value: Given) -> Given:
    """Return what comes back from a form that nobody touches."""
    found = read(shape, sent(fill(shape, value)))
    return {} if isinstance(found, Absent) else found


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, some in INPUTS.items() for value in some])
def test_inputs_of_the_corpus_come_back(name: str, value: Any) -> None:
    assert back(SHAPES[name], exact(value)) == exact(value)


TEXTS = st.text(st.sampled_from("ab5.-\n\t\r\x01\u202e<&'\"~/ é"), max_size=6)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,2})?", fullmatch=True).map(Number)
LEAVES = (
    st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(["", "2026-01-31", "pdf", "mail", "only", "true"])
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


def near(shape: Shape) -> st.SearchStrategy[Value]:
    """Return values that mostly fit a shape."""
    kind = shape.kind.name
    if kind == "OBJECT":
        members = {member.name: near(member.shape) for member in shape.members}
        fitting: st.SearchStrategy[Any] = st.fixed_dictionaries({}, optional=members)
        fitting = st.builds(
            lambda own, more: {**more, **own}, fitting, st.just({}) | st.dictionaries(TEXTS, LEAVES, max_size=1)
        )
    elif kind == "LIST" and shape.item is not None:
        fitting = st.lists(near(shape.item), max_size=3)
    elif kind == "MAP" and shape.item is not None:
        fitting = st.dictionaries(TEXTS, near(shape.item), max_size=3)
    elif kind == "UNION":
        fitting = st.one_of([near(one.shape) for one in shape.variants])
    elif shape.options:
        fitting = st.sampled_from(shape.options)
    else:
        fitting = LEAVES
    return st.integers(0, 9).flatmap(lambda dice: VALUES if dice == 0 else st.none() if dice == 1 else fitting)


@settings(max_examples=20)
@given(st.data())
def test_any_value_comes_back_from_any_form(data: st.DataObject) -> None:
    shape = SHAPES[data.draw(st.sampled_from(sorted(SHAPES)))]
    value = data.draw(near(shape).filter(lambda value: isinstance(value, dict)))
    assert back(shape, value) == value


SCHEMA_TEXTS = st.sampled_from([
    "type", "properties", "items", "anyOf", "oneOf", "allOf", "enum", "const", "default", "required", "$ref", "$defs",
    "additionalProperties", "string", "integer", "number", "object", "array", "boolean", "null", "a", "#/$defs/a",
    "#/properties/a", "#", "format", "date", "writeOnly", "title", "description", "discriminator", "minimum", "x",
])  # fmt: skip
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | SCHEMA_TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCHEMA_TEXTS, inner, max_size=5),
    max_leaves=25,
)
LIKELY: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([
        {"type": "string"}, {"type": "integer"}, {"enum": [1, "a", None]}, {"const": "x"}, {"type": ["string", "null"]},
        {"$ref": "#/$defs/a"}, {"$ref": "#"}, {"type": "boolean"}, {"type": "string", "format": "date"}, True, {},
        {"type": ["integer", "string"], "default": 3}, {"type": "string", "minLength": 1}, {"enum": list("abcdef")},
    ]),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(TEXTS, inner, max_size=3),
                               "required": st.lists(TEXTS, max_size=2), "$defs": st.fixed_dictionaries({"a": inner})}),
        st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": inner}),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}, optional={"default": st.none()}),
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=40)
@given(SCHEMAS | LIKELY, VALUES)
def test_no_schema_is_an_error_and_every_value_comes_back(schema: Any, value: Value) -> None:
    shape = shape_of(schema)
    if isinstance(value, dict) or shape.kind.name == "JSON":
        assert back(shape, value) == value


@settings(max_examples=20)
@given(
    LIKELY,
    st.lists(st.tuples(st.sampled_from(["/a", "set:/a", "item:/a/0", "key:/a/1", "more:", "json:/a", "x"]), TEXTS)),
)
def test_no_posted_form_is_an_error(schema: Any, pairs: list[tuple[str, str]]) -> None:
    shape = shape_of(schema)
    value = read(shape, pairs)
    whole = {} if isinstance(value, Absent) else value
    assert back(shape, whole) == whole


@settings(max_examples=20)
@given(VALUES)
def test_json_is_written_as_it_was_read(value: Value) -> None:
    assert parse(write(value)) == value
    assert parse(write(value, "  ")) == value
