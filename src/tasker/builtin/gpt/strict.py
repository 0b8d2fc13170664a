"""Which schemas OpenAI's models can follow to the letter (`strict`), and how to ask for others.

A schema is strict if strict mode does not change its meaning: its objects are closed and require every property. With
an optional property it is not strict: the model would have to invent a value. Every text is checked in any case.
"""

from __future__ import annotations

from typing import Any

from tasker.validation.schemas import Schema

MAX_DEPTH = 10
_STRUCTURE = {
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "anyOf",
    "$ref",
    "$defs",
    "definitions",
}
_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems"}
_KEYWORDS = _STRUCTURE | _LIMITS | {"enum", "const", "pattern", "format", "description", "title"}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}


def is_strict(schema: Any, depth: int = 0) -> bool:
    """Return whether a schema keeps to the subset of JSON Schema that strict mode supports."""
    if not isinstance(schema, dict) or not schema.keys() <= _KEYWORDS or depth > MAX_DEPTH:
        return False
    if schema.get("format") not in {None, *_FORMATS} or not (
        schema.keys() & {"type", "anyOf", "$ref", "enum", "const"}
    ):
        return False
    if _is_object(schema) and not _is_closed(schema):
        return False
    if schema.get("type") == "array" and "items" not in schema:
        return False
    named = [*schema.get("$defs", {}).values(), *schema.get("definitions", {}).values()]
    deeper = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    deeper += [schema["items"]] if "items" in schema else []
    return all(is_strict(one, depth) for one in named) and all(is_strict(one, depth + 1) for one in deeper)


def _is_object(schema: Schema) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema


def _is_closed(schema: Schema) -> bool:
    names = set(schema.get("properties", {}))
    return schema.get("additionalProperties") is False and set(schema.get("required", ())) == names


def to_object(schema: Schema) -> Schema:
    """Return the schema of an object whose `value` fits `schema`. Definitions stay at the top."""
    inner = dict(schema)
    definitions = {word: _moved(inner.pop(word)) for word in ("$defs", "definitions") if word in inner}
    properties = {"value": _moved(inner)}
    outer = {"type": "object", "properties": properties, "required": ["value"], "additionalProperties": False}
    return outer | definitions


def _moved(node: Any) -> Any:
    """Return a part of the schema with its references adjusted to the new places."""
    if isinstance(node, list):
        return [_moved(item) for item in node]
    if not isinstance(node, dict):
        return node
    moved = {key: _moved(member) for key, member in node.items()}
    ref = moved.get("$ref")
    if isinstance(ref, str) and not ref.startswith(("#/$defs/", "#/definitions/")):
        moved["$ref"] = "#/properties/value" + ref[1:]
    return moved
