"""API keys, and the callers that use them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeVar

from msgspec import Struct, structs

from tasker.model.failures import FailureFilter
from tasker.model.tasks import TaskFilter

F = TypeVar("F", TaskFilter, FailureFilter)
Scope = Literal["submit", "read", "control", "admin"]
"""submit: submit tasks, and create what submits them. read: read what belongs to the owner. control: cancel, retry,
delete... it. admin: do everything, for all owners."""
SCOPES: tuple[Scope, ...] = ("submit", "read", "control", "admin")


class Caller(Struct, frozen=True):
    """Who makes a request: the owner, the key (None without one), and its scopes.

    owner: "" where no keys are used; tasks then belong to no owner.
    """

    owner: str = ""
    key_id: str | None = None
    scopes: frozenset[Scope] = frozenset()

    def may(self, scope: Scope) -> bool:
        """Tell whether the caller has the scope; an admin has every scope."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def only(self) -> str | None:
        """The only owner whose tasks the caller sees; None: all owners'."""
        return None if "admin" in self.scopes else self.owner

    def sees(self, owner: str | None) -> bool:
        """Tell whether the caller sees what belongs to `owner`; to other callers it does not exist."""
        return "admin" in self.scopes or self.owner == (owner or "")

    def narrow(self, where: F) -> F | None:
        """Return the filter for what the caller sees; None if it sees nothing of it."""
        if self.only is None:
            return where
        return structs.replace(where, owner=self.only) if where.owner in (None, self.only) else None


NOBODY = Caller()
"""The caller without a key if keys are required: may do nothing."""
ANYBODY = Caller(scopes=frozenset(SCOPES))
"""The caller if no key is required: may do everything."""


KEEP_DEAD_KEYS = 1000
"""How many of the newest revoked or expired keys are kept: the audit log has their ids."""


def as_scopes(caller: Caller) -> tuple[Scope, ...]:
    """Return a caller's scopes in the order of SCOPES, to store with a schedule that will act for the caller."""
    return tuple(scope for scope in SCOPES if scope in caller.scopes)


class Key(Struct, frozen=True, kw_only=True):
    """A key as it is stored. `digest`: the SHA-256 of its secret, which is not stored.

    rate, burst: limits of requests a second, and at once; None for no limit. daily_budget: US dollars that its tasks
    may cost on one day; None for no limit.
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
        """Tell whether the key is valid: neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def caller(self) -> Caller:
        """The caller that uses this key."""
        return Caller(owner=self.owner, key_id=self.key_id, scopes=frozenset(self.scopes))
