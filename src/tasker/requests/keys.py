"""The body of POST /key: what a new key shall be."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tasker.model.keys import Scope
from tasker.requests.body import Moment

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class KeyBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new key shall be; null is the same as left out."""

    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4, description="What it may do.")]
    name: Annotated[Name, Meta(description="What it is for, in a word; else its id.")] | None = None
    owner: Annotated[Name, Meta(description="Whose tasks it submits and sees; else its name.")] | None = None
    expires_at: (
        Annotated[Moment, Meta(description="It opens nothing from then on; else it is good for ever.")] | None
    ) = None
    rate: Annotated[float, Meta(ge=0.001, le=1_000_000, description="Requests a second at the most.")] | None = None
    burst: (
        Annotated[int, Meta(ge=1, le=1_000_000, description="So many at once; else those of two seconds.")] | None
    ) = None
    daily_budget: Annotated[float, Meta(ge=0, description="US dollars that its tasks may cost on one day.")] | None = (
        None
    )
