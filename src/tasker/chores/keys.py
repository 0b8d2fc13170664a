"""Learn of keys that other processes have changed, and store when keys were used."""

from __future__ import annotations

from datetime import timedelta

from tasker.chores.loop import Chore
from tasker.service.keys import Keys

REFRESH_EVERY = timedelta(seconds=1)
"""How long a process may not know what another one has changed."""
RECORD_USES_EVERY = timedelta(minutes=1)


def key_chores(keys: Keys, *, is_shared: bool) -> list[Chore]:
    refresh = [Chore("keys", REFRESH_EVERY, keys.refresh)] if is_shared else []
    return [*refresh, Chore("key uses", RECORD_USES_EVERY, keys.record_uses)]
