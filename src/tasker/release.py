"""The version of Tasker, its build, and the level of features that its workers support."""

from __future__ import annotations

import os
from functools import cache
from hashlib import blake2b
from importlib.metadata import version as distribution_version

LIMITS = 1
"""The level of workers that obey the settings of queues: pause, limits, rate."""
STEPS = 2
"""The level of workers that know steps and children: they go on where a task was, and count the ends of children."""
LEVEL = STEPS
"""The level of the workers of this build; they support all lower levels too.

A task that an older worker would run wrongly waits in a queue partition with a level in its name, and workers take only
tasks at their level or below. To add a feature that workers must support, add one to the level, and put the tasks that
use the feature there.
"""
_SOURCES = (".py", ".sql")


@cache
def release() -> str:
    """Return the version and the build in the form of PEP 440: "0.1.0+3f2a9c1d04b7".

    The build is a digest of the installed sources: equal sources have equal builds, wherever they were packaged, and
    any change gives another one. Later changes of the files do not change it: it is computed at the first call.
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
