"""Records the sources of users' modules as they are imported, for `tasker dev`.

A module is compiled from its source then, never from a `.pyc` file: two saves within a second can have the same size,
and Python would take the older code for the newer one.
"""

from __future__ import annotations

import sys
import sysconfig
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

_TASKER = str(Path(__file__).parent.parent)


def is_own(file: str) -> bool:
    """Tell whether a file is the user's: neither of a library, nor of Python, nor of Tasker."""
    return not file.startswith(("<", *_foreign()))


@cache
def _foreign() -> tuple[str, ...]:
    libraries = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return tuple({_TASKER, *libraries})


def record_sources(recorded: dict[str, bytes]) -> None:
    """From now on compile users' modules from their source; `recorded` gets the source of each file that is read."""
    usual = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        path = loader.get_filename(name)
        if not is_own(path):
            return usual(loader, name)
        recorded[path] = source = loader.get_data(path)
        return _compile(loader, source, path)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]


def keep_sources(recorded: dict[str, bytes]) -> None:
    """From now on import these files as they were when they were recorded, whatever is on disk."""
    usual = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        path = loader.get_filename(name)
        source = recorded.get(path)
        return usual(loader, name) if source is None else _compile(loader, source, path)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]


def _compile(loader: SourceFileLoader, source: bytes, path: str) -> CodeType:
    code: CodeType = loader.source_to_code(source, path)
    return code


def forget_bytecode() -> None:
    """Write no `.pyc` files in this process from now on."""
    sys.dont_write_bytecode = True
