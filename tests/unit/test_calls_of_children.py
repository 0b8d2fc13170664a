"""`call`, `map` and `spawn`, request by request: what they ask of the service, and make of its answers. No I/O."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.executor.stepper import Store
from tests.unit.calls import Attempt, Receipt, charge

from tasker import ChildFailed, ChildOptions, StepChanged, SyncContext, task
from tasker.errors import ChildrenRefused
from tasker.model import TaskProblem
from tasker.model.steps import Wait
from tasker.tasktypes.steps import (
    BYTES_AT_ONCE,
    CHILDREN_AT_ONCE,
    Parking,
    Refused,
    RunChildrenAgain,
    StartChildren,
)


@task(name="draw")
def render(page: str, context: SyncContext, size: int = 1) -> Receipt:
    return Receipt(page, size)


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_call_parks_until_the_child_has_ended_and_gives_its_typed_result(store: Store) -> None:
    first = Attempt(store)
    with pytest.raises(Parking) as parking:
        first.call(render, "one")
    assert parking.value.wait == Wait(children=("draw",))
    assert first.stepper.asked(StartChildren) == [StartChildren("draw", "draw", "draw", (b'["one"]',), 0, 1)]
    store.end_child("draw", 0, b'{"order":"one","total":9}')
    again = Attempt(store, 2)
    assert again.call(render, "one") == Receipt("one", 9)
    assert again.kinds == ["CollectChildren"]


@pytest.mark.parametrize(
    ("target", "args", "kwargs", "params"),
    [
        (render, ("one",), {}, ["one"]),
        (render, ("one", 2), {}, ["one", 2]),
        (render, (), {"page": "one"}, {"page": "one"}),
        (render, ("one",), {"size": 3}, {"page": "one", "size": 3}),
        ("mail", ("a", 1), {}, ["a", 1]),
        ("mail", (), {"to": "a"}, {"to": "a"}),
        ("mail", (), {}, []),
        ("mail", (Receipt("a", 1),), {}, [{"order": "a", "total": 1}]),
    ],
)
def test_arguments_become_params(store: Store, target: Any, args: Any, kwargs: Any, params: Any) -> None:
    attempt = Attempt(store)
    with pytest.raises(Parking):
        attempt.call(target, *args, **kwargs)
    (request,) = attempt.stepper.asked(StartChildren)
    assert msgspec.json.decode(request.params[0]) == params


@pytest.mark.parametrize(
    ("target", "args", "kwargs", "error", "message"),
    [
        ("mail", ("a",), {"to": "b"}, TypeError, "all params of 'mail' by position, or all by name"),
        (render, ("a", 1, 2), {"size": 1}, TypeError, "takes 2 params by position"),
        (charge, ("a",), {}, TypeError, "is no task: put @task on it"),
        (5, (), {}, TypeError, "is no task"),
        (render, (object(),), {}, ValueError, "the params of draw: it "),
        (render, ("x" * (BYTES_AT_ONCE + 1),), {}, ValueError, "more than 131,072: pass a reference"),
    ],
)
def test_unsuitable_children_are_refused(
    store: Store, target: Any, args: Any, kwargs: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Attempt(store).call(target, *args, **kwargs)
    assert store.steps == {}


def test_a_child_that_the_service_refuses(store: Store) -> None:
    attempt = Attempt(store)
    attempt.stepper.refusal = Refused("unknown-type", "there is no task type 'mail'")
    with pytest.raises(ChildrenRefused, match="there is no task type 'mail'") as refusal:
        attempt.call("mail")
    assert refusal.value.problem == "unknown-type"


def test_options_of_children_go_along(store: Store) -> None:
    options = ChildOptions(queue="slow", tags=("a",))
    attempt = Attempt(store)
    with pytest.raises(Parking):
        attempt.call("mail", options=options)
    assert attempt.stepper.asked(StartChildren)[0].options == options


def test_a_failed_child_is_raised_where_it_was_called(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).call("mail")
    store.end_child("mail", 0, None)
    with pytest.raises(ChildFailed, match="failed: no") as failure:
        Attempt(store).call("mail")
    assert failure.value.task_id == store.children["mail"][0].task_id
    assert failure.value.error.detail == "no"


def test_a_cancelled_child(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).call("mail")
    store.end_child("mail", 0, cancelled=True)
    with pytest.raises(ChildFailed, match="was cancelled") as failure:
        Attempt(store).call("mail")
    assert failure.value.error is None


def test_a_childs_result_that_does_not_fit(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).call(render, "a")
    store.end_child("draw", 0, b"5")
    with pytest.raises(StepChanged, match="'draw'"):
        Attempt(store).call(render, "a")


def test_a_map_gives_results_in_order(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).map(render, ["a", "b", "c", "d", "e"], max_in_flight=2)
    for place in (3, 0, 4, 1, 2):
        store.end_child("draw", place, b'{"order":"x","total":%d}' % place)
    assert [receipt.total for receipt in Attempt(store, 2).map(render, list("abcde"))] == [0, 1, 2, 3, 4]


def test_a_map_over_nothing_asks_for_nothing(store: Store) -> None:
    attempt = Attempt(store)
    assert attempt.map(render, []) == []
    assert attempt.kinds == []


def test_several_iterables_are_several_arguments(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).map(render, ["a", "b"], [1, 2])
    assert store.params["draw"] == {0: b'["a",1]', 1: b'["b",2]'}
    with pytest.raises(ValueError, match="zip"):
        Attempt(store).map(render, ["a", "b"], [1])


@pytest.mark.parametrize("items", [("a", "b"), {"k": 1}])
def test_an_item_is_one_argument_whatever_it_is(store: Store, items: Any) -> None:
    with pytest.raises(Parking):
        Attempt(store).map("mail", [items])
    assert msgspec.json.decode(store.params["mail"][0]) == [list(items) if isinstance(items, tuple) else items]


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "2"])
def test_an_unsuitable_limit_is_refused(store: Store, most: Any) -> None:
    with pytest.raises(ValueError, match="max_in_flight must be"):
        Attempt(store).map("mail", [1], max_in_flight=most)


@pytest.mark.parametrize(
    ("sizes", "chunks"),
    [
        ([10] * 3, [3]),
        ([10] * (CHILDREN_AT_ONCE + 1), [CHILDREN_AT_ONCE, 1]),
        ([BYTES_AT_ONCE // 2] * 3, [2, 1]),
        ([BYTES_AT_ONCE // 2 + 1] * 3, [1, 1, 1]),
        ([10, BYTES_AT_ONCE, 10], [1, 1, 1]),
    ],
)
def test_a_map_starts_its_children_in_chunks(store: Store, sizes: list[int], chunks: list[int]) -> None:
    attempt = Attempt(store)
    with pytest.raises(Parking):
        attempt.map("mail", ["x" * (size - 4) for size in sizes])
    requests = attempt.stepper.asked(StartChildren)
    assert [len(request.params) for request in requests] == chunks
    assert [request.first for request in requests] == [sum(chunks[:place]) for place in range(len(chunks))]
    assert {request.total for request in requests} == {len(sizes)}


def test_an_attempt_that_died_between_chunks_starts_the_rest(store: Store) -> None:
    first = Attempt(store)
    operation = first.calls.map(
        "mail",
        range(CHILDREN_AT_ONCE + 1),
        (),
        name=None,
        key=None,
        options=None,
        max_in_flight=None,
        return_errors=False,
    )
    first.stepper.reply(operation.send(None))  # type: ignore[arg-type]
    assert len(store.children["mail"]) == CHILDREN_AT_ONCE
    again = Attempt(store, 2)
    with pytest.raises(Parking):
        again.map("mail", range(CHILDREN_AT_ONCE + 1))
    assert again.kinds == ["CollectChildren", "StartChildren", "StartChildren", "Await"]
    last = Attempt(store, 3)
    with pytest.raises(Parking):
        last.map("mail", range(CHILDREN_AT_ONCE + 1))
    assert last.kinds == ["CollectChildren", "Await"]


def test_a_map_with_another_number_of_items(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).map("mail", [1, 2])
    with pytest.raises(StepChanged, match="it has started 2 children, and would start 3 now"):
        Attempt(store).map("mail", [1, 2, 3])


def test_errors_are_values_if_one_asks_for_them(store: Store) -> None:
    with pytest.raises(Parking):
        Attempt(store).map("mail", [1, 2], return_errors=True)
    store.end_child("mail", 0, None)
    store.end_child("mail", 1, b"2")
    failure, result = Attempt(store).map("mail", [1, 2], return_errors=True)
    assert isinstance(failure, ChildFailed)
    assert result == 2
    with pytest.raises(ChildFailed):
        Attempt(store).map("mail", [1, 2])


@pytest.mark.parametrize(
    ("may_run_again", "return_errors", "runs"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_new_try_runs_failed_children_again(
    store: Store, may_run_again: bool, return_errors: bool, runs: bool
) -> None:
    with pytest.raises(Parking):
        Attempt(store).map("mail", [1, 2])
    store.end_child("mail", 0, None)
    store.end_child("mail", 1, b"2")
    store.change("mail", may_run_again=may_run_again)
    attempt = Attempt(store, 2)
    if return_errors:
        assert isinstance(attempt.map("mail", [1, 2], return_errors=True)[0], ChildFailed)
    else:
        with pytest.raises(Parking if runs else ChildFailed):
            attempt.map("mail", [1, 2])
    assert bool(attempt.stepper.asked(RunChildrenAgain)) is runs


def test_a_spawned_child_has_its_id_at_once_and_its_result_later(store: Store) -> None:
    def spawn(attempt: Attempt) -> tuple[Any, Any]:
        brood, start = attempt.calls.spawn(render, ("a",), {}, name="late", key=None, options=None, detached=True)
        return brood, attempt.run(start)

    first = Attempt(store)
    brood, task_id = spawn(first)
    assert task_id == store.children["late"][0].task_id
    assert first.stepper.asked(StartChildren)[0].is_detached
    with pytest.raises(Parking):
        first.run(first.calls.result(brood))
    store.end_child("late", 0, b'{"order":"a","total":1}')
    again = Attempt(store, 2)
    brood, same_id = spawn(again)
    assert same_id == task_id
    for _ in range(2):
        assert again.run(again.calls.result(brood)) == Receipt("a", 1)
    assert not again.stepper.asked(StartChildren)


def test_the_failure_of_a_childs_child_names_the_last_of_the_line_once() -> None:
    def failed(child: int, kind: str, detail: str) -> ChildFailed:
        return ChildFailed(UUID(int=child), TaskProblem(type=f"/problems/{kind}", title="", detail=detail))

    last = failed(1, "task-raised", "ValueError: no (in words)")
    middle = failed(2, "child-failed", str(last))
    first = failed(3, "child-failed", str(middle))
    assert str(last) == f"child {UUID(int=1)} failed: ValueError: no (in words)"
    assert str(middle) == f"child {UUID(int=2)} failed: ValueError: no (in words) (in {UUID(int=1)})"
    assert str(first) == f"child {UUID(int=3)} failed: ValueError: no (in words) (in {UUID(int=1)})"
    cancelled = failed(5, "child-failed", str(ChildFailed(UUID(int=4), None)))
    assert str(cancelled) == f"child {UUID(int=5)} failed: child {UUID(int=4)} was cancelled"
