"""Find what belongs to the path of a request, and the parameters in the path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Route(NamedTuple, Generic[T]):
    """What belongs to a path, and the path's parameters by name."""

    target: T
    parameters: dict[str, str]


class Routes(Generic[T]):
    """Targets by path. In `/task/{task_id}/events` any one segment that is not empty stands for `{task_id}`.

    The first segment of a path must be fixed. A path without parameters comes before one with them.
    """

    def __init__(self, targets: Mapping[str, T]) -> None:
        self._fixed = {path: Route(target, {}) for path, target in targets.items() if "{" not in path}
        self._others: dict[tuple[str, int], list[tuple[list[str], T]]] = {}
        for path, target in targets.items():
            if path not in self._fixed:
                segments = path.split("/")
                self._others.setdefault((segments[1], len(segments)), []).append((segments, target))

    def find(self, path: str) -> Route[T] | None:
        """Return the route of a path, None if there is none."""
        fixed = self._fixed.get(path)  # POST /task is by far the most frequent
        if fixed is not None:
            return fixed
        given = path.split("/")
        if len(given) < 2:
            return None
        for segments, target in self._others.get((given[1], len(given)), ()):
            parameters = _match(segments, given)
            if parameters is not None:
                return Route(target, parameters)
        return None


def _match(segments: Sequence[str], given: Sequence[str]) -> dict[str, str] | None:
    parameters = {}
    for segment, text in zip(segments, given, strict=True):
        if segment[:1] == "{":
            if not text:
                return None
            parameters[segment[1:-1]] = text
        elif segment != text:
            return None
    return parameters
