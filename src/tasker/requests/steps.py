"""The bodies of an answer to a task's question, and of a retry that forgets steps."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from tasker.errors import Fault
from tasker.model.steps import Forget, Step
from tasker.requests.body import Moment, array, read_members, read_object
from tasker.rules.steps import unknown_names
from tasker.validation.faults import Faults, missing_field

MAX_NAMES = 100
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class InputBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer to a question of a task."""

    name: Annotated[Name, Meta(description="The name of the question, as `input.name` of the task has it.")]
    value: Annotated[Any, Meta(description="The answer, any JSON that fits `input.schema`.")]
    asked_at: (
        Annotated[Moment, Meta(description="Answer only the question that was asked then, not a later one.")] | None
    ) = None


class Input(NamedTuple):
    """An answer as it was sent; value: JSON text."""

    name: str
    value: bytes
    asked_at: Any = None


class RetryTaskBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """Which steps the retry forgets: it runs them again. Without it, all that are stored are kept."""

    since: Annotated[Name, Meta(description="This step, and all that were stored after it.")] | None = None
    forget: (
        Annotated[
            list[Name],
            Meta(min_length=1, max_length=MAX_NAMES, description="Only the steps with these names or keys."),
            array(Name, MAX_NAMES, "names of steps"),
        ]
        | None
    ) = None


class _Value(Struct):
    value: Raw = Raw(b"null")


_decode_value = msgspec.json.Decoder(_Value).decode


def read_input(body: bytes) -> Input:
    """Read the body of an answer; its value may be null. Raises Malformed, Invalid with every fault."""
    faults = Faults()
    given = read_object(body)
    fields = read_members(given, InputBody, faults)
    if given.get("name") is None:
        faults.put(missing_field("", "name"))
    if "value" not in given:
        faults.put(missing_field("", "value"))
    faults.check()
    return Input(fields["name"], bytes(_decode_value(body).value), fields.get("asked_at"))


def read_forget(body: bytes) -> Forget | None:
    """Read the body of a retry, which may be empty; None if all steps are kept. Raises Malformed, Invalid."""
    if not body.strip():
        return None
    faults = Faults()
    fields = read_members(read_object(body), RetryTaskBody, faults)
    names, since = fields.get("forget"), fields.get("since")
    if names is not None and not names:
        faults.add("/forget", "expected at least one name of a step")
    if names is not None and since is not None:
        faults.add("/forget", "give `from` or `forget`, not both")
    faults.check()
    if names is None and since is None:
        return None
    return Forget(names=tuple(dict.fromkeys(names or ())), since=since)


def check_names(forget: Forget, steps: list[Step]) -> None:
    """Raise Invalid for each name in `forget` that no step has."""
    faults, unknown = Faults(), unknown_names(forget, steps)
    if forget.since in unknown:
        faults.put(Fault("/from", "the task has no such step"))
    for place, name in enumerate(forget.names):
        if name in unknown:
            faults.put(Fault(f"/forget/{place}", "the task has no such step"))
    faults.check()
