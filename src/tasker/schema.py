"""JSON Schema (2020-12) of what a task type takes and returns, and an example made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tasker.signature import ABSENT, How, Parameter

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_REF = "#/$defs/{name}"


def unsupported(type_: Any) -> str | None:
    """Return why values of this type cannot come from JSON, or None if they can."""
    try:
        msgspec.json.Decoder(type_)
        msgspec.json.schema_components([type_], ref_template=_REF)
    except Exception as error:  # msgspec resolves the annotations of the user's own classes: anything may be raised
        if "custom types" in str(error):
            return (
                f"values of {_name(type_)} cannot be written as JSON; use int, float, str, bool, None, list, dict, "
                "tuple, Literal, Enum, datetime, UUID, a dataclass, a TypedDict or a msgspec.Struct"
            )
        return f"{error} (in {_name(type_)})"
    return None


def _name(type_: Any) -> str:
    return f"`{type_.__qualname__}`" if isinstance(type_, type) else f"`{type_}`"


def input_schema(parameters: tuple[Parameter, ...], words: Mapping[str, str]) -> Schema:
    """Return the schema of an object with a member for each parameter; *args is an array."""
    schemas, definitions = msgspec.json.schema_components([p.type for p in parameters], ref_template=_REF)
    properties = {
        parameter.name: _property(parameter, schema, words.get(parameter.name))
        for parameter, schema in zip(parameters, schemas, strict=True)
    }
    return _document(
        {
            "type": "object",
            "properties": properties,
            "required": [parameter.name for parameter in parameters if parameter.is_required],
            "additionalProperties": False,
        },
        definitions,
        # A set is written as an array, in which msgspec takes an item twice; the schema must not say otherwise.
        leave_out="uniqueItems",
    )


def _property(parameter: Parameter, schema: Schema, words: str | None) -> Schema:
    if parameter.how is How.REST:
        schema = {"type": "array", "items": schema}
    if words and "description" not in schema:
        schema = {**schema, "description": words}
    if parameter.default is not ABSENT:
        text = msgspec.json.encode(parameter.default)
        if b"null" not in text or parameter.default is None:  # NaN and infinity have no JSON
            schema = {**schema, "default": msgspec.json.decode(text)}
    return schema


def output_schema(returns: Any) -> Schema:
    """Return the schema of a result."""
    (schema,), definitions = msgspec.json.schema_components([returns], ref_template=_REF)
    return _document(schema, definitions)


def _document(schema: Schema, definitions: Mapping[str, Schema], *, leave_out: str | None = None) -> Schema:
    whole = {"$schema": DIALECT, **schema}
    if definitions:
        whole["$defs"] = dict(definitions)
    plain: Schema = msgspec.json.decode(msgspec.json.encode(whole))  # tuples and enums in defaults become JSON
    if leave_out is not None:
        plain = _without(plain, leave_out)
    return plain


def _without(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        return {name: _without(member, key) for name, member in node.items() if not (name == key and member is True)}
    return [_without(item, key) for item in node] if isinstance(node, list) else node


class NoExampleError(Exception):
    """The schema is not simple enough to make an example of."""


def make_example(schema: Schema) -> dict[str, Any]:
    """Return named params that show the shape of an object schema: its defaults, else a plain value of each type.

    Raises NoExampleError where that is not simple.
    """
    return {name: _example_of(member, schema) for name, member in schema["properties"].items()}


def _example_of(schema: Schema, whole: Schema) -> Any:
    if "$ref" in schema:
        schema = {**whole["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "default" in schema:
        return schema["default"]
    if "anyOf" in schema:
        return _example_of(schema["anyOf"][0], whole)
    if schema.get("type") == "array" and "items" in schema and not schema.get("minItems"):
        return [_example_of(schema["items"], whole)] if schema["items"] else []
    return _example_of_type(schema)


def _example_of_type(schema: Schema) -> Any:
    plain = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1.5), "string": "text"}
    plain |= {"boolean": True, "null": None, "object": {}}
    kind = schema.get("type")
    if kind not in plain:
        raise NoExampleError(kind)
    return plain[kind]
