"""The inbox: submissions that other programs have stored in their own transactions, on a store that they share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from tasker.model.inbox import Arrival, TakenIn

AWAKE = timedelta(milliseconds=100)
"""How long nobody is told of arrivals after a commit of a process that then looks without being told."""


class Look(NamedTuple):
    """Which arrivals are looked for. types: known ones; others are left out until they have waited for `patience`.

    max_size: of params and options together, in bytes; larger ones are not read. late: only those that have waited
    for so long.
    """

    types: Collection[str]
    patience: timedelta
    max_size: int
    late: timedelta = timedelta(0)


class InboxStore(Protocol):
    """Holds arrivals until one process takes them in: each becomes exactly one task, under the id that it has."""

    async def find(self, task_id: UUID, look: Look) -> Arrival | None:
        """Return the arrival with this id, whatever its type and age."""

    async def find_many(self, look: Look, *, limit: int) -> list[Arrival]:
        """Return the first arrivals, in the order in which they were submitted."""

    async def take_in(self, arrivals: Sequence[TakenIn], *, is_awake: bool = False) -> int:
        """Make tasks of arrivals in one commit; return of how many. One that another process has taken is left out.

        A draft that is refused, or for which another task answers, becomes a task that has ended and says why: failed
        or cancelled. is_awake: this process goes on looking for AWAKE, so that nobody needs to be told meanwhile.
        Raises what `Engine.submit` raises; then nothing has changed.
        """

    def watching(self, wake: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Call `wake` meanwhile when submissions have arrived.

        A call may be lost, and nobody is told for AWAKE after a commit of a process that was awake.
        """
