"""How long an engine keeps tombstones, and types and workers that are gone."""

from __future__ import annotations

from datetime import timedelta

KEEP_TOMBSTONES_FOR = timedelta(days=1)
"""Minimum lifetime of a tombstone; idempotency keys never outlive it."""
FOREVER = timedelta(days=30)
"""Lifetime of the tombstone of a deleted task whose retention was `forever`."""
KEEP_TYPES_FOR = timedelta(days=30)
"""How long a type is known after its last worker has gone: its tasks wait for the next one."""
KEEP_WORKERS_FOR = timedelta(minutes=5)
"""How long a silent worker is shown."""
