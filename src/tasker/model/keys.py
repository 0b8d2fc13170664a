"""Who asks, and what they may do."""

from __future__ import annotations

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
