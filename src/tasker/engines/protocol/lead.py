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

        A leader calls it about every second, and counts as dead after three seconds without a call. Raises Unavailable.
        """

    async def give_up(self) -> None:
        """Let another process take the lead at once. Idempotent. Raises Unavailable."""
