"""The lead: which one of the processes of a store does the store's chores."""

from __future__ import annotations

from typing import Protocol


class Lead(Protocol):
    """Gives the lead to one process at a time.

    A process that stood still may take itself for the leader for a moment longer: what leaders do must be safe to be
    done by two of them.
    """

    async def hold(self) -> bool:
        """Keep the lead, or take it if no live process has it; return whether this process has it.

        Called about every second. A leader that has not called it for three seconds counts as dead. Raises Unavailable.
        """

    async def give_up(self) -> None:
        """Let another process take the lead at once. Idempotent. Raises Unavailable."""
