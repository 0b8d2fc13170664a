"""Erase what is kept no longer: expired tasks and their events, and old deliveries of webhooks."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from tasker.chores.loop import BATCH, Chore
from tasker.engines.protocol import Engine

KEEP_DELIVERIES = timedelta(days=7)
"""How long a delivery is kept after its end, or waits for a webhook that is paused."""
_PAUSE = timedelta(milliseconds=10)


def prune_chores(engine: Engine) -> list[Chore]:
    prune_deliveries = partial(engine.webhooks.prune, keep=KEEP_DELIVERIES, limit=BATCH)
    return [
        Chore("sweep", timedelta(seconds=10), partial(engine.sweep, limit=BATCH)),
        Chore("prune", timedelta(minutes=1), partial(engine.prune, limit=BATCH), full=1, pause=_PAUSE),
        Chore("prune deliveries", timedelta(minutes=1), prune_deliveries),
    ]
