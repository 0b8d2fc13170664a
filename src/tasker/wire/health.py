"""Health: replies to probes."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType


class Live(Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


class Ready(Struct, frozen=True, kw_only=True):
    """Whether the service can do its work; `checks`, for callers who may see all, has "ok" or what is wrong."""

    ready: bool
    checks: dict[str, str] | UnsetType = UNSET
