"""JSON Schema (2020-12) of what a task type takes and returns, and an example made from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import inspect

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
    types = [p.type for p in parameters]
    schemas, definitions = msgspec.json.schema_components(types, ref_template=_REF)
    _free_lone_tags(types, definitions)
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


def _free_lone_tags(types: Sequence[Any], definitions: Mapping[str, Schema]) -> None:
    """Let the tag of a Struct that stands alone be left out, as msgspec does; only among others it must tell which."""
    found = [one for type_ in types for one in _structs(inspect.type_info(type_), set())]
    among_others = {struct.cls for struct, has_siblings in found if has_siblings}
    for struct, _ in found:
        required = definitions.get(struct.cls.__name__, {}).get("required", [])
        if struct.cls not in among_others and struct.tag_field in required:
            required.remove(struct.tag_field)


def _structs(node: Any, seen: set[type], *, has_siblings: bool = False) -> Iterator[tuple[inspect.StructType, bool]]:
    """Yield the Structs in a type, each with whether a union has others beside it."""
    if isinstance(node, inspect.StructType):
        yield node, has_siblings
    cls = getattr(node, "cls", None)
    if cls in seen:
        return
    if cls is not None:  # only a class can hold itself
        seen.add(cls)
    parts = _parts(node)
    many = isinstance(node, inspect.UnionType) and sum(isinstance(part, inspect.StructType) for part in parts) > 1
    for part in parts:
        yield from _structs(part, seen, has_siblings=many)


def _parts(node: Any) -> list[Any]:
    """Return the types that a type is made of."""
    if isinstance(node, inspect.Field):
        return [node.type]
    values = [getattr(node, name) for name in getattr(node, "__struct_fields__", ())]
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return [one for one in flat if isinstance(one, inspect.Type | inspect.Field)]


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
