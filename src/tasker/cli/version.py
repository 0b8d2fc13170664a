"""`tasker version`."""

from __future__ import annotations

from importlib.metadata import version as distribution_version


def read_version() -> str:
    """Return the version of the installed distribution."""
    return distribution_version("taskerd")


def version() -> int:
    """Print the version."""
    print(read_version())
    return 0
