"""Which files the code of `tasker dev` comes from, and whether they have changed since it was loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tasker.cli.developing.service import digest

_Signature = tuple[int, int, int]
_SETTINGS = ".env"


class Sources:
    """The files that matter: those that were loaded, the targets, and `.env`. Paths are absolute.

    A folder is looked at, not what is below it: what is imported from there is known by its own path.
    """

    def __init__(self, targets: Iterable[str]) -> None:
        self._targets = [Path(target).absolute() for target in targets]
        self._loaded: set[str] = set()
        self._known: dict[str, str] = {}
        self._is_searching = False
        self._digests: dict[str, tuple[_Signature, str]] = {}

    def folders(self) -> list[str]:
        """Return the existing folders whose files matter."""
        folders = {str(Path.cwd()), *(os.path.dirname(file) for file in self._loaded)}
        for target in self._targets:
            folders.add(str(target if target.is_dir() else target.parent))
        return sorted(folder for folder in folders if os.path.isdir(folder))

    def look(self) -> dict[str, str]:
        """Return the digests of the files that matter and exist now."""
        found = ((path, self._digest(path)) for path in sorted(self._paths()))
        return {path: content for path, content in found if content is not None}

    def changed(self, now: Mapping[str, str]) -> list[str]:
        """Return the files that are new, gone or other than those of the last load."""
        return sorted(path for path in now.keys() | self._known.keys() if now.get(path) != self._known.get(path))

    def take(self, before: Mapping[str, str], loaded: Mapping[str, str], *, failed: bool) -> None:
        """Remember what was loaded.

        before: the files as they were when the load began. loaded: those that were read, as they were read. failed:
        whether the code could not be loaded: then any Python file beside the others may be what it lacks.
        """
        self._is_searching = failed
        self._loaded = set(loaded) | (self._loaded if failed else set())
        self._known = self.look() | {path: before[path] for path in before if path in self._paths()} | dict(loaded)

    def _paths(self) -> set[str]:
        paths = {os.path.join(os.getcwd(), _SETTINGS), *self._loaded}
        for target in self._targets:
            paths.update(_python_files(target) if target.is_dir() else [str(target)])
        if self._is_searching:
            paths.update(str(file) for folder in self.folders() for file in Path(folder).glob("*.py"))
        return paths

    def _digest(self, path: str) -> str | None:
        try:
            found = os.stat(path)
            signature = (found.st_mtime_ns, found.st_size, found.st_ino)
            known = self._digests.get(path)
            if known is None or known[0] != signature:
                known = self._digests[path] = (signature, digest(Path(path).read_bytes()))
        except OSError:  # it does not exist, or is being replaced
            return None
        return known[1]


def _python_files(folder: Path) -> list[str]:
    return [str(file) for file in folder.glob("*.py") if not file.name.startswith("_")]


def name_files(paths: Iterable[str]) -> str:
    """Return the names of files for people: `mytasks.py, helper.py and 2 more`."""
    names = [shorten(path) for path in paths]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def shorten(text: str) -> str:
    """Return a text that begins with a path, with the path as seen from the working folder."""
    return text.removeprefix(f"{os.getcwd()}/")
