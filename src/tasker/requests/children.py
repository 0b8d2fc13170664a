"""Read what a function wants as children: the options as those of a submission, and the params of each."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Raw, structs

from tasker.errors import Invalid, Malformed, RequestError
from tasker.requests.submissions import Submission, Texts, read_options
from tasker.rules.urls import UrlRules
from tasker.tasktypes.registry import TaskType
from tasker.tasktypes.steps import ChildOptions
from tasker.validation.faults import Faults
from tasker.validation.jsontext import MAX_DEPTH, MAX_DIGITS, read_json


def read_child_options(type_name: str, options: ChildOptions | None, now: datetime) -> Submission:
    """Return the submission that children have in common, still without params. Raises Invalid with every fault."""
    given = {} if options is None else structs.asdict(options)
    value: dict[str, Any] = {name: one for name, one in given.items() if one is not None and one != ()}
    for name in ("delay", "timeout"):
        if name in value:
            value[name] = value[name].total_seconds()
    if "tags" in value:
        value["tags"] = list(value["tags"])
    faults = Faults()
    read = read_options(value, Texts(), faults, now, UrlRules())
    try:
        faults.check()
    except Invalid as error:
        raise Invalid(f"the options of the children: {_sentence(error)}", faults=error.faults) from None
    return Submission(type=type_name, params=Raw(b"[]"), **read)


class OpenedChild:
    """The params of one child; `read` checks them."""

    __slots__ = ("_params", "task_type")

    params_pointer = ""

    def __init__(self, task_type: TaskType, params: bytes) -> None:
        self.task_type = task_type
        self._params = params

    def read(self) -> bytes:
        """Return the params. Raises Malformed (not valid JSON) or Invalid (with every fault)."""
        text = self._params.strip()
        if not _is_ordinary(text) or not self.task_type.is_plain or not self.task_type.takes(text):
            self.task_type.check(read_json(text), text)
        return text


def _is_ordinary(text: bytes) -> bool:
    """Return whether the strict reader would refuse nothing; see `submissions.read_ordinary`."""
    return (
        len(text) <= MAX_DIGITS
        and text.isascii()
        and b"\\" not in text
        and text.count(b":") < 2
        and text.count(b"[") + text.count(b"{") <= MAX_DEPTH
    )


_SHOWN = 10
"""Children, and faults of one, that are named."""


def explain(errors: dict[int, RequestError]) -> Invalid:
    """Return the error of children that are refused, by their places, with every fault of all of them."""
    texts = [f"child {place}: {_sentence(error)}" for place, error in errors.items()]
    more = f"; and {len(texts) - _SHOWN} more children" if len(texts) > _SHOWN else ""
    names = {error.kind.name for error in errors.values() if not isinstance(error, Malformed)}
    return Invalid("; ".join(texts[:_SHOWN]) + more, name=names.pop() if len(names) == 1 else "invalid-params")


def _sentence(error: RequestError) -> str:
    if len(error.faults) < 2:
        return error.detail
    return f"{error.detail} ({'; '.join(f'{fault.pointer}: {fault.detail}' for fault in error.faults[:_SHOWN])})"
