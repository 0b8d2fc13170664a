"""The ids of children, by table: what they depend on, and that they are UUIDv7."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tasker.rules.children import Origin, child_id
from tasker.testing import START

PARENT = UUID("0190a5f0-0000-7000-8000-000000000001")
SAME: dict[str, Any] = {"parent_id": PARENT, "key": "render", "place": 3, "origin": Origin(2, START)}


def made(**changes: Any) -> UUID:
    return child_id(**{**SAME, **changes})


def test_the_same_child_has_the_same_id_for_ever() -> None:
    assert made() == made() == UUID("019b7ca9-8f2e-720f-a58d-9d4d3df7d9c2")


@pytest.mark.parametrize(
    "changes",
    [
        {"parent_id": UUID(int=PARENT.int + 1)},
        {"key": "render#2"},
        {"key": "\ud800"},
        {"place": 4},
        {"origin": Origin(3, START)},
        {"origin": Origin(2, START + timedelta(milliseconds=1))},
    ],
)
def test_every_part_makes_another_id(changes: dict[str, Any]) -> None:
    assert made(**changes) != made()


def test_parts_do_not_run_into_each_other() -> None:
    ids = {made(origin=Origin(attempt, START), place=place) for attempt in range(1, 13) for place in range(12)}
    assert len(ids) == 144
    assert made(place=1, key="1 x") != made(place=11, key=" x")


def test_an_id_is_a_uuid7_with_the_time_of_the_step() -> None:
    one = made()
    assert (one.version, one.variant) == (7, "specified in RFC 4122")
    assert one.int >> 80 == int(START.timestamp() * 1000)
