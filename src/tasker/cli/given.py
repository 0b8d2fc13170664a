"""What the words after a task type say, and the names of faults in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasker.cli.flags import Flags, Split
from tasker.cli.submission import flag_of
from tasker.errors import Fault

_MISSING = re.compile(r"`(\w+)` is missing.*")


@dataclass(frozen=True)
class Given:
    """What the words after a task type say.

    task_type: as GET /type/{name} shows it; None if the service does not show it, or was not asked (is_asked).
    """

    task_type: Mapping[str, Any] | None = None
    split: Split = field(default_factory=Split)
    is_asked: bool = False

    def describe(self, fault: Fault) -> str:
        """Return a fault of the request, with the name of the flag or option that it is about."""
        path = [part.replace("~1", "/").replace("~0", "~") for part in fault.pointer.split("/")[1:]]
        if path[:1] == ["params"]:
            return self._describe_param(path[1:], fault)
        if path == ["type"]:
            return f"TYPE: {fault.detail}"
        place = "/".join([flag_of(path[0]), *path[1:]]) if path else "params"
        return f"{place}: {fault.detail}"

    def _describe_param(self, path: Sequence[str], fault: Fault) -> str:
        flags = None if self.task_type is None else Flags(self.task_type)
        for length in range(len(path), 0, -1):
            used = tuple(path[:length])
            flag = flags.find(".".join(used)) if flags is not None else None
            if flag is None or not (used in self.split.used or self._is_missing(path, fault)):
                continue
            return f"{'/'.join([flag.name, *path[length:]])}: {self._show_text(fault.detail, used, path)}"
        place = _name_missing(path, fault) or fault.pointer or "params"
        return f"{place}: {fault.detail}"

    def _is_missing(self, path: Sequence[str], fault: Fault) -> bool:
        return bool(path) and fault.detail.endswith("is missing")

    def _show_text(self, detail: str, used: tuple[str, ...], path: Sequence[str]) -> str:
        """Show the text that was given, unless it is secret."""
        texts = self.split.used.get(used, ())
        flag = Flags(self.task_type).find(".".join(used)) if self.task_type is not None else None
        if len(texts) != 1 or len(path) > len(used) or flag is None or flag.is_secret:
            return detail
        head, got, kind = detail.rpartition("got ")
        return f"{head}{got}{json.dumps(texts[0], ensure_ascii=False)}" if got and kind == "string" else detail


def _name_missing(path: Sequence[str], fault: Fault) -> str:
    """Return the flag for a param by position, or by name, that is missing; "" for another fault."""
    found = _MISSING.fullmatch(fault.detail) if len(path) <= 1 else None
    return "--" + found[1].replace("_", "-") if found else ""


NOTHING_GIVEN = Given()
