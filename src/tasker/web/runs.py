"""The run form of a task type: its state, as a form or as JSON, and the request that it makes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal
from uuid import UUID

import msgspec

from tasker.errors import Fault
from tasker.model import Task
from tasker.rules.secrets import MASK
from tasker.tasktypes.schema import make_example
from tasker.tasktypes.tasktype import TaskType
from tasker.web.forms.exact import ABSENT, MAX_TEXT, Absent, Broken, Given, Value, exact, find_broken, parse, write
from tasker.web.forms.fields import Field, blank, fill, place_faults
from tasker.web.forms.posted import read
from tasker.web.forms.shapes import Kind, Shape, shape_of
from tasker.web.options import ROOT, options_of, shape_of_options
from tasker.web.page import Form

View = Literal["form", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a run form holds. source: what it was filled with, in words. origin: the task that is run again.

    keeps_steps: whether the steps of that task are copied.
    """

    params: Value
    options: Value
    view: View = "form"
    source: str = "Edited"
    origin: UUID | None = None
    keeps_steps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A run form to be rendered. faults: each with the id of its control, its name and what is wrong.

    options_open: whether the options are unfolded.
    """

    params: Field
    options: Field
    json: str
    view: View
    source: str
    origin: UUID | None
    keeps_steps: bool
    options_open: bool
    faults: tuple[tuple[str, str, str], ...] = ()


@lru_cache(maxsize=256)
def run_form(task_type: TaskType) -> RunForm:
    """Return the run form of a task type. Types are compared by identity: one that changes is another."""
    return RunForm(task_type)


class RunForm:
    """Makes, reads and shows the run form of a task type."""

    def __init__(self, task_type: TaskType) -> None:
        self._type = task_type
        self._params = shape_of(task_type.input_schema)
        self._options = shape_of_options(task_type)
        self.has_own_example = task_type.example is not None and not _is_made(task_type)
        """Whether the type has an example that its author gave: one made from the schema is no good input."""

    def empty(self) -> Filled:
        """Return the form with nothing but what must be there."""
        return Filled(params=_value(blank(self._params)), options={}, source="Defaults")

    def example(self) -> Filled:
        """Return the form with the example of the type, or empty if it has none."""
        if self._type.example is None:
            return self.empty()
        given = self._by_name(exact(self._type.example))
        return Filled(params=_value(_without_defaults(self._params, given)), options={}, source="Example")

    def of_task(self, task: Task, *, again: bool) -> Filled:
        """Return the form with the params of a task. again: also with its options, as a replay of it."""
        text = bytes(task.params).decode()
        source = f"Task {str(task.task_id)[-12:]}" if again else "Last run"
        origin = task.task_id if again else None
        options: Value = options_of(task) if again else {}
        if len(text) > MAX_TEXT:
            return replace(self.empty(), source=f"{source}: its params are too large to be edited here")
        params = _value(_without_secrets(self._params, self._by_name(parse(text))))
        return Filled(params=params, options=options, source=source, origin=origin)

    def read(self, form: Form, *, remove: str | None = None) -> Filled:
        """Return what was posted. remove: the name of a row that is left out."""
        view: View = "json" if form.get("view") == "json" else "form"
        if view == "json":
            text = form.get("json")
            params = self._by_name(parse(text)) if text.strip() else {}
        else:
            params = _value(read(self._params, form.pairs, remove=remove))
        return Filled(
            params=params,
            options=_value(read(self._options, form.pairs, remove=remove, root=ROOT)),
            view=view,
            origin=_task_id(form.get("origin")),
            keeps_steps=form.get("keep_steps") != "",
        )

    def show(self, draft: Filled, faults: Iterable[Fault] = (), *, add: str | None = None) -> Shown:
        """Return the form to be rendered. faults: with pointers into the body of POST /task. add: see `fill`."""
        params = fill(self._params, draft.params, add=add)
        options = fill(self._options, draft.options, add=add, root=ROOT)
        placed = [_placed(params, options, draft.view, fault) for fault in faults]
        return Shown(
            params=params,
            options=options,
            json=write(_without_secrets(self._params, draft.params), "  "),
            view=draft.view,
            source=draft.source,
            origin=draft.origin,
            keeps_steps=draft.keeps_steps,
            options_open=bool(draft.options) or bool(add and add.startswith(ROOT.path)),
            faults=tuple(placed),
        )

    def broken(self, draft: Filled) -> list[Fault]:
        """Return the faults of what is no JSON, with pointers into the body of POST /task."""
        found = [Fault(f"/params{pointer}", detail) for pointer, detail in find_broken(draft.params)]
        return found + [Fault(pointer, detail) for pointer, detail in find_broken(draft.options)]

    def body(self, draft: Filled) -> bytes:
        """Return the body of POST /task, or of a replay. Nothing in the draft may be broken."""
        members: dict[str, Value] = {} if draft.origin else {"type": self._type.name}
        if draft.origin and draft.keeps_steps:
            members["keep_steps"] = True
        members["params"] = draft.params
        if isinstance(draft.options, dict):
            members |= draft.options
        return write(members).encode("utf-8", "surrogatepass")

    def public(self, draft: Filled) -> tuple[Value, dict[str, Value]]:
        """Return the params and the options that may be shown: without secrets, and without what is broken."""
        options = draft.options if isinstance(draft.options, dict) else {}
        shown = {name: value for name, value in options.items() if name != "webhook" and not any(find_broken(value))}
        params = _value(_without_secrets(self._params, draft.params))
        return {} if any(find_broken(params)) else params, shown

    def turned(self, draft: Filled, *, to_json: bool) -> tuple[Filled, list[Fault]]:
        """Return a draft in the other view, and faults; JSON that cannot be read stays JSON."""
        faults = [fault for fault in self.broken(draft) if fault.pointer == "/params"]
        if draft.view == "json" and not to_json and isinstance(draft.params, Broken):
            return draft, faults
        return replace(draft, view="json" if to_json else "form"), []

    def _by_name(self, params: Value) -> Value:
        """Return params that are given by position as params by name, if there is a name for each."""
        names, rest = self._type.positional, self._type.rest
        if not isinstance(params, list) or (len(params) > len(names) and rest is None):
            return params
        named: dict[str, Value] = dict(zip(names, params, strict=False))
        if rest is not None and len(params) > len(names):
            named[rest] = params[len(names) :]
        return named


def _placed(params: Field, options: Field, view: View, fault: Fault) -> tuple[str, str, str]:
    """Put a fault at its field; return the id of the control, its name and the detail."""
    is_param = fault.pointer == "/params" or fault.pointer.startswith("/params/")
    pointer = fault.pointer.removeprefix("/params") if is_param else fault.pointer
    name = pointer[1:].replace("/", ".") or ("params" if is_param else "")
    if is_param and view == "json":
        return "json", name, fault.detail
    [(field, detail)] = place_faults(params if is_param else options, [(pointer, fault.detail)])
    return field.id, name, detail


def _is_made(task_type: TaskType) -> bool:
    """Tell whether the example of a type is the one that is made from its schema."""
    try:
        return bool(make_example(task_type.input_schema) == task_type.example)
    except Exception:  # the schema may be any other process's: whatever it makes fail, the example is not made from it
        return False


def _value(params: Given) -> Value:
    return {} if isinstance(params, Absent) else params


def _task_id(text: str) -> UUID | None:
    try:
        return msgspec.convert(text, UUID)
    except msgspec.ValidationError:
        return None


def _without_defaults(shape: Shape, value: Given) -> Given:
    """Return params without those that are as when they are left out."""
    if not isinstance(value, dict):
        return value
    defaults = {member.name: member.shape.default for member in shape.members if not member.is_required}
    return {name: each for name, each in value.items() if defaults.get(name, ABSENT) != each}


def _without_secrets(shape: Shape, value: Given) -> Given:
    """Return a value without its secrets, which no page shows; a mask stands for one."""
    if isinstance(value, list) and shape.kind is Kind.LIST and shape.item is not None:
        kept = [_without_secrets(shape.item, each) for each in value]
        return [each for each in kept if not isinstance(each, Absent)]
    if shape.is_secret or (value == MASK and shape.kind is Kind.SECRET):
        return ABSENT
    if isinstance(value, dict) and shape.kind is Kind.OBJECT:
        shapes = {member.name: member.shape for member in shape.members}
        kept_members = {
            name: _without_secrets(shapes[name], each) if name in shapes else each for name, each in value.items()
        }
        return {name: each for name, each in kept_members.items() if not isinstance(each, Absent)}
    return value
