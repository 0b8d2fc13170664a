"""Backups of the embedded engine. PostgreSQL has its own tools for them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tasker.config.settings import Settings
from tasker.engines.sqlite import backups
from tasker.engines.sqlite.backups import Manifest, Progress
from tasker.errors import ConfigError

__all__ = ["Manifest", "Progress", "back_up", "restore"]


def back_up(settings: Settings, target: Path, *, now: datetime, progress: Progress) -> Manifest:
    """Write a verified backup of the store, which a service may use meanwhile. Raises ConfigError, Unavailable."""
    if settings.database_url is not None:
        raise ConfigError(
            "TASKER_DATABASE_URL: expected none, got a PostgreSQL database, which has backups of its own: `pg_dump"
            " --format=custom` of its schema `tasker`, or continuous archiving; `tasker export` carries everything to"
            " another store"
        )
    return backups.back_up(settings.database_file, target, now=now, progress=progress)


def restore(file: Path, folder: Path, progress: Progress) -> Manifest:
    """Verify a backup and put it into a folder without a store. Raises ArchiveError, ConfigError, StoreInUse."""
    return backups.restore(file, folder.absolute(), progress)
