"""Which schemas OpenAI's models can be held to by the letter (`strict`), and how others are asked for.

Strict is asked for where the schema says the same then: objects are closed, so all that may be there is named, and
every property is required. A schema with an optional property is not strict, or the model would have to make up a value
for it; a text is held against its schema in any case.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

MAX_DEPTH = 10
_WORDS = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs",
    "definitions", "description", "title", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "minItems", "maxItems",
}  # fmt: skip
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}


def is_strict(schema: Any, depth: int = 0) -> bool:
    """Tell whether a schema keeps to the part of JSON Schema that strict models take."""
    if not isinstance(schema, dict) or not schema.keys() <= _WORDS or depth > MAX_DEPTH:
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
    """Return the schema of an object that holds `value`, which fits `schema`; its definitions stay where they are."""
    inner = dict(schema)
    outer: Schema = {
        "type": "object", "properties": {"value": inner}, "required": ["value"], "additionalProperties": False,
    }  # fmt: skip
    for word in ("$defs", "definitions"):
        if word in inner:
            outer[word] = _moved(inner.pop(word))
    outer["properties"]["value"] = _moved(inner)
    return outer


def _moved(node: Any) -> Any:
    """Return a part of the schema whose references point to where things are now."""
    if isinstance(node, list):
        return [_moved(item) for item in node]
    if not isinstance(node, dict):
        return node
    moved = {key: _moved(member) for key, member in node.items()}
    ref = moved.get("$ref")
    if isinstance(ref, str) and not ref.startswith(("#/$defs/", "#/definitions/")):
        moved["$ref"] = "#/properties/value" + ref[1:]
    return moved
