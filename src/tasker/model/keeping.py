"""How long an engine keeps what is of use no more but to whoever asks late."""

from __future__ import annotations

from datetime import timedelta

KEEP_TOMBSTONES_FOR = timedelta(days=1)
"""How long it is told at least that a task has expired: no idempotency key of its submission is kept for longer."""
FOREVER = timedelta(days=30)
"""How long the tombstone is kept of a deleted task that was to be kept for ever."""
KEEP_TYPES_FOR = timedelta(days=30)
"""How long a type is still known whose last worker is gone: its tasks wait for the next one."""
KEEP_WORKERS_FOR = timedelta(minutes=5)
"""How long a worker that says nothing more is still shown."""
