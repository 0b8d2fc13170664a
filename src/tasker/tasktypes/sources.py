"""Records users' modules as they are imported, so that other processes can import the very same ones: for `tasker dev`.

A recorded module is compiled from its source, never taken from a `.pyc` file: two saves within a second can have the
same size, and Python would take the older code for the newer one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from msgspec import Struct

from tasker.tasktypes.loading import Source, find_sources

_TASKER = str(Path(__file__).parent.parent)


class Recorded(Struct):
    """Modules as they were imported. entries: the targets' modules (name, file or None).

    files: sources by path. modules: paths by the name of the module.
    """

    entries: tuple[tuple[str, str | None], ...] = ()
    files: dict[str, bytes] = {}
    modules: dict[str, str] = {}

    def sources(self) -> list[Source]:
        """Return what the targets stand for."""
        return [Source(name, None if file is None else Path(file)) for name, file in self.entries]


_recording: list[Recorded] = []


def is_own(file: str) -> bool:
    """Tell whether a file is the user's: neither of a library, nor of Python, nor of Tasker."""
    return not file.startswith(("<", *_foreign()))


@cache
def _foreign() -> tuple[str, ...]:
    import sysconfig  # child processes do not need it

    libraries = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return tuple({_TASKER, *libraries})


def record_modules(targets: Iterable[str]) -> Recorded:
    """Record users' modules that this process imports from now on. It writes no `.pyc` files any more.

    Raises NoSuchTarget.
    """
    found = [source for target in targets for source in find_sources(target)]
    recorded = Recorded(tuple((name, None if file is None else str(file)) for name, file in found))
    usual = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        path = loader.get_filename(name)
        if not is_own(path):
            return usual(loader, name)
        recorded.files[path] = source = loader.get_data(path)
        recorded.modules[name] = path
        return _compile(loader, source, path)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]
    sys.dont_write_bytecode = True
    _recording.append(recorded)
    return recorded


def find_recorded() -> Recorded | None:
    """Return what `record_modules` records in this process; None if it does not."""
    return _recording[-1] if _recording else None


def replay_modules(recorded: Recorded) -> None:
    """From now on import the recorded modules as they were recorded, whatever is on disk, or no longer there."""
    usual = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        path = loader.get_filename(name)
        source = recorded.files.get(path)
        return usual(loader, name) if source is None else _compile(loader, source, path)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]
    sys.meta_path.insert(0, _Finder(recorded))


class _Finder:
    """Finds recorded modules, also those whose files have gone."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._recorded.modules.get(name)
        if file is None:
            return None
        places = [str(Path(file).parent)] if Path(file).name == "__init__.py" else None
        return spec_from_file_location(name, file, submodule_search_locations=places)


def _compile(loader: SourceFileLoader, source: bytes, path: str) -> CodeType:
    code: CodeType = loader.source_to_code(source, path)
    return code
