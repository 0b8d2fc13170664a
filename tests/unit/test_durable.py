"""What an attempt remembers: keys by the uses of names, and when it parks, with what. Pure."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tasker.errors import StepChanged
from tasker.model.steps import Step, Wait
from tasker.tasktypes.durable import MAX_NAME, STEP_UNDER_WAY, Durable
from tasker.tasktypes.steps import Parking
from tasker.testing import START


class Woken:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def durable(woken: Woken) -> Durable:
    return Durable((), woken)


@pytest.mark.parametrize(
    ("calls", "keys"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "b", "a"], ["a", "a#2", "b", "a#3"]),
        ([("a", "mine"), "a"], ["mine", "a#2"]),
        ([("a", "a#3"), "b", "a"], ["a#3", "b", "a#2"]),
    ],
)
def test_a_key_counts_the_uses_of_its_name(
    durable: Durable, calls: list[str | tuple[str, str]], keys: list[str]
) -> None:
    assert [durable.take_key(*((call,) if isinstance(call, str) else call)) for call in calls] == keys


@pytest.mark.parametrize(
    "calls", [[("a", "x"), ("b", "x")], [("a", "b"), ("b", None)], [("a#2", None), ("a", None), ("a", None)]]
)
def test_a_key_is_of_one_call(durable: Durable, calls: list[tuple[str, str | None]]) -> None:
    for call in calls[:-1]:
        durable.take_key(*call)
    with pytest.raises(ValueError, match="is used by another step"):
        durable.take_key(*calls[-1])


@pytest.mark.parametrize("name", ["", "a\nb", "x" * (MAX_NAME + 1), 5, None, "lone \ud800"])
def test_unsuitable_names_and_keys_are_refused(durable: Durable, name: object) -> None:
    with pytest.raises(ValueError, match="the name of a step must be"):
        durable.take_key(name)  # type: ignore[arg-type]
    if name is not None:
        with pytest.raises(ValueError, match="the key of a step must be"):
            durable.take_key("a", name)  # type: ignore[arg-type]


def test_no_call_is_made_within_a_step(durable: Durable) -> None:
    token = STEP_UNDER_WAY.set("charge")
    try:
        with pytest.raises(RuntimeError, match="'other' is called within the step 'charge'"):
            durable.take_key("other")
    finally:
        STEP_UNDER_WAY.reset(token)


def test_finds_what_is_stored_of_the_kind_that_is_called(woken: Woken) -> None:
    step = Step(key="a", name="a", kind="sleep", number=1, attempt=1, started_at=START)
    durable = Durable([step], woken)
    assert durable.find("a", "sleep") is step
    assert durable.find("b", "sleep") is None
    with pytest.raises(StepChanged, match="expected children, but a sleep is stored"):
        durable.find("a", "children")


SOON, LATE = START + timedelta(hours=1), START + timedelta(hours=2)


@pytest.mark.parametrize(
    ("waits", "union", "reason"),
    [
        ([Wait(until=LATE)], Wait(until=LATE), "sleeping"),
        ([Wait(until=LATE), Wait(until=SOON)], Wait(until=SOON), "sleeping"),
        ([Wait(until=SOON), Wait(children=("a",))], Wait(until=SOON, children=("a",)), "waiting_for_children"),
        (
            [Wait(children=("a",)), Wait(until=LATE, inputs=("b",)), Wait(children=("c",))],
            Wait(until=LATE, inputs=("b",), children=("a", "c")),
            "input_required",
        ),
    ],
)
def test_parks_with_all_that_is_waited_for(
    durable: Durable, woken: Woken, waits: list[Wait], union: Wait, reason: str
) -> None:
    for wait in waits:
        durable.begin_wait(wait)
    with pytest.raises(Parking) as parking:
        durable.park(durable.activity)
    assert parking.value.wait == durable.wait == union
    assert union.reason == reason
    assert woken.times == 1


def test_a_wait_that_has_ended_is_none_of_it(durable: Durable) -> None:
    ended = durable.begin_wait(Wait(until=SOON))
    durable.begin_wait(Wait(until=LATE))
    durable.end_wait(ended)
    with pytest.raises(Parking) as parking:
        durable.park(durable.activity)
    assert parking.value.wait == Wait(until=LATE)


def test_does_not_park_while_a_step_runs(durable: Durable) -> None:
    durable.begin_wait(Wait(until=SOON))
    durable.begin()
    durable.park(durable.activity)
    assert durable.is_busy
    assert not durable.is_ending
    durable.end()
    with pytest.raises(Parking):
        durable.park(durable.activity)


@pytest.mark.parametrize("what", ["a step", "a wait", "the end of a wait", "the end of a step"])
def test_does_not_park_if_something_has_happened_meanwhile(durable: Durable, what: str) -> None:
    """So a branch between two steps has as long as another one is patient."""
    durable.begin_wait(Wait(until=SOON))
    if what == "the end of a step":
        durable.begin()
    other = durable.begin_wait(Wait(until=LATE)) if what == "the end of a wait" else None
    seen = durable.activity
    match what:
        case "a step":
            durable.begin()
            durable.end()
        case "a wait":
            durable.begin_wait(Wait(until=LATE))
        case "the end of a wait":
            assert other is not None
            durable.end_wait(other)
        case _:
            durable.end()
    durable.park(seen)
    assert not durable.is_ending


@pytest.mark.parametrize("how", ["park", "stop"])
def test_after_that_every_call_is_unwound(durable: Durable, woken: Woken, how: str) -> None:
    token = durable.begin_wait(Wait(until=SOON))
    if how == "park":
        with pytest.raises(Parking):
            durable.park(durable.activity)
    else:
        durable.stop()
        durable.stop()
    wait = Wait(until=SOON) if how == "park" else None
    for call in (lambda: durable.take_key("a"), durable.begin, lambda: durable.begin_wait(Wait()), durable.check):
        with pytest.raises(Parking) as parking:
            call()
        assert parking.value.wait == wait
    durable.end_wait(token)
    assert durable.wait == wait
    assert woken.times == 1


def test_parking_is_no_exception_that_functions_catch() -> None:
    assert not issubclass(Parking, Exception)
