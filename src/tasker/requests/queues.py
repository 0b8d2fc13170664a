"""The body of PATCH /queue/{name}: the settings of a queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from tasker.model.queues import QueueChange, Rate
from tasker.requests.body import Reads, duration, read_members, read_object, read_whole
from tasker.validation.durations import IsoDuration
from tasker.validation.faults import Faults, kind_of

MAX_CONCURRENCY = 1_000_000
MAX_UNITS = 1_000_000_000
MAX_PER = timedelta(days=366)
_MIN_PER = timedelta(milliseconds=1)

Slots = Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)]
Units = Annotated[int, Meta(ge=1, le=MAX_UNITS)]
Per = Annotated[
    Annotated[
        float,
        Meta(ge=_MIN_PER.total_seconds(), le=MAX_PER.total_seconds(), description="Seconds, or an ISO 8601 duration."),
    ]
    | IsoDuration,
    duration(MAX_PER, least=_MIN_PER),
]


class RateBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rate: `limit` units of weight in each `per`, spread evenly. A task's start costs its `weight`, default 1."""

    limit: Annotated[Units, Meta(description="Units that may start in each `per`.")]
    per: Per = 1.0
    burst: Annotated[
        Units | None, Meta(description="Units that may start at once after a pause; a tenth of `limit` if null.")
    ] = None


def _read_rate(value: Any, pointer: str, faults: Faults) -> Rate | None:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object or null, got {kind_of(value)}")
    before = len(faults)
    fields = read_whole(value, RateBody, faults, pointer)
    if len(faults) > before:
        return None
    otherwise: dict[str, Any] = {"per": timedelta(seconds=1), "burst": max(1, fields["limit"] // 10)}
    return Rate(**(otherwise | fields))


class QueuePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of PATCH /queue/{name}: the fields to change. Null removes a limit; fields left out stay as they are."""

    paused: (
        Annotated[bool, Meta(description="Whether no task of the queue starts; running ones go on.")] | UnsetType
    ) = UNSET
    concurrency: (
        Annotated[Slots | None, Meta(description="How many tasks of the queue may run at a time.")] | UnsetType
    ) = UNSET
    concurrency_per_key: (
        Annotated[
            Slots | None,
            Meta(description="How many tasks of one owner with the same `concurrency_key` may run at a time."),
        ]
        | UnsetType
    ) = UNSET
    rate: Annotated[RateBody, Reads(_read_rate)] | UnsetType | None = UNSET
    shared_keys: (
        Annotated[bool, Meta(description="Whether tasks of all owners with the same `concurrency_key` count together.")]
        | UnsetType
    ) = UNSET


def read_queue_change(body: bytes) -> QueueChange:
    """Read the body of a change. Raises Malformed (not valid JSON) or Invalid (with every fault)."""
    faults = Faults()
    fields = read_members(read_object(body), QueuePatch, faults, resets={"rate": None})
    faults.check()
    return QueueChange(**fields)
