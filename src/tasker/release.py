"""Which Tasker this is: its version, the build, and the level of what its workers can keep to."""

from __future__ import annotations

import os
from functools import cache
from hashlib import blake2b
from importlib.metadata import version as distribution_version

LIMITS = 1
"""The level of workers that keep to what is set of a queue: its pause, its limits, its rate."""
LEVEL = LIMITS
"""What workers of this build can keep to, and all that is below.

A task that an older worker would run wrongly waits in a line that has a level in its name, and workers take what is at
most at theirs. Whoever adds a feature that workers must know of counts one up, and puts the tasks that use it there.
"""
_SOURCES = (".py", ".sql")


@cache
def release() -> str:
    """Return the version and the build, as PEP 440 has it: "0.1.0+3f2a9c1d04b7".

    The build is a digest of the sources that are installed: the same ones have the same build, wherever they were made
    into a package, and any change of them is another one. It is that of the first call, whatever changes later.
    """
    return f"{distribution_version('taskerd')}+{_digest(os.path.dirname(__file__))}"


def _digest(folder: str) -> str:
    digest = blake2b(digest_size=6)
    for path in sorted(_sources(folder)):
        with open(path, "rb") as file:
            text = file.read()
        digest.update(b"%b\0%d\0%b" % (os.path.relpath(path, folder).encode(), len(text), text))
    return digest.hexdigest()


def _sources(folder: str) -> list[str]:
    return [
        os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if name.endswith(_SOURCES)
    ]
