"""Params of a submission, by position or by name: checked, and bound to the arguments of a function.

One msgspec.convert into a generated Struct is all that valid params cost; faults.py is asked only about refused ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import astuple

from tasker.errors import Fault
from tasker.faults import MAX_FAULTS, kind_of, missing_field, unknown_field, value_faults
from tasker.jsontext import unescape
from tasker.schema import Schema
from tasker.signature import How, Parameter

_BOX = "$.v"


def make_box(type_: Any) -> type[Struct]:
    """Return a Struct with one field `v`: msgspec keeps what it knows of a Struct, not what it knows of a union."""
    return msgspec.defstruct("Box", [("v", type_)])


class Params:
    """What a function takes. `schema` is that of the object; it must be made from the same parameters.

    positional: the names that an array reaches, in order. rest: the name of *args, or None.
    """

    def __init__(self, parameters: tuple[Parameter, ...], schema: Schema) -> None:
        self.positional = tuple(p.name for p in parameters if p.in_array and p.how is not How.REST)
        self.rest = next((p.name for p in parameters if p.how is How.REST), None)
        self._parameters = parameters
        self._schema = schema
        self._names = tuple(p.name for p in parameters)
        self._defaults = tuple(p.default for p in parameters)
        self._by_position = sum(p.how is How.POSITION for p in parameters)
        self._keywords = tuple(p.name for p in parameters if p.how is How.KEYWORD)
        self._boxes = {p.name: make_box(p.type) for p in parameters}
        self._struct = _make_struct(parameters)

    def convert(self, params: Any) -> Struct:
        """Return the params as a Struct, UNSET where a default holds. Raises msgspec.ValidationError."""
        named = self._name(params) if isinstance(params, list | tuple) else params
        return msgspec.convert(named, self._struct, str_keys=True)

    def _name(self, params: list[Any] | tuple[Any, ...]) -> dict[str, Any]:
        named = dict(zip(self.positional, params, strict=False))
        taken = len(self.positional)
        if len(params) > taken:
            if self.rest is None:
                raise msgspec.ValidationError("too many values")
            named[self.rest] = params[taken:]
        return named

    def bind(self, params: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for the function, its defaults filled in. Raises msgspec.ValidationError."""
        values = astuple(self.convert(params))
        filled = [default if value is UNSET else value for value, default in zip(values, self._defaults, strict=True)]
        end = self._by_position
        arguments = filled[:end]
        if self.rest is not None:
            arguments += filled[end]
            end += 1
        return tuple(arguments), dict(zip(self._keywords, filled[end:], strict=True))

    def by_name(self, converted: Struct) -> dict[str, Any]:
        """Return what `convert` returned by the names of the parameters, defaults filled in."""
        values = zip(self._names, astuple(converted), self._defaults, strict=True)
        return {name: default if value is UNSET else value for name, value, default in values}

    def place(self, params: Any, pointer: str) -> str:
        """Return where in `params`, as they were sent, stands what `pointer` names in an object."""
        if isinstance(params, dict) or not pointer:
            return pointer
        _, name, *rest = pointer.split("/")
        if unescape(name) in self.positional:
            return "/".join(("", str(self.positional.index(unescape(name))), *rest))
        if unescape(name) == self.rest and rest:
            return "/".join(("", str(len(self.positional) + int(rest[0])), *rest[1:]))
        return ""

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
            if name not in self._boxes:
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
        for index, value in enumerate(values, start):
            yield from self._faults_of(parameter, value, f"{pointer}/{index}")

    def _faults_of(self, parameter: Parameter, value: Any, pointer: str) -> Iterator[Fault]:
        try:
            msgspec.convert({"v": value}, self._boxes[parameter.name], str_keys=True)
        except msgspec.ValidationError as error:
            schema = self._schema["properties"][parameter.name]
            if parameter.how is How.REST:
                schema = schema["items"]
            if "$defs" in self._schema:
                schema = {**schema, "$defs": self._schema["$defs"]}
            yield from value_faults(value, schema, pointer, str(error), skip=_BOX.removeprefix("$"))


def _make_struct(parameters: tuple[Parameter, ...]) -> type[Struct]:
    """Return a Struct with a field for each parameter, under names that cannot clash with anything."""
    fields = []
    for index, parameter in enumerate(parameters):
        type_ = list[parameter.type] if parameter.how is How.REST else parameter.type  # type: ignore[name-defined]
        default = msgspec.NODEFAULT if parameter.is_required else UNSET
        fields.append((f"p{index}", type_, msgspec.field(default=default, name=parameter.name)))
    return msgspec.defstruct("Params", fields, kw_only=True, frozen=True, forbid_unknown_fields=True)
