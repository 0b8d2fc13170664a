"""Params of a submission, by position or by name: checked, and bound to the arguments of a function.

Valid params cost one typed decoding into a generated Struct; only refused params go through validation/faults.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import astuple

from tasker.errors import Fault
from tasker.tasktypes.pydantic_models import Model
from tasker.tasktypes.schema import Schema, traits_of
from tasker.tasktypes.signature import How, Parameter
from tasker.validation.encoding import check_leaves, from_json, has_many_exponents, read_any
from tasker.validation.faults import MAX_FAULTS, kind_of, missing_field, unknown_field, value_faults
from tasker.validation.jsontext import unescape

_BOX = "$.v"
_ALL = "*"
"""The key of the decoder for a list of values of *args."""
_TOGETHER = 500
"""How many values of *args are checked together, and then one by one if any is wrong."""


def make_box(type_: Any) -> type[Struct]:
    """Return a Struct with one field `v`: msgspec caches its analysis of a Struct, but not of a union."""
    return msgspec.defstruct("Box", [("v", type_)])


def in_array(params: Any, pointer: str, positional: tuple[str, ...], rest: str | None) -> str:
    """Return the pointer into `params`, an array or an object, for a pointer into the object by name."""
    if isinstance(params, dict) or not pointer:
        return pointer
    _, name, *steps = pointer.split("/")
    if unescape(name) in positional:
        return "/".join(("", str(positional.index(unescape(name))), *steps))
    if unescape(name) == rest and steps:
        return "/".join(("", str(len(positional) + int(steps[0])), *steps[1:]))
    return ""


class Params:
    """Reads, checks and binds the params of a function. schema: of the object, made from the same parameters.

    positional: the names that an array reaches, in order. rest: the name of *args, or None. models: of the parameters
    that pydantic reads. is_simple: whether all types are JSON's own.
    """

    def __init__(
        self, parameters: tuple[Parameter, ...], schema: Schema, models: Mapping[str, Model] = MappingProxyType({})
    ) -> None:
        self.positional = tuple(p.name for p in parameters if p.in_array and p.how is not How.REST)
        self.rest = next((p.name for p in parameters if p.how is How.REST), None)
        self._parameters = parameters
        self._schema = schema
        self._names = tuple(p.name for p in parameters)
        self._defaults = tuple(p.default for p in parameters)
        self._by_position = sum(p.how is How.POSITION for p in parameters)
        self._keywords = tuple(p.name for p in parameters if p.how is How.KEYWORD)
        self._models = models
        self._places = tuple((place, models[p.name], p.how) for place, p in enumerate(parameters) if p.name in models)
        types = {p.name: msgspec.Raw if p.name in models else p.type for p in parameters}
        self._boxes = {name: make_box(type_) for name, type_ in types.items() if name not in models}
        self._traits = {name: traits for name in self._boxes if not (traits := traits_of([types[name]])).is_plain}
        if self.rest in self._boxes:
            self._boxes[_ALL] = make_box(list.__class_getitem__(types[self.rest]))
        self._odd = tuple((self._names.index(name), traits.needs_zones) for name, traits in self._traits.items())
        self._struct = _make_struct(parameters, types)
        self._read_object = _reader(self._struct)
        self.is_simple = not self._odd and not models and all(map(_is_simple, types.values()))
        reached = tuple(p for p in parameters if p.in_array and p.how is not How.REST)
        self._read_array = _reader(_make_struct(reached, types, array_like=True))
        self._read_rest = None if self.rest is None else _reader(list.__class_getitem__(types[self.rest]))
        # A signature has first the parameters that an array can reach, then *args, then those passed only by name.
        self._others = tuple(UNSET for p in parameters if not p.in_array)
        self._unreached = next((p.name for p in parameters if p.is_required and not p.in_array), None)

    def read(self, text: bytes) -> tuple[Any, ...]:
        """Return the value of each parameter from the JSON text of params, UNSET for those left to their defaults.

        Each value is read as its type, so that no number passes through a float on its way to a Decimal. Raises
        msgspec.ValidationError.
        """
        if has_many_exponents(text) and self.is_simple:
            return self._values_of(read_any(text))
        values = self._values_of_array(text) if text[:1] == b"[" else astuple(self._read_object(text))
        return self._looked_at(values, text) if self._odd or self._places else values

    def _values_of(self, params: Any) -> tuple[Any, ...]:
        """Do what `read` does with decoded params, for types whose numbers are ints and floats."""
        if isinstance(params, list) and self._unreached is None:
            taken = len(self.positional)
            named = dict(zip(self.positional, params, strict=False))
            if len(params) > taken:
                named["" if self.rest is None else self.rest] = params[taken:]  # no parameter is called ""
            params = named
        return astuple(msgspec.convert(params, self._struct, str_keys=True, dec_hook=from_json))

    def _values_of_array(self, text: bytes) -> tuple[Any, ...]:
        if self._unreached is not None:
            raise msgspec.ValidationError(f"`{self._unreached}` is missing")
        if self._read_rest is None:
            return astuple(self._read_array(text)) + self._others
        try:
            return (*astuple(self._read_array(text)), UNSET, *self._others)
        except msgspec.ValidationError:  # most likely because there are values for *args
            items, taken = _split(text), len(self.positional)
            if len(items) <= taken:
                raise
        first = astuple(self._read_array(b"[" + b",".join(items[:taken]) + b"]"))
        return (*first, self._read_rest(b"[" + b",".join(items[taken:]) + b"]"), *self._others)

    def _looked_at(self, values: tuple[Any, ...], text: bytes) -> tuple[Any, ...]:
        """Return the values with models validated. Raises msgspec.ValidationError for faults that msgspec misses."""
        found = list(values)
        try:
            for place, needs_zones in self._odd:
                if values[place] is not UNSET:
                    check_leaves(values[place], text, zones=needs_zones)
            for place, model, how in self._places:
                if found[place] is not UNSET:
                    found[place] = _validated(model, how, found[place])
        except ValueError as error:
            raise msgspec.ValidationError(str(error)) from None
        return tuple(found)

    def bind(self, text: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for the function, its defaults filled in. Raises msgspec.ValidationError."""
        values = self.read(text)
        filled = [default if value is UNSET else value for value, default in zip(values, self._defaults, strict=True)]
        end = self._by_position
        arguments = filled[:end]
        if self.rest is not None:
            arguments += filled[end]
            end += 1
        return tuple(arguments), dict(zip(self._keywords, filled[end:], strict=True))

    def by_name(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """Return the values that `read` returned by parameter name, defaults filled in."""
        rows = zip(self._names, values, self._defaults, strict=True)
        return {name: default if value is UNSET else value for name, value, default in rows}

    def place(self, params: Any, pointer: str) -> str:
        """Convert a pointer into the params by name to a pointer into `params` as they were sent."""
        return in_array(params, pointer, self.positional, self.rest)

    def faults(self, params: Any, refusal: str) -> list[Fault]:
        """Return every fault (at most MAX_FAULTS) of params that `convert` refused with `refusal`; at least one."""
        if isinstance(params, dict):
            found = self._object_faults(params)
        elif isinstance(params, list | tuple):
            found = self._array_faults(params)
        else:
            found = iter([Fault("", f"expected array or object, got {kind_of(params)}")])
        first = list(dict.fromkeys(islice(found, MAX_FAULTS + 1)))
        if len(first) > MAX_FAULTS:
            first[-1] = Fault("", f"there are more faults; these are the first {MAX_FAULTS}")
        return first or [Fault("", refusal)]

    def _object_faults(self, params: dict[Any, Any]) -> Iterator[Fault]:
        for parameter in self._parameters:
            name = parameter.name
            if name not in params:
                if parameter.is_required:
                    yield missing_field("", name)
            elif parameter.how is How.REST:
                yield from self._rest_faults(parameter, params[name], missing_field("", name).pointer, 0)
            else:
                yield from self._faults_of(parameter, params[name], missing_field("", name).pointer)
        for name in params:
            if name not in self._names:
                yield unknown_field("", str(name), self._names)

    def _array_faults(self, params: list[Any] | tuple[Any, ...]) -> Iterator[Fault]:
        for index, parameter in enumerate(p for p in self._parameters if p.in_array):
            if parameter.how is How.REST:
                yield from self._rest_faults(parameter, list(params[index:]), "", index)
            elif index < len(params):
                yield from self._faults_of(parameter, params[index], f"/{index}")
            elif parameter.is_required:
                yield Fault(f"/{index}", f"`{parameter.name}` is missing")
        for parameter in self._parameters:
            if parameter.is_required and not parameter.in_array:
                yield Fault("", f"`{parameter.name}` is missing, and can only be given by name; send an object")
        taken = len(self.positional)
        if len(params) > taken and self.rest is None:
            yield Fault(f"/{taken}", f"too many values: expected at most {taken}, got {len(params)}")

    def _rest_faults(self, parameter: Parameter, values: Any, pointer: str, start: int) -> Iterator[Fault]:
        if not isinstance(values, list):
            yield Fault(pointer, f"expected array, got {kind_of(values)}")
            return
        for first in range(0, len(values), _TOGETHER):
            some = values[first : first + _TOGETHER]
            if parameter.name not in self._models and self._refusal(parameter, some, together=True) is None:
                continue
            for index, value in enumerate(some, start + first):
                yield from self._faults_of(parameter, value, f"{pointer}/{index}")

    def _faults_of(self, parameter: Parameter, value: Any, pointer: str) -> Iterator[Fault]:
        if (model := self._models.get(parameter.name)) is not None:
            yield from model.faults(value, pointer)
            return
        refusal = self._refusal(parameter, value)
        if refusal is not None:
            schema = self._schema["properties"][parameter.name]
            if parameter.how is How.REST:
                schema = schema["items"]
            if "$defs" in self._schema:
                schema = {**schema, "$defs": self._schema["$defs"]}
            yield from value_faults(value, schema, pointer, refusal, skip=_BOX.removeprefix("$"))

    def _refusal(self, parameter: Parameter, value: Any, *, together: bool = False) -> str | None:
        """Return the first refusal of a value of a parameter, or of several of *args together; None if it is right."""
        kind = self._boxes[_ALL if together else parameter.name]
        try:
            box = msgspec.convert({"v": value}, kind, str_keys=True, dec_hook=from_json)
            if (traits := self._traits.get(parameter.name)) is not None:
                check_leaves(box, msgspec.json.encode(value), zones=traits.needs_zones)
        except ValueError as error:
            return str(error)
        return None


def _validated(model: Model, how: How, text: Any) -> Any:
    """Return a value, or each value of *args, as pydantic reads it. Raises ValueError."""
    return [model.read(bytes(one)) for one in text] if how is How.REST else model.read(bytes(text))


def _reader(type_: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(type_, dec_hook=from_json).decode


def _is_simple(type_: Any) -> bool:
    """Tell whether a type has only JSON's own types, so that decoded JSON converts to the same value as its text."""
    parts = get_args(type_)
    if get_origin(type_) is Annotated:
        return _is_simple(parts[0])
    return type_ in _SIMPLE or (get_origin(type_) in _OF_SIMPLE and all(map(_is_simple, parts)))


_SIMPLE = (Any, object, int, float, str, bool, None, type(None), list, dict)
_OF_SIMPLE = (list, dict, tuple, Union, UnionType)
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _make_struct(
    parameters: tuple[Parameter, ...], types: Mapping[str, Any], *, array_like: bool = False
) -> type[Struct]:
    """Return a Struct with a field for each parameter, named so that nothing can clash."""
    fields = []
    for index, parameter in enumerate(parameters):
        type_ = types[parameter.name]
        if parameter.how is How.REST:
            type_ = list[type_]  # type: ignore[valid-type]
        default = msgspec.NODEFAULT if parameter.is_required else UNSET
        fields.append((f"p{index}", type_, msgspec.field(default=default, name=parameter.name)))
    return msgspec.defstruct(
        "Params", fields, kw_only=True, frozen=True, forbid_unknown_fields=True, array_like=array_like
    )
