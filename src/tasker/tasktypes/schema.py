"""JSON Schema (2020-12) of a task type's params and result, and an example made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import inspect

from tasker.rules.secrets import is_secret
from tasker.tasktypes.pydantic_models import Model
from tasker.tasktypes.signature import ABSENT, How, Parameter
from tasker.validation.encoding import NotJson, encode_strict

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_REF = "#/$defs/{name}"


def unsupported(type_: Any) -> str | None:
    """Return why values of this type cannot be read from JSON, or None if they can."""
    try:
        msgspec.json.Decoder(type_)
        _components([type_])
    except Exception as error:  # msgspec resolves the annotations of the user's own classes: anything may be raised
        if "custom types" in str(error):
            return (
                f"values of {_name(type_)} cannot be written as JSON; use int, float, str, bool, None, list, dict, "
                "tuple, Literal, Enum, datetime, UUID, Path, a dataclass, a TypedDict, a msgspec.Struct or a pydantic "
                "model"
            )
        return f"{error} (in {_name(type_)})"
    return None


def _components(types: Sequence[Any]) -> tuple[tuple[Schema, ...], dict[str, Schema]]:
    """Return the schema of each type, and the definitions that they refer to."""
    schemas, definitions = msgspec.json.schema_components(types, schema_hook=_custom_schema, ref_template=_REF)
    nodes = [inspect.type_info(type_) for type_ in types]
    for node, schema in zip(nodes, schemas, strict=True):
        _set_zone(node, schema)
    for part in _all_parts(nodes):
        members = definitions.get(getattr(getattr(part, "cls", None), "__name__", ""), {}).get("properties", {})
        for field in getattr(part, "fields", ()):
            _set_zone(field.type, members.get(field.encode_name, {}))
    return schemas, definitions


def _custom_schema(kind: Any) -> Schema:
    if kind is object:
        return {"description": "Any JSON value."}  # msgspec treats an empty schema like no schema
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return {"type": "string", "format": "path"}
    raise NotImplementedError


def _set_zone(node: Any, schema: Any) -> None:
    """State in the schema that each datetime in a type, except in its fields, has a zone; msgspec does not."""
    if not isinstance(schema, dict):
        return
    if isinstance(node, inspect.DateTimeType) and node.tz is None and schema.get("type") == "string":
        schema.setdefault("format", "date-time")
    for part, member in _pairs(node, schema):
        _set_zone(part, member)


def _pairs(node: Any, schema: Schema) -> Iterator[tuple[Any, Any]]:
    """Yield the types within a type, except those of its fields, with their schemas."""
    match node:
        case inspect.Metadata():
            yield node.type, schema
        case inspect.UnionType():
            for member in schema.get("anyOf", ()):  # a union has at most one kind of text
                yield from ((part, member) for part in node.types)
        case inspect.TupleType():
            yield from zip(node.item_types, schema.get("prefixItems", ()), strict=False)
        case inspect.DictType():
            yield node.value_type, schema.get("additionalProperties")
        case inspect.CollectionType():
            yield node.item_type, schema.get("items")


def _all_parts(nodes: Sequence[Any]) -> Iterator[Any]:
    """Yield types and all types within them, each class once."""
    stack, seen = list(nodes), set()
    while stack:
        node = stack.pop()
        cls = getattr(node, "cls", None)
        if cls is None or cls not in seen:
            seen.add(cls)
            yield node
            stack += _parts(node)


class Traits(NamedTuple):
    """The traits of a type that decide how its values are checked.

    has_moments: holds datetimes that may or may not have a zone. has_naive: holds datetimes that must have no zone
    (`Meta(tz=False)`). is_open: some of its values may be of any type, or of any depth.
    """

    has_decimals: bool
    has_moments: bool
    has_naive: bool
    is_open: bool

    @property
    def needs_zones(self) -> bool:
        """Whether each datetime must have a zone; False if some must not have one, as they cannot be told apart."""
        return self.has_moments and not self.has_naive

    @property
    def is_plain(self) -> bool:
        """Whether msgspec alone can check the values."""
        return not (self.has_decimals or self.needs_zones)


def traits_of(types: Iterable[Any]) -> Traits:
    """Return the traits of some types together."""
    nodes = [inspect.type_info(type_) for type_ in types]
    parts = list(_all_parts(nodes))
    zones = {part.tz for part in parts if isinstance(part, inspect.DateTimeType)}
    return Traits(
        has_decimals=any(isinstance(part, inspect.DecimalType) for part in parts),
        has_moments=None in zones,
        has_naive=False in zones,
        is_open=any(isinstance(part, _OPEN) or _has_mixed_keys(part) for part in parts)
        or any(_holds_itself(node, frozenset(), set()) for node in nodes),
    )


def _holds_itself(node: Any, above: frozenset[type], done: set[type]) -> bool:
    """Tell whether a class in a type contains itself. above: the classes around the node. done: those checked."""
    cls = getattr(node, "cls", None)
    if cls in above:
        return True
    if cls in done:
        return False
    within = above if cls is None else above | {cls}
    found = any(_holds_itself(part, within, done) for part in _parts(node))
    if cls is not None:
        done.add(cls)
    return found


_OPEN = (inspect.AnyType, inspect.RawType, inspect.CustomType, inspect.ExtType)


def _has_mixed_keys(part: Any) -> bool:
    return isinstance(part, inspect.DictType) and isinstance(part.key_type, inspect.UnionType)


def _name(type_: Any) -> str:
    return f"`{type_.__qualname__}`" if isinstance(type_, type) else f"`{type_}`"


def input_schema(
    parameters: tuple[Parameter, ...],
    descriptions: Mapping[str, str],
    models: Mapping[str, Model] = MappingProxyType({}),
) -> Schema:
    """Return the schema of an object with a member for each parameter; *args is an array.

    models: of the parameters that pydantic reads.
    """
    types = [Any if p.name in models else p.type for p in parameters]
    schemas, definitions = _components(types)
    _free_lone_tags(types, definitions)
    properties = {}
    for parameter, schema in zip(parameters, schemas, strict=True):
        model = models.get(parameter.name)
        own = schema if model is None else _adopt(model.input_schema, definitions)
        if model is not None and is_secret(parameter.type):
            own = {**own, "writeOnly": True, "format": "password"}
        properties[parameter.name] = _property(parameter, own, descriptions.get(parameter.name))
    return _document(
        {
            "type": "object",
            "properties": properties,
            "required": [parameter.name for parameter in parameters if parameter.is_required],
            "additionalProperties": False,
        },
        definitions,
        is_input=True,
    )


def _adopt(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return a schema without its definitions, which move to `definitions`, renamed where their name is taken."""
    own = schema.get("$defs", {})
    names = {}
    for name, definition in own.items():
        names[name], number = name, 1
        while definitions.get(names[name], definition) != definition:
            number += 1
            names[name] = f"{name}_{number}"
    for name, definition in own.items():
        definitions[names[name]] = _renamed(definition, names)
    return cast(Schema, _renamed({key: value for key, value in schema.items() if key != "$defs"}, names))


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _renamed(member, names) for key, member in node.items()}
    if isinstance(node, list):
        return [_renamed(item, names) for item in node]
    prefix = _REF.format(name="")
    if isinstance(node, str) and node.startswith(prefix):
        name = node.removeprefix(prefix)
        return prefix + names.get(name, name)
    return node


def _free_lone_tags(types: Sequence[Any], definitions: Mapping[str, Schema]) -> None:
    """Make the tag of a Struct optional unless it is in a union with others, as msgspec does."""
    found = [one for type_ in types for one in _structs(inspect.type_info(type_), set())]
    among_others = {struct.cls for struct, has_siblings in found if has_siblings}
    for struct, _ in found:
        required = definitions.get(struct.cls.__name__, {}).get("required", [])
        if struct.cls not in among_others and struct.tag_field in required:
            required.remove(struct.tag_field)


def _structs(node: Any, seen: set[type], *, has_siblings: bool = False) -> Iterator[tuple[inspect.StructType, bool]]:
    """Yield the Structs in a type, each with whether it is in a union with others."""
    if isinstance(node, inspect.StructType):
        yield node, has_siblings
    cls = getattr(node, "cls", None)
    if cls in seen:
        return
    if cls is not None:  # only a class can contain itself
        seen.add(cls)
    parts = _parts(node)
    many = isinstance(node, inspect.UnionType) and sum(isinstance(part, inspect.StructType) for part in parts) > 1
    for part in parts:
        yield from _structs(part, seen, has_siblings=many)


def _parts(node: Any) -> list[Any]:
    """Return the types directly within a type."""
    if isinstance(node, inspect.Field):
        return [node.type]
    values = [getattr(node, name) for name in getattr(node, "__struct_fields__", ())]
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return [one for one in flat if isinstance(one, inspect.Type | inspect.Field)]


def _property(parameter: Parameter, schema: Schema, description: str | None) -> Schema:
    if parameter.how is How.REST:
        schema = {"type": "array", "items": schema}
    if description and "description" not in schema:
        schema = {**schema, "description": description}
    if parameter.default is not ABSENT:
        with suppress(NotJson):  # NaN and infinity cannot be shown, but still apply
            schema = {**schema, "default": msgspec.json.decode(encode_strict(parameter.default))}
    return schema


def output_schema(returns: Any, model: Model | None = None) -> Schema:
    """Return the schema of a result; model: of a type that pydantic writes."""
    if model is not None:
        definitions: dict[str, Schema] = {}
        return _document(_adopt(model.output_schema, definitions), definitions)
    (schema,), definitions = _components([returns])
    return _document(schema, definitions)


def _document(schema: Schema, definitions: Mapping[str, Schema], *, is_input: bool = False) -> Schema:
    whole = {"$schema": DIALECT, **schema}
    if definitions:
        whole["$defs"] = dict(definitions)
    plain: Schema = msgspec.json.decode(msgspec.json.encode(whole))  # tuples and enums in defaults become JSON
    return cast(Schema, _as_taken(plain)) if is_input else plain


def _as_taken(node: Any) -> Any:
    """Return the schema of values that msgspec accepts, which are more than it writes.

    It writes a set as an array, and reads one with repeated items; it writes a Decimal as a string, and reads numbers.
    """
    if isinstance(node, list):
        return [_as_taken(item) for item in node]
    if not isinstance(node, dict):
        return node
    taken = {key: _as_taken(value) for key, value in node.items() if not (key == "uniqueItems" and value is True)}
    if taken.get("format") == "decimal" and taken.get("type") == "string":
        taken["type"] = ["string", "number"]
    return taken


class NoExampleError(Exception):
    """The schema is too complex to make an example."""


def make_example(schema: Schema) -> dict[str, Any]:
    """Return named params that show the shape of an object schema: its defaults, else a plain value of each type.

    Raises NoExampleError where the schema is too complex.
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


_EXAMPLES = {
    "decimal": "1.50",
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "PT30S",
    "path": "folder/file",
}


def _example_of_type(schema: Schema) -> Any:
    plain = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1.5), "string": "text"}
    plain |= {"boolean": True, "null": None, "object": {}}
    kind = schema.get("type")
    if kind != "integer" and schema.get("format") in _EXAMPLES:
        return _EXAMPLES[schema["format"]]
    if kind not in plain:
        raise NoExampleError(kind)
    return plain[kind]
