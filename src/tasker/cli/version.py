"""`tasker version`."""

from __future__ import annotations

from tasker.release import release


def version() -> int:
    """Print the version and the build."""
    print(release())
    return 0
