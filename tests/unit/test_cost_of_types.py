"""No params of a built-in type cost more than their size: to check, to run with, to hold a model's text against.

Every built-in type is walked, with all that a client can make large. A new one needs a line in TYPES.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from time import process_time
from typing import Any

import pytest
from tests.cost import grows, no_collector
from tests.values import bind

from tasker.builtin import builtin_registry
from tasker.builtin.gpt.shape import make_shape
from tasker.config.settings import GptSettings
from tasker.errors import Fail, Invalid
from tasker.validation import schemas
from tasker.validation.patterns import compile_pattern
from tasker.validation.schemas import check_schema

__all__ = ["no_collector"]

SIZE = 40_000
"""Characters of the smaller params, or values in them."""

SCHEMAS: dict[str, Callable[[int], Any]] = {
    "patterns": lambda count: {"allOf": [{"pattern": f"a{{{n}}}" + "()" * 400} for n in range(count // 10)]},
    "a pattern": lambda count: {"pattern": "()" * (count // 2)},
    "repeated": lambda count: {"pattern": f"(a?){{{count // 2}}}" + "a" * (count // 2)},
    "open": lambda count: {"pattern": "(" * (count // 2) + ")" * (count // 2)},
    "references": lambda count: {"$defs": {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(count)}},
    "a circle": lambda count: {
        "$defs": {f"a{n}": {"$ref": f"#/$defs/a{(n + 1) % count}"} for n in range(count)}, "$ref": "#/$defs/a0"
    },
    "members": lambda count: {"allOf": [{}] * count},
    "properties": lambda count: {"properties": {f"p{n}": {"type": "string"} for n in range(count)}},
    "words": lambda count: {"enum": [f"word {n}" for n in range(count)], "required": [f"a{n}" for n in range(count)]},
    "wrong": lambda count: {"allOf": [{"type": 5}] * count},
    "names": lambda count: {f"word {n}": n for n in range(count)},
    "depth": lambda count: json.loads('{"not":' * (count // 25) + "{}" + "}" * (count // 25)),
}  # fmt: skip
"""Schemas with about the given number of parts, up to the limit and beyond."""
READ: dict[str, tuple[Any, Callable[[int], Any]]] = {
    "backtracking": ({"pattern": "^(a|aa)+$"}, lambda size: "a" * size + "!"),
    "two stars": ({"pattern": "(x+x+)+y"}, lambda size: "x" * size),
    "texts": ({"items": {"pattern": "^a+$"}}, lambda size: ["aaaa"] * (size // 50)),
    "half characters": ({}, lambda size: "\ud800" * (size // 10)),
    "other keys": ({"additionalProperties": False}, lambda size: {f"{n}": n for n in range(size // 20)}),
}
"""Schemas, and texts of about the given number of bytes to check against them."""
FLAG, FAMILY = "\U0001f1e9\U0001f1ea", "\U0001f469\u200d\U0001f467"
PARTS = {
    "letters": "ab", "flags": FLAG, "odd flags": FLAG + FLAG[0], "accents": "e\u0301", "family": FAMILY,
    "accents alone": "\u0301", "flags with accents": FLAG + "\u0301", "before": "\u0600", "one flag": FLAG[0],
    "before flags": "\u0600" + FLAG, "joiners": "\u200d", "Indic": "\u0915\u094d", "Hangul": "\u1100\u1161",
    "emoji": "\U0001f469", "line ends": "\r\n", "skin": "\U0001f44b\U0001f3ff",
}  # fmt: skip
"""What a text is made of, again and again."""
TYPES: dict[str, dict[str, Callable[[int], Any]]] = {
    "sum": {
        "integers": lambda size: [1] * size, "floats": lambda size: [1.5, -1e300] * size,
        "long": lambda size: [10**999] * (size // 100), "both": lambda size: [10**300, 0.5] * size,
        "too large": lambda size: [10**400, 0.5] * size,
    },
    "reverse": {
        name: lambda size, part=part: [part * (size // len(part))]  # type: ignore[misc]
        for name, part in PARTS.items()
    },
    "gpt": {
        "prompt": lambda size: {"prompt": "a" * size},
        "messages": lambda size: {"messages": [{"role": "user", "text": "a"}] * (size // 10)},
        "wrong messages": lambda size: {"messages": [{"role": "x"}] * (size // 10)},
        "stops": lambda size: {"prompt": "a", "stop": ["a"] * size},
        **{
            f"schema: {name}": lambda size, make=make: {"prompt": "a", "schema": make(size * 240 // SIZE)}  # type: ignore[misc]
            for name, make in SCHEMAS.items()
        },
    },
}  # fmt: skip
"""For each built-in type params of about the given number of bytes or parts."""


LONG = {("sum", "both"), ("sum", "too large")}


def test_every_built_in_type_has_a_sizer() -> None:
    assert [task_type.name for task_type in builtin_registry(GptSettings())] == list(TYPES)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        pytest.param(name, what, marks=[pytest.mark.long] if (name, what) in LONG else [])
        for name, sizers in TYPES.items()
        for what in sizers
    ],
)
async def test_a_built_in_type_takes_time_by_the_size_of_its_params(name: str, what: str, no_collector: None) -> None:
    """To check them, and to run with them where that needs no model."""
    task_type = builtin_registry(GptSettings()).get(name)
    function, is_async = task_type.function, task_type.is_async

    async def cost(size: int) -> float:
        params = TYPES[name][what](size)
        schemas._check.cache_clear()
        compile_pattern.cache_clear()
        began = process_time()
        try:
            task_type.check(params)
            if name != "gpt":
                args, kwargs = bind(task_type, params)
                task_type.encode_result(await function(*args, **kwargs) if is_async else function(*args, **kwargs))
        except (Invalid, Fail):
            pass
        return process_time() - began

    await cost(100)  # what it imports
    assert not await grows(cost, SIZE, await cost(100))


@pytest.mark.parametrize("what", READ)
async def test_checking_a_text_takes_time_by_its_size(what: str, no_collector: None) -> None:
    schema, make = READ[what]
    assert not check_schema(schema)
    shape = make_shape(schema, objects_only=False)

    async def cost(size: int) -> float:
        text = json.dumps(make(size))
        began = process_time()
        with suppress(Fail):
            shape.read(text)
        return process_time() - began

    await cost(100)
    assert not await grows(cost, SIZE, await cost(100))
