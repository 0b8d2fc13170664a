"""What a person may set of a queue: the body of PATCH /queue/{name}, read, checked and typed; every fault at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.errors import Fault, Invalid
from tasker.model.queues import QueueChange, Rate
from tasker.validation.durations import IsoDuration, read_duration
from tasker.validation.faults import Faults, kind_of, missing_field, refusal_fault, unknown_field
from tasker.validation.jsontext import read_json

MAX_CONCURRENCY = 1_000_000
MAX_UNITS = 1_000_000_000
MAX_PER = timedelta(days=366)
_LEAST_PER = timedelta(milliseconds=1)

Slots = Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)]
Units = Annotated[int, Meta(ge=1, le=MAX_UNITS)]
Per = (
    Annotated[
        float,
        Meta(
            ge=_LEAST_PER.total_seconds(), le=MAX_PER.total_seconds(), description="Seconds, or an ISO 8601 duration."
        ),
    ]
    | IsoDuration
)


class RateBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rate: so many units of `weight` in so many seconds, evenly. A task's start costs its `weight`, by default 1."""

    limit: Annotated[Units, Meta(description="Units that may start in each `per`.")]
    per: Per = 1.0
    burst: Annotated[
        Units | None, Meta(description="Units that may start at once after a quiet while; a tenth of `limit` if null.")
    ] = None


class QueuePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PATCH /queue/{name}: what is to be changed. Null takes a limit away; what is left out stays."""

    paused: Annotated[bool, Meta(description="Whether nothing of the queue starts; what runs goes on.")] | UnsetType = (
        UNSET
    )
    concurrency: Annotated[Slots | None, Meta(description="How many tasks of the queue run at a time.")] | UnsetType = (
        UNSET
    )
    concurrency_per_key: (
        Annotated[
            Slots | None,
            Meta(description="How many tasks of one owner with one `concurrency_key` run at a time."),
        ]
        | UnsetType
    ) = UNSET
    rate: RateBody | UnsetType | None = UNSET
    shared_keys: (
        Annotated[bool, Meta(description="Whether all owners' tasks with one `concurrency_key` are counted together.")]
        | UnsetType
    ) = UNSET


def _per(value: Any) -> timedelta:
    return read_duration(value, MAX_PER, least=_LEAST_PER)


_READERS: dict[str, Any] = {
    "paused": bool, "concurrency": Slots | None, "concurrency_per_key": Slots | None, "shared_keys": bool,
}  # fmt: skip
_RATE: dict[str, Any] = {"limit": Units, "per": _per, "burst": Units | None}


def read_queue_change(body: bytes) -> QueueChange:
    """Read the body of a change. Raises Malformed (not JSON that is taken) or Invalid (with every fault)."""
    value = read_json(body)
    if not isinstance(value, dict):
        raise Invalid("expected an object", faults=[Fault("", f"expected an object, got {kind_of(value)}")])
    faults = Faults()
    known = (*_READERS, "rate")
    fields = {name: _read(value[name], _READERS[name], f"/{name}", faults) for name in value if name in _READERS}
    if "rate" in value:
        fields["rate"] = _read_rate(value["rate"], faults)
    for name in value:
        if faults.is_full:
            break
        if name not in known:
            faults.put(unknown_field("", name, known), "unknown-field")
    faults.check()
    return QueueChange(**fields)


def _read_rate(value: Any, faults: Faults) -> Rate | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        faults.add("/rate", f"expected an object or null, got {kind_of(value)}")
        return None
    before = len(faults)
    given = {name: member for name, member in value.items() if member is not None or name == "limit"}
    for name in value:
        if faults.is_full:
            break
        if name not in _RATE:
            faults.put(unknown_field("/rate", name, _RATE), "unknown-field")
    if "limit" not in value:
        faults.put(missing_field("/rate", "limit"))
    read = {name: _read(given[name], _RATE[name], f"/rate/{name}", faults) for name in given if name in _RATE}
    if len(faults) > before:
        return None
    limit: int = read["limit"]
    return Rate(limit=limit, per=read.get("per", timedelta(seconds=1)), burst=read.get("burst") or max(1, limit // 10))


def _read(value: Any, type_: Any, pointer: str, faults: Faults) -> Any:
    try:
        return _per(value) if type_ is _per else msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        faults.put(refusal_fault(str(error), pointer))
    except ValueError as error:
        faults.add(pointer, str(error))
    return None
