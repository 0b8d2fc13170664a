"""Whose tasks are counted for whom: how many wait, which are before one's own, and how long they take."""

from __future__ import annotations

from typing import NamedTuple

from tasker.model.keys import Caller


class Load(NamedTuple):
    """is_public: whether everybody who may read is told of all owners' tasks together; else admins alone are."""

    is_public: bool = False

    def of(self, caller: Caller) -> str | None:
        """Return the owner whose tasks alone are counted for the caller; None: everybody's."""
        return None if self.is_public else caller.only
