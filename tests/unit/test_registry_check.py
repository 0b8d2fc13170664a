"""A type's own check of params: what types cannot say is refused at submission, in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from msgspec import Struct
from structlog.testing import capture_logs

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


class Picky(Struct):
    number: int

    def __post_init__(self) -> None:
        if self.number == 13:
            raise SystemExit(0)


class PickyModel(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def refuse(cls, number: int) -> int:
        if number == 13:
            raise KeyboardInterrupt
        return number


def take_struct(value: Picky) -> int:
    return value.number


def take_model(value: PickyModel) -> int:
    return value.number


def take_number(number: int) -> int:
    return number


def exits_on_13(number: int) -> Iterator[Fault]:
    if number == 13:
        raise SystemExit(0)
    return iter(())


def stumbles_on_13(number: int) -> Iterator[Fault]:
    yield from () if number != 13 else {}["13"]


@pytest.mark.parametrize(
    ("function", "check", "raised"),
    [
        (take_struct, None, "SystemExit"),
        (take_model, None, "KeyboardInterrupt"),
        (take_number, exits_on_13, "SystemExit"),
        (take_number, stumbles_on_13, "KeyError"),
    ],
)
def test_an_authors_code_that_fails_on_params_refuses_them_and_is_logged(
    function: Any, check: Any, raised: str
) -> None:
    """It runs in the service itself, where sys.exit() would end it."""
    checked = Registry().add(task(check=check)(function) if check else function)
    good, bad = ([1], [13]) if check else ([{"number": 1}], [{"number": 13}])
    checked.check(good)
    with capture_logs() as logs, pytest.raises(Invalid) as refused:
        checked.check(bad)
    assert [fault.detail for fault in refused.value.faults] == [f"cannot be checked: the check raised {raised}"]
    assert [(line["event"], line["type"]) for line in logs] == [("type.check_failed", checked.name)]
