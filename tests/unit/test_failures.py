"""Failures that differ only in numbers, hex and quoted parts have one fingerprint, which stays the same for ever."""

from __future__ import annotations

import pytest
from msgspec import structs

from tasker.model import ExceptionInfo, TaskProblem
from tasker.rules.failures import common_part, fingerprint
from tasker.rules.lifecycle import problem


@pytest.mark.parametrize(
    ("message", "common"),
    [
        ("", ""),
        ("boom", "boom"),
        ("no answer after 30 s", "no answer after # s"),
        ("no answer after 1.25 s", "no answer after # s"),
        ("cannot connect to 10.0.0.17:5432", "cannot connect to #"),
        ("job-17 in worker3", "job-# in worker#"),
        ("٣ left", "# left"),
        ("at 0x7f3a2c1b in main", "at # in main"),
        ("object deadbeef is gone", "object # is gone"),
        ("commit 3f2a9c1", "commit #"),
        ("decade cafe facade", "decade cafe facade"),
        ("task 01a20c8b-c777-7774-af49-131c21b859b2 failed", "task # failed"),
        ("task 0aaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee failed", "task # failed"),
        ("no key 'name'", "no key …"),
        ('no key "name" in "x 1"', "no key … in …"),
        ("no key `name`", "no key …"),
        ("no file “a b”, «c»", "no file …, …"),
        ("can't open 'a'", "can't open …"),
        ("can't open it, isn't there", "can't open it, isn't there"),
        ("expected 'a", "expected …"),
        ("two\n  lines\tof 1", "two lines of #"),
        ("2026-01-02T03:04:05.678Z late", "#-#-#T#Z late"),
    ],
)  # fmt: skip
def test_what_differs_from_task_to_task_is_left_out(message: str, common: str) -> None:
    assert common_part(message) == common


def test_a_long_message_counts_by_its_begin() -> None:
    assert len(common_part("x" * 10**7)) == 200
    assert common_part("x" * 999 + "'" + "y" * 500) == common_part("x" * 999 + "'" + "z" * 500)


def failed(message: str, class_: str = "ValueError") -> TaskProblem:
    found = problem("task-failed", f"{class_}: {message}")
    return structs.replace(found, exception=ExceptionInfo(class_=class_, message=message))


def test_a_fingerprint_tells_types_exceptions_problems_and_messages_apart() -> None:
    one = fingerprint("", "sum", failed("no 1"))
    assert one == fingerprint("", "sum", failed("no 22"))
    others = [
        fingerprint("ada", "sum", failed("no 1")),
        fingerprint("", "gpt", failed("no 1")),
        fingerprint("", "sum", failed("no 1", "KeyError")),
        fingerprint("", "sum", failed("yes 1")),
        fingerprint("", "sum", structs.replace(failed("no 1"), type="/problems/other")),
        fingerprint("", "sum", problem("task-failed", "no 1")),
        fingerprint("", "sum", problem("timed-out", "no 1")),
    ]
    assert len({one.failure_id, *(other.failure_id for other in others)}) == 1 + len(others)


def test_a_fingerprint_is_the_same_in_every_version() -> None:
    assert fingerprint("", "sum", failed("no key 'a' in 12 rows")) == (
        "c41912931600490d", "/problems/task-failed", "ValueError", "no key … in # rows",
    )  # fmt: skip


def test_lone_surrogates_have_a_fingerprint() -> None:
    assert fingerprint("", "sum", failed("\ud800")).failure_id == fingerprint("", "sum", failed("\ud800")).failure_id
