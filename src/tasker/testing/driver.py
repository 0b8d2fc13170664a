"""Take tasks through an engine's steps by hand."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from random import Random
from uuid import UUID

from tasker.clock import Clock
from tasker.engines.protocol import ClaimRequest, Engine
from tasker.errors import NotFound
from tasker.model import Claim, Draft, Report, Task
from tasker.rules.lifecycle import Interrupted, Outcome, decide
from tasker.testing.drafts import make_draft


class Driver:
    """Takes tasks through their steps by hand, one call each, as service, worker and reaper do.

    Nothing waits: a claim with nothing to take returns [].
    """

    def __init__(
        self, engine: Engine, clock: Clock, *, worker: str = "worker-1", lease_for: timedelta = timedelta(seconds=30)
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.worker = worker
        self.lease_for = lease_for
        self._random = Random(0)  # noqa: S311  jitter only, and the same in each run

    async def submit(self, draft: Draft | None = None) -> UUID:
        """Submit one draft (by default `make_draft` now) and return the id of its receipt."""
        [receipt] = await self.engine.submit([draft or make_draft(self.clock.now())])
        return receipt.task_id

    async def claim(
        self,
        limit: int = 1,
        *,
        types: Collection[str] = ("sum",),
        suspects: int = 0,
        queues: Collection[str] | None = None,
        wait_for: timedelta = timedelta(0),
    ) -> list[Claim]:
        """Claim up to `limit` tasks."""
        request = ClaimRequest(
            worker=self.worker, types=types, limit=limit, lease_for=self.lease_for, suspects=suspects, queues=queues
        )
        return await self.engine.claim(request, wait_for=wait_for)

    async def claim_one(self, *, types: Collection[str] = ("sum",), suspects: int = 0) -> Claim:
        """Claim exactly one task. Raises LookupError when there is none."""
        claims = await self.claim(0 if suspects else 1, types=types, suspects=suspects)
        if len(claims) != 1:
            raise LookupError(f"expected one task to claim, got {claims}")
        return claims[0]

    async def finish(self, claim: Claim, outcome: Outcome, report: Report | None = None) -> bool:
        """End the attempt with what `lifecycle.decide` makes of `outcome`; False if the lease is no longer current."""
        change = decide(outcome, claim, self.clock.now(), self._random)
        return await self.engine.complete(claim.lease, change, report)

    async def reap(self, *, limit: int = 100) -> list[Claim]:
        """Complete every expired attempt as interrupted, and return those that were still current."""
        expired = await self.engine.find_expired(limit=limit)
        return [claim for claim in expired if await self.finish(claim, Interrupted())]

    async def get(self, task_id: UUID) -> Task:
        """Return the task. Raises NotFound."""
        task = await self.engine.find(task_id)
        if task is None:
            raise NotFound(f"no task {task_id}")
        return task
