"""The lead of an embedded store, which the one process that has the file always has."""

from __future__ import annotations


class SqliteLead:
    """The Lead of the embedded engine."""

    async def hold(self) -> bool:
        return True

    async def give_up(self) -> None:
        """Do nothing: no other process can take it."""
