"""Problems (RFC 9457): why a request was refused."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from tasker.errors import Fault
from tasker.wire.shapes import Always


class Problem(Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem; `type` is a page that explains it, `errors` has every fault of the input."""

    type: Always[str] = ""
    title: Always[str] = ""
    status: Always[int] = 0
    detail: Always[str] = ""
    request_id: Always[str] = ""
    errors: tuple[Fault, ...] | UnsetType = UNSET
