"""`ask`, request by request: what it asks of the service, and makes of its answers. No I/O."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import msgspec
import pytest
from tests.executor.stepper import Store, later
from tests.unit.calls import Attempt, Receipt

from tasker import InputTimeout
from tasker.model.steps import Wait
from tasker.tasktypes.signature import ABSENT
from tasker.tasktypes.steps import (
    Ask,
    CloseQuestion,
    Parking,
)
from tasker.testing import START


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_question_parks_until_it_is_answered(store: Store) -> None:
    first = Attempt(store)
    with pytest.raises(Parking) as parking:
        first.ask(Receipt, timeout="P3D")
    assert parking.value.wait == Wait(until=START + timedelta(days=3), inputs=("approve",))
    (request,) = first.stepper.asked(Ask)
    question = msgspec.json.decode(request.question)
    assert (question["name"], question["message"]) == ("approve", "Well?")
    assert question["schema"]["$ref"] == "#/$defs/Receipt"
    assert "default" not in question
    store.answer("approve", b'{"order":"a","total":1}')
    again = Attempt(store, 2)
    assert again.ask(Receipt, timeout="P3D") == Receipt("a", 1)
    assert again.kinds == []


@pytest.mark.parametrize(
    ("timeout", "length"),
    [(60, timedelta(minutes=1)), ("PT1H", timedelta(hours=1)), (timedelta(days=2), timedelta(days=2)), (None, None)],
)
def test_the_time_of_a_question(store: Store, timeout: Any, length: timedelta | None) -> None:
    attempt = Attempt(store)
    with pytest.raises(Parking) as parking:
        attempt.ask(timeout=timeout)
    assert attempt.stepper.asked(Ask)[0].timeout == length
    assert parking.value.wait == Wait(until=length and START + length, inputs=("approve",))


@pytest.mark.parametrize(
    ("type_", "default", "value"),
    [(bool, False, False), (str | None, None, None), (Receipt, Receipt("a", 1), Receipt("a", 1))],
)
def test_the_default_is_the_answer_after_the_time(store: Store, type_: Any, default: Any, value: Any) -> None:
    with pytest.raises(Parking):
        Attempt(store).ask(type_, timeout=60, default=default)
    later(store, minutes=1)
    attempt = Attempt(store, 2)
    assert attempt.ask(type_, timeout=60, default=default) == value
    assert attempt.kinds == ["Await", "CloseQuestion"]
    assert Attempt(store, 3).ask(type_, timeout=60, default=default) == value


def test_without_a_default_nobodys_answer_is_an_error_each_time(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).ask(timeout=60)
    later(store, minutes=1)
    for attempt in (2, 3):
        with pytest.raises(InputTimeout, match="nobody answered 'approve' in time"):
            Attempt(store, attempt).ask(timeout=60)


def test_an_answer_that_comes_while_the_question_is_closed_counts(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).ask(timeout=60)
    later(store, minutes=1)
    attempt = Attempt(store, 2)
    operation = attempt.calls.ask("approve", bool, key=None, message="", choices=None, timeout=60, default=ABSENT)
    there = attempt.stepper.reply(operation.send(None))  # type: ignore[arg-type]
    close = operation.send(there)
    assert isinstance(close, CloseQuestion)
    store.answer("approve", b"true")
    with pytest.raises(StopIteration) as end:
        operation.send(attempt.stepper.reply(close))
    assert end.value.value is True


def test_choices_are_the_enum_of_the_schema(store: Store) -> None:
    attempt = Attempt(store)
    with pytest.raises(Parking):
        attempt.ask(str, choices=("yes", "no"), timeout=5, default="no")
    question = msgspec.json.decode(attempt.stepper.asked(Ask)[0].question)
    assert (question["schema"]["enum"], question["default"]) == (["yes", "no"], "no")


def test_a_schema_may_be_given_as_it_is(store: Store) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    attempt = Attempt(store)
    with pytest.raises(Parking):
        attempt.ask(schema, choices=[{"a": 1}])
    question = msgspec.json.decode(attempt.stepper.asked(Ask)[0].question)
    assert question["schema"] == {**schema, "enum": [{"a": 1}]}
    assert "enum" not in schema
    store.answer("approve", b'{"a":1}')
    assert Attempt(store).ask(schema, choices=[{"a": 1}]) == {"a": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": "3 days"}, "timeout: expected seconds or an ISO 8601 duration"),
        ({"timeout": 0}, "timeout: expected more than 0"),
        ({"timeout": -1}, "timeout: expected more than 0"),
        ({"default": True}, "a default needs a timeout"),
        ({"default": "yes", "timeout": 5}, "the default is not of the type"),
        ({"choices": []}, "choices are empty"),
        ({"choices": [True], "default": False, "timeout": 5}, "the default is none of the choices"),
        ({"choices": [object()]}, "choices: it "),
        ({"message": "x" * 70_000}, "more than 65,536"),
    ],
)
def test_unsuitable_questions_are_refused(store: Store, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Attempt(store).ask(**options)
    assert store.steps == {}


def test_the_values_of_a_literal_keep_their_order(store: Store) -> None:
    attempt = Attempt(store)
    with pytest.raises(Parking):
        attempt.ask(Literal["yes", "no", "later"])
    question = msgspec.json.decode(attempt.stepper.asked(Ask)[0].question)
    assert question["schema"]["enum"] == ["yes", "no", "later"]
