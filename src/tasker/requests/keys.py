"""The body of POST /key."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from tasker.model.keys import Scope
from tasker.requests.body import Moment

Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class KeyBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key; null is the same as left out."""

    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4, description="What it may do.")]
    name: Annotated[Name, Meta(description="A label; by default its id.")] | None = None
    owner: Annotated[Name, Meta(description="Whose tasks it submits and sees; by default its name.")] | None = None
    expires_at: (
        Annotated[Moment, Meta(description="It is invalid from then on; by default it never expires.")] | None
    ) = None
    rate: Annotated[float, Meta(ge=0.001, le=1_000_000, description="Requests a second at most.")] | None = None
    burst: (
        Annotated[
            int,
            Meta(ge=1, le=1_000_000, description="Requests that may come at once; by default those of two seconds."),
        ]
        | None
    ) = None
    daily_budget: Annotated[float, Meta(ge=0, description="US dollars that its tasks may cost in a day.")] | None = None
