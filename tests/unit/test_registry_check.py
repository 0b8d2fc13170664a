"""A type's own check of params: what types cannot say is refused at submission, in its place."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import pydantic
import pytest
from msgspec import Struct
from structlog.testing import capture_logs

from tasker.builtin import builtin_registry
from tasker.config.settings import GptSettings
from tasker.errors import Fault, Invalid, RegistrationError
from tasker.tasktypes.registry import Registry, task


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


class Held(Struct):
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("is negative")


class Lenient(Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.A


class Strict(Enum):
    A = "a"


class Plain(pydantic.BaseModel):
    value: Annotated[str, pydantic.Field(pattern="^a+$")] = "a"
    kind: Strict = Strict.A
    when: datetime | None = None


class Validated(pydantic.BaseModel):
    value: int

    @pydantic.field_validator("value")
    @classmethod
    def look(cls, value: int) -> int:
        return value


class Told(pydantic.BaseModel):
    value: int

    def model_post_init(self, context: Any) -> None:
        assert self.value


class Made(pydantic.BaseModel):
    value: int

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)


class Backtracking(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(regex_engine="python-re")
    value: Annotated[str, pydantic.Field(pattern="(?=a)")]


@pytest.mark.parametrize(
    ("hint", "has"),
    [
        (int, False), (list[dict[str, int]], False), (Strict, False), (Plain, False), (list[Plain], False),
        (Annotated[int, pydantic.Field(gt=1)], False), (Held, True), (dict[str, list[Held]], True), (Lenient, True),
        (Validated, True), (Plain | Validated, True), (Told, True), (Made, True), (Backtracking, True),
        (Annotated[int, pydantic.AfterValidator(abs)], True),
    ],
)  # fmt: skip
def test_a_type_knows_whether_it_runs_code_of_its_author(hint: Any, has: bool) -> None:
    def plain(value: Any) -> None: ...

    plain.__annotations__["value"] = hint
    assert Registry().add(plain).has_own_code == has
    assert Registry().add(task(check=lambda value: ())(plain)).has_own_code


def test_the_built_in_types_have_code_where_it_takes_time() -> None:
    """That of `gpt` looks at schemas; the others are on the way of most requests."""
    found = {task_type.name: task_type.has_own_code for task_type in builtin_registry(GptSettings())}
    assert found == {"sum": False, "reverse": False, "gpt": True}
