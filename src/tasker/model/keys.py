"""Who asks, by which key, and what that may do."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

Scope = Literal["submit", "read", "control", "admin"]
"""submit: tasks, and what submits them. read: what is one's own. control: cancel, retry, delete... of it.
admin: everything, and everybody's."""
SCOPES: tuple[Scope, ...] = ("submit", "read", "control", "admin")


class Caller(Struct, frozen=True):
    """Who asks: for which owner, by which key (None: by none), and what that may do.

    `owner` is "" where no keys are used; what is submitted then belongs to nobody.
    """

    owner: str = ""
    key_id: str | None = None
    scopes: frozenset[Scope] = frozenset()

    def may(self, scope: Scope) -> bool:
        """Tell whether this is within the caller's rights; an admin may do everything."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def only(self) -> str | None:
        """The owner whose things alone the caller sees; None: everybody's."""
        return None if "admin" in self.scopes else self.owner

    def sees(self, owner: str | None) -> bool:
        """Tell whether the caller sees what belongs to `owner`; to everybody else it is not there."""
        return "admin" in self.scopes or self.owner == (owner or "")


NOBODY = Caller()
"""Who has shown no key where one is needed: may do nothing."""
ANYBODY = Caller(scopes=frozenset(SCOPES))
"""Who asks where no key is needed: may do everything."""


KEEP_DEAD_KEYS = 1000
"""Keys that open nothing any more are kept, so many of the newest: their ids are in the record of who did what."""


def as_scopes(caller: Caller) -> tuple[Scope, ...]:
    """Return what a caller may do, in the order of SCOPES: as it is kept with what goes on acting for the caller."""
    return tuple(scope for scope in SCOPES if scope in caller.scopes)


class Key(Struct, frozen=True, kw_only=True):
    """A key as it is stored: `digest` is the SHA-256 of its secret, which nobody keeps.

    rate: requests a second at the most, `burst` of them at once; None for no limit. daily_budget: US dollars that its
    tasks may cost on one day, None for no limit.
    """

    key_id: str
    name: str
    owner: str
    scopes: tuple[Scope, ...]
    digest: bytes
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    rate: float | None = None
    burst: int | None = None
    daily_budget: float | None = None

    def is_good(self, now: datetime) -> bool:
        """Tell whether it opens anything: it is not revoked, and its time is not over."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def caller(self) -> Caller:
        """Who asks with it."""
        return Caller(owner=self.owner, key_id=self.key_id, scopes=frozenset(self.scopes))
