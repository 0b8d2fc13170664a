"""A type's own check of params: what types cannot say is refused at submission, in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasker.errors import Fault, Invalid, RegistrationError
from tasker.registry import Registry, task


def in_order(low: int, high: int, others: tuple[int, ...]) -> Iterator[Fault]:
    if low > high:
        yield Fault("/high", f"expected {low} or more")
    for index, other in enumerate(others):
        if not low <= other <= high:
            yield Fault(f"/others/{index}", "is not between the two")
    if low == 13:
        yield Fault("", "no thirteen")


def between(low: int, high: int = 10, *others: int) -> int:
    return low + high + sum(others)


@pytest.mark.parametrize(
    ("params", "pointers"),
    [
        ([1, 2], []),
        ([1], []),
        ({"low": 1}, []),
        ([3, 2], ["/1"]),
        ([11], ["/1"]),
        ({"low": 3, "high": 2}, ["/high"]),
        ([1, 3, 2, 9, 0], ["/3", "/4"]),
        ({"low": 1, "high": 3, "others": [2, 9]}, ["/others/1"]),
        ([13, 14], [""]),
        (["3", 2], ["/0"]),
    ],
)
def test_faults_stand_where_the_params_were_sent(params: Any, pointers: list[str]) -> None:
    def check(low: int, high: int, others: tuple[int, ...]) -> Iterator[Fault]:
        return in_order(low, high, others)

    task_type = Registry().add(task(check=check, example=[1, 2])(between))
    if not pointers:
        task_type.check(params)
        return
    with pytest.raises(Invalid) as caught:
        task_type.check(params)
    assert [fault.pointer for fault in caught.value.faults] == pointers
    assert caught.value.kind.name == "invalid-params"


def test_an_example_must_pass_it() -> None:
    def takes(low: int) -> int:
        return low

    with pytest.raises(RegistrationError, match=r"example: .*expected less"):
        Registry().add(task(check=lambda low: [Fault("/low", "expected less")], example=[1])(takes))
    with pytest.raises(RegistrationError, match="check must be a function"):
        Registry().add(task(check=5)(takes))  # type: ignore[call-overload]
