"""Task types that only other processes run: described by their workers, checked here by their JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property
from itertools import islice
from typing import Any, NoReturn

import msgspec

from tasker.errors import Fault
from tasker.model.types import PublishedType
from tasker.rules.secrets import Places
from tasker.tasktypes.params import in_array
from tasker.tasktypes.results import Results
from tasker.tasktypes.tasktype import TaskType
from tasker.validation.encoding import read_any
from tasker.validation.faults import MAX_FAULTS, is_small, kind_of, make_validator, schema_faults

_BY_NAME_ALONE = ", and can only be given by name; send an object"


class SchemaParams:
    """Checks the params of a published type, in place of the Params of a function.

    Params of more than `faults.MAX_NODES` values would block the event loop here, so only the worker checks them; if
    they do not fit, the attempt fails at once.
    """

    def __init__(self, published: PublishedType) -> None:
        self.positional = published.positional
        self.rest = published.rest
        self._schema = published.input_schema

    @cached_property
    def _validator(self) -> Any:
        return make_validator(self._schema)

    def read(self, text: bytes) -> Any:
        """Return the params by name, from their JSON text. Raises msgspec.ValidationError."""
        params = read_any(text)
        fault = next(self._find_faults(params), None)
        if fault is not None:
            raise msgspec.ValidationError(fault.detail)
        return self._name(params) if isinstance(params, list) else params

    def bind(self, text: bytes) -> NoReturn:
        raise AssertionError("a task is run only where its function is")

    def by_name(self, values: Any) -> dict[str, Any]:
        """Return what `read` returned."""
        return dict(values)

    def place(self, params: Any, pointer: str) -> str:
        """Convert a pointer into the params by name to a pointer into `params` as they were sent."""
        return in_array(params, pointer, self.positional, self.rest)

    def faults(self, params: Any, refusal: str) -> list[Fault]:
        """Return every fault (at most MAX_FAULTS) of params that `read` refused with `refusal`; at least one."""
        found = list(dict.fromkeys(islice(self._find_faults(params), MAX_FAULTS + 1)))
        if len(found) > MAX_FAULTS:
            found[-1] = Fault("", f"there are more faults; these are the first {MAX_FAULTS}")
        return found or [Fault("", refusal)]

    def _find_faults(self, params: Any) -> Iterator[Fault]:
        if not isinstance(params, dict | list):
            yield Fault("", f"expected array or object, got {kind_of(params)}")
            return
        taken = len(self.positional)
        if isinstance(params, list) and len(params) > taken and self.rest is None:
            yield Fault(f"/{taken}", f"too many values: expected at most {taken}, got {len(params)}")
        named = self._name(params) if isinstance(params, list) else params
        if is_small(named):
            for fault in schema_faults(self._validator, named):
                place = self.place(params, fault.pointer)
                is_out_of_reach = fault.pointer and not place and fault.detail.endswith("is missing")
                yield Fault(place, f"{fault.detail}{_BY_NAME_ALONE if is_out_of_reach else ''}")

    def _name(self, params: list[Any]) -> dict[str, Any]:
        named = dict(zip(self.positional, params, strict=False))
        if self.rest is not None and len(params) > len(self.positional):
            named[self.rest] = params[len(self.positional) :]
        return named


_SAME = (
    "name",
    "description",
    "input_schema",
    "output_schema",
    "example",
    "queue",
    "priority",
    "policy",
    "is_async",
    "memory_limit",
    "costs",
)
"""Fields that TaskType and PublishedType have in common."""


def publish(task_type: TaskType) -> PublishedType:
    """Return the description of a registered type for other processes."""
    retention = task_type.retention
    return PublishedType(
        **{name: getattr(task_type, name) for name in _SAME},
        positional=task_type.positional,
        rest=task_type.rest,
        retention=retention if isinstance(retention, timedelta) else None,
        secrets=() if task_type.secrets is None else tuple(sorted(task_type.secrets.names)),
    )


def revive(published: PublishedType) -> TaskType:
    """Return a task type that can be submitted, but not run here."""
    secrets = frozenset(published.secrets)
    return TaskType(
        **{name: getattr(published, name) for name in _SAME},
        function=_run_elsewhere,
        policy_json=msgspec.json.encode(published.policy),
        context_parameter=None,
        source="a worker",
        retention="forever" if published.retention is None else published.retention,
        secrets=Places(secrets, published.positional, published.rest) if secrets else None,
        _params=SchemaParams(published),
        _check=None,
        _results=Results(Any),
    )


def _run_elsewhere() -> NoReturn:
    raise AssertionError("a task is run only where its function is")
