"""Both clients have the same methods: names, parameters, defaults, annotations and words, but for what is awaited."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_overloads

import pytest

from tasker import client
from tasker.client import AsyncTasker, Tasker
from tasker.client.aio import AsyncRawTasker
from tasker.client.raw import AsyncRaw, Raw
from tasker.client.resources import (
    audit,
    bulk,
    failures,
    groups,
    keys,
    questions,
    queues,
    schedules,
    types,
    webhooks,
    workers,
)  # fmt: skip
from tasker.client.sync import RawTasker

_ONLY_ASYNC = {"__await__", "__aiter__"}
_NAMES = {"__aenter__": "__enter__", "__aexit__": "__exit__"}
_RESOURCES = (audit, bulk, failures, groups, keys, questions, queues, schedules, types, webhooks, workers)
PAIRS = {
    "Tasker": (Tasker, AsyncTasker),
    "Handle": (client.Handle, client.AsyncHandle),
    "RawTasker": (RawTasker, AsyncRawTasker),
    **{
        name: (kind, getattr(module, f"Async{name}"))
        for module in _RESOURCES
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and hasattr(module, f"Async{name}") and kind.__module__ == module.__name__
    },
}


def _methods(kind: type[Any]) -> dict[str, Any]:
    found = {_NAMES.get(name, name): member for name, member in vars(kind).items() if name not in _ONLY_ASYNC}
    return {
        name: member.fget if isinstance(member, property) else member
        for name, member in found.items()
        if (not name.startswith("_") or name in ("__init__", "__enter__", "__exit__"))
        and (inspect.isfunction(member) or isinstance(member, property))
    }


def _words(text: str) -> str:
    """Return an annotation or a docstring as the other client has it."""
    text = text.replace("collections.abc.", "").replace(" | AsyncIterable[Any]", "")
    text = re.sub(r"(Iterable\[(Mapping\[.*?\]|Any)\]) \| AsyncIterable\[\2\]", r"\1", text)
    text = re.sub(r"Callable\[\[float\], Awaitable\[None\]\]", "Callable[[float], None]", text)
    return re.sub(r"Async(?=[A-Z])", "", text)


def _signature(function: Any) -> list[tuple[Any, ...]]:
    signature = inspect.signature(function)
    made = [
        (one.name, one.kind, _words(str(one.annotation)), one.default if one.name != "sleep" else None)
        for one in signature.parameters.values()
    ]
    return [*made, ("returns", _words(str(signature.return_annotation)))]


@pytest.mark.parametrize("name", PAIRS)
def test_both_have_the_same_methods(name: str) -> None:
    one, other = (_methods(kind) for kind in PAIRS[name])
    assert one.keys() == other.keys()
    for method, function in one.items():
        assert _signature(function) == _signature(other[method]), method
        pairs = zip(get_overloads(function), get_overloads(other[method]), strict=True)
        assert all(_signature(mine) == _signature(its) for mine, its in pairs), method
        if not method.startswith("__"):
            assert function.__doc__, method
        assert function.__doc__ == (other[method].__doc__ and _words(other[method].__doc__)), method


@pytest.mark.parametrize("name", PAIRS)
def test_what_has_to_be_awaited_is_a_coroutine(name: str) -> None:
    """What yields is an iterator in both; all else that asks the service is awaited."""
    one, other = (_methods(kind) for kind in PAIRS[name])
    for method, function in other.items():
        if method == "__init__":
            continue
        asks = "driver.run(" in inspect.getsource(one[method]) or method in ("close", "status", "__enter__", "__exit__")
        if name != "RawTasker":
            assert inspect.iscoroutinefunction(function) == asks, method
        assert ("Iterator[" in str(inspect.signature(one[method]).return_annotation)) == (
            "AsyncIterator[" in str(inspect.signature(function).return_annotation)
        ), method


def test_both_have_the_same_resources() -> None:
    with Tasker() as one:
        mine = {name: type(value).__name__ for name, value in vars(one).items() if not name.startswith("_")}
    other = AsyncTasker()
    assert {name: type(value).__name__ for name, value in vars(other).items() if not name.startswith("_")} == {
        name: f"Async{kind}" for name, kind in mine.items()
    }
    assert set(mine.values()) == PAIRS.keys() - {"Tasker", "Handle", "RawTasker"}


def test_both_give_the_same_replies_raw() -> None:
    mine = {name for name, value in vars(RawTasker).items() if isinstance(value, Raw)}
    assert mine == {name for name, value in vars(AsyncRawTasker).items() if isinstance(value, AsyncRaw)}
    single = {name for name, function in _methods(AsyncTasker).items() if inspect.iscoroutinefunction(function)}
    assert mine == single - {"close", "run", "submit", "__enter__", "__exit__"}
