"""The short way of reading ordinary bodies: it accepts nothing that the strict reader refuses, and reads the same."""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from typing import Annotated, Any

import pytest
from msgspec import Meta

import tasker
from tasker import task
from tasker.errors import Fault
from tasker.requests.submissions import Context, Submission, read_ordinary, read_submission
from tasker.tasktypes.registry import Registry
from tasker.testing import START
from tasker.validation.jsontext import MAX_DEPTH


@task
async def add(a: float, b: float = 0) -> float:
    return a + b


@task
async def anything(a: Any, *more: Any) -> None: ...


@task
async def count(number: Annotated[int, Meta(ge=0)], name: str = "") -> None: ...


@task
async def by_name(a: int = 0, *, b: int) -> None: ...


@task
async def pay(amount: Decimal) -> None: ...


@task
async def enter(password: Annotated[str, tasker.secret]) -> None: ...


@task(check=lambda a: [Fault("/a", "is odd")] if a % 2 else [], example=[2])
async def halve(a: int) -> None: ...


TYPES = [add, anything, count, by_name, pay, enter, halve]
ELEMENTS = [
    "1",
    "2.5",
    "-0",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "1e5",
    "1e999",
    "-1e999",
    "1E5",
    "NaN",
    "Infinity",
    "-Infinity",
    "null",
    "true",
    "nul",
    '"a"',
    '""',
    '"é"',
    '"a:b"',
    '"{"',
    '"["',
    '"\\\\"',
    '"\\u0000"',
    '"\\ud800"',
    '"\\u0041"',
    '"\x00"',
    '"\n"',
    '"\x7f"',
    '"open',
    "{}",
    '{"a":1}',
    '{"a":1,"a":2}',
    "[]",
    "[1,2]",
    "[1,]",
    "[[]]",
    "1,2",
    '1,"a"',
    "1,,2",
    ",",
    "1]]",
    '"2026-01-01"',
]
FRAMES = (
    '{"type":"%s","params":[%s]}',
    ' {\n "params" : [ %2$s ] , "type" : "%1$s" }\r\n',
    '{"type":"%s","params":[%s],}',
    '{"type":"%s","params":[%s]} x',
    '{"type":"%s","params":[%s]',
    '\ufeff{"type":"%s","params":[%s]}',
    '{"type":"%s","type":"add","params":[%s]}',
    '{"type":"%s","params":[1],"params":[%s]}',
    '{"type":"%s","params":[%s],"queue":"q"}',
    '{"type":"%s","param":[%s]}',
    '{"type":"%s","params":%s}',
    '["%s",[%s]]',
    '"%s%s"',
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    registry = Registry()
    for one in TYPES:
        registry.add(one)
    return registry


def filled(frame: str, name: str, elements: str) -> bytes:
    text = frame.replace("%1$s", name).replace("%2$s", elements) if "%1$s" in frame else frame % (name, elements)
    return text.encode()


def agrees(registry: Registry, body: bytes) -> bool:
    """Check that the short way reads a body as the strict reader does, if it reads it; return whether it did."""
    short = read_ordinary(body, registry)
    if short is None:
        return False
    task_type, submission = read_submission(body, Context(registry, START))
    assert short[0] is task_type, body
    assert shown(short[1]) == shown(submission), body
    return True


def shown(submission: Submission) -> dict[str, Any]:
    return {name: getattr(submission, name) for name in Submission.__struct_fields__} | {
        "params": bytes(submission.params)
    }


def test_it_accepts_nothing_that_the_strict_reader_refuses(registry: Registry) -> None:
    names = [*(one.__name__ for one in TYPES), "none", ""]
    read = [agrees(registry, filled(*case)) for case in product(FRAMES, names, ELEMENTS)]
    assert 20 < sum(read) < len(read) / 20


@pytest.mark.parametrize(
    "body",
    [b'{"type":"add","params":[1,2]}', b' { "params" : [1.5], "type" : "add" } ', b'{"type":"count","params":[7,"a"]}'],
)
def test_it_reads_ordinary_bodies(registry: Registry, body: bytes) -> None:
    assert agrees(registry, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"add","params":{"a":1}}',
        b'{"type":"add"}',
        b'{"type":"pay","params":[1e999]}',
        b'{"type":"enter","params":["x"]}',
        b'{"type":"halve","params":[2]}',
        b'{"type":"halve","params":[3]}',
        b'{"type":"add","params":[%b1]}' % (b" " * 1_000),
        b'{"type":"anything","params":%b%b}' % (b"[" * MAX_DEPTH, b"]" * MAX_DEPTH),
        b'{"type":"anything","params":%b{}%b}' % (b"[" * (MAX_DEPTH - 1), b"]" * (MAX_DEPTH - 1)),
        b"\xff\xfe",
        b'{"type":"anything","params":["\xff"]}',
        b'{"type":"\xff","params":[]}',
        b"",
    ],
)
def test_it_leaves_other_bodies_to_the_strict_reader(registry: Registry, body: bytes) -> None:
    assert read_ordinary(body, registry) is None


def test_the_deepest_body_that_it_reads_is_not_too_deep(registry: Registry) -> None:
    levels = MAX_DEPTH - 1
    assert agrees(registry, b'{"type":"anything","params":%b%b}' % (b"[" * levels, b"]" * levels))
