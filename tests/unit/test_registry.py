"""@task, the Registry, and the options of a task type."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

import tasker
from tasker.errors import Invalid, RegistrationError
from tasker.model import Policy, RetryPolicy
from tasker.tasktypes.published import publish, revive
from tasker.tasktypes.registry import Registry, TaskType, task


def resize(width: int, *, height: int = 10) -> str:
    """Make an image smaller."""
    return f"{width}x{height}"


@pytest.fixture(autouse=True)
def unmark() -> Iterator[None]:
    """The mark stays on a function, as it should; here each test marks `resize` again."""
    yield
    vars(resize).clear()


def register(function: Any, **options: Any) -> TaskType:
    return Registry().add(task(**options)(function))


def test_a_marked_function_is_still_the_function() -> None:
    assert task(resize) is resize
    assert task(name="other")(resize) is resize
    assert resize(3) == "3x10"


def test_a_task_type_says_all_about_its_function() -> None:
    task_type = register(resize)
    assert (task_type.name, task_type.description, task_type.is_async) == ("resize", "Make an image smaller.", False)
    assert task_type.function is resize
    assert (task_type.queue, task_type.priority, task_type.memory_limit) == ("default", 0, None)
    assert (task_type.positional, task_type.rest, task_type.context_parameter) == (("width",), None, None)
    assert re.search(r"test_registry\.py:\d+$", task_type.source)
    assert task_type.example == {"width": 1, "height": 10}


def test_an_unmarked_function_gets_the_defaults() -> None:
    def plain(a: int) -> int:
        return a

    assert Registry().add(plain).policy == Policy(timeout=timedelta(seconds=300))


def test_options_are_kept() -> None:
    retry = RetryPolicy(max_attempts=3, initial=timedelta(seconds=2), jitter=False)
    task_type = register(
        resize, name="img.resize-2", queue="slow", priority=-100, timeout=1.5, retry=retry, on_crash="fail",
        memory_limit=50_000_000, example=[3],
    )  # fmt: skip
    assert (task_type.name, task_type.queue, task_type.priority) == ("img.resize-2", "slow", -100)
    assert task_type.policy == Policy(retry=retry, timeout=timedelta(seconds=1.5), on_crash="fail")
    assert (task_type.memory_limit, task_type.example) == (50_000_000, [3])


@pytest.mark.parametrize(
    ("said", "holds"),
    [
        (None, timedelta(days=7)),
        (60, timedelta(minutes=1)),
        (timedelta(days=1), timedelta(days=1)),
        ("forever", "forever"),
    ],
)
def test_a_type_keeps_its_tasks_as_long_as_it_says_or_the_service(said: Any, holds: Any) -> None:
    registry = Registry(default_retention=timedelta(days=7))
    assert registry.add(task(retention=said)(resize)).retention == holds


def test_the_policy_is_encoded_with_the_timeout_that_holds() -> None:
    own = Registry(default_timeout=timedelta(seconds=7)).add(task(timeout=timedelta(minutes=1))(resize))
    other = Registry(default_timeout=timedelta(seconds=7)).add(task(retry=4)(resize))
    assert msgspec.json.decode(own.policy_json, type=Policy) == own.policy
    assert own.policy.timeout == timedelta(minutes=1)
    assert msgspec.json.decode(other.policy_json, type=Policy) == other.policy
    assert other.policy == Policy(retry=RetryPolicy(max_attempts=4), timeout=timedelta(seconds=7))


@pytest.mark.parametrize(
    ("limit", "size"),
    [("512MB", 512_000_000), ("16 MB", 16_000_000), ("1.5GiB", 3 * 2**29), ("64mib", 2**26), ("20000KB", 20_000_000)],
)
def test_a_memory_limit_may_be_text(limit: str, size: int) -> None:
    assert register(resize, memory_limit=limit).memory_limit == size


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": ""}, "name must match"),
        ({"name": "a/b"}, "name must match"),
        ({"name": "a\n"}, "name must match"),
        ({"name": "a" * 101}, "name must match"),
        ({"name": 1}, "name must match"),
        ({"queue": "two words"}, "queue must match"),
        ({"queue": None}, "queue must match"),
        ({"priority": 101}, "from -100 to 100, got 101"),
        ({"priority": True}, "from -100 to 100, got True"),
        ({"priority": 1.0}, "from -100 to 100, got 1.0"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": -1.5}, "timeout must be"),
        ({"timeout": True}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": 1e300}, "timeout must be"),
        ({"timeout": "5s"}, "timeout must be"),
        ({"retention": 0}, "retention must be"),
        ({"retention": True}, "retention must be"),
        ({"retention": "for ever"}, "retention must be"),
        ({"retention": timedelta(days=4000)}, "retention must be"),
        ({"retry": 0}, "1 to 100 attempts"),
        ({"retry": 101}, "1 to 100 attempts"),
        ({"retry": True}, "number of attempts or a RetryPolicy"),
        ({"retry": "3"}, "number of attempts or a RetryPolicy"),
        ({"retry": RetryPolicy(max_attempts=0)}, "1 to 100 attempts"),
        ({"retry": RetryPolicy(factor=0.5)}, "factor from 1"),
        ({"retry": RetryPolicy(factor=float("nan"))}, "factor from 1"),
        ({"retry": RetryPolicy(initial=timedelta(seconds=-1))}, "0 <= initial <= max"),
        ({"retry": RetryPolicy(initial=timedelta(hours=1))}, "0 <= initial <= max"),
        ({"on_crash": "explode"}, 'on_crash must be "retry" or "fail"'),
        ({"memory_limit": "512 apples"}, 'such as "512MB"'),
        ({"memory_limit": "1MB"}, "at least 16MB"),
        ({"memory_limit": 512}, "at least 16MB"),
        ({"memory_limit": True}, "at least 16MB"),
        ({"example": ["x"]}, "example: the params do not fit resize: expected integer, got string at /0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(RegistrationError, match=re.escape(says)) as caught:
        register(resize, **options)
    assert re.match(r".*test_registry\.py:\d+: resize: ", str(caught.value))


def test_all_faults_of_options_are_reported_with_similar_names() -> None:
    @task(retrys=3, que="llm", priority=101, timeout="5m", on_crash="never", memory_limit="1MB", nothing_like_it=1)
    def f(): ...

    with pytest.raises(RegistrationError) as caught:
        Registry().add(f)
    said = str(caught.value)
    assert re.match(r".*test_registry\.py:\d+: .*f: 'retrys' is no option of @task; did you mean 'retry'\?; ", said)
    for part in (
        "'que' is no option of @task; did you mean 'queue'?",
        "'nothing_like_it' is no option of @task; these are: name, queue,",
        "priority must be a whole number from -100 to 100, got 101",
        "timeout must be a timedelta or seconds, more than 0, got '5m'",
        'on_crash must be "retry" or "fail"',
        "memory_limit must be bytes or text",
    ):
        assert part in said
    assert "unknown" not in said.partition("these are")[2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retry": RetryPolicy(initial=1)}, "retry.initial: expected duration, got integer"),  # type: ignore[arg-type]
        ({"retry": RetryPolicy(factor="2")}, "retry.factor: expected number, got string"),  # type: ignore[arg-type]
        ({"retry": RetryPolicy(factor=float("nan"))}, "a factor from 1 to 100"),
        ({"retry": RetryPolicy(jitter=1)}, "retry.jitter: expected boolean, got integer"),  # type: ignore[arg-type]
        ({"retry": RetryPolicy(max_attempts=True)}, "retry.max_attempts: expected integer, got boolean"),
        ({"retry": "3"}, "retry must be the number of attempts"),
        ({"costs": "no"}, "costs must be True or False, got 'no'"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": True}, "timeout must be"),
        ({"name": 3}, "name must match"),
        ({"check": 3}, "check must be a function"),
    ],
    ids=str,
)
def test_options_of_the_wrong_type(options: dict[str, Any], says: str) -> None:
    @task(**options)
    def f(): ...

    with pytest.raises(RegistrationError, match=re.escape(says)):
        Registry().add(f)


def test_a_memory_limit_needs_a_process() -> None:
    async def on_the_loop() -> None: ...

    with pytest.raises(RegistrationError, match="needs a `def` function"):
        register(on_the_loop, memory_limit="512MB")


@pytest.mark.parametrize("thing", [int, print, object(), resize.__get__(1), "resize"])
def test_only_functions_can_be_marked(thing: Any) -> None:
    with pytest.raises(RegistrationError, match="only a function can be a task"):
        task(thing)


def test_a_registry_holds_types_in_order() -> None:
    def second() -> None: ...

    registry = Registry()
    first_type, second_type = registry.add(resize), registry.add(second)
    assert registry.names() == ["resize", "second"]
    assert list(registry) == [first_type, second_type]
    assert len(registry) == 2
    assert "second" in registry
    assert "third" not in registry
    assert registry.find("second") is registry.get("second") is second_type
    assert registry.find("third") is None


def test_adding_the_same_function_again_changes_nothing() -> None:
    registry = Registry()
    assert registry.add(resize) is registry.add(resize)
    assert len(registry) == 1


def test_a_task_type_can_be_added_itself() -> None:
    task_type = Registry(default_timeout=timedelta(seconds=1)).add(resize)
    assert Registry().add(task_type) is task_type


def test_a_name_belongs_to_one_function() -> None:
    def other(width: int) -> None: ...

    registry = Registry()
    registry.add(resize)
    with pytest.raises(RegistrationError, match=r"'resize' is taken by resize at .*test_registry") as caught:
        registry.add(task(name="resize")(other))
    assert len(re.findall(r"test_registry\.py:\d+", str(caught.value))) == 2


def test_an_unknown_type_names_those_like_it() -> None:
    registry = Registry()
    registry.add(resize)
    with pytest.raises(Invalid, match="there is no task type 'reszie'; did you mean 'resize'") as caught:
        registry.get("reszie")
    assert caught.value.kind.name == "unknown-type"


@pytest.mark.parametrize("name", ["", "nope", "__import__('os')", "os.system", "../x", "x" * 10_000])
def test_only_registered_names_are_found(name: str) -> None:
    registry = Registry()
    registry.add(resize)
    with pytest.raises(Invalid) as caught:
        registry.get(name)
    assert len(caught.value.detail) < 200


def test_types_of_other_processes_are_known_and_not_run_here() -> None:
    there = Registry()
    there.add(resize)

    @task(name="own")
    def theirs(number: int) -> None: ...

    @task(name="own")
    def mine(word: str) -> None: ...

    there.add(theirs)
    here = Registry()
    kept = here.add(mine)
    here.take_published([revive(publish(one)) for one in there])
    assert here.version == 1
    assert (here.names(), [one.name for one in here]) == (["own"], ["own"]), "what a worker of this process claims"
    assert here.known_names() == [one.name for one in here.known()] == ["own", "resize"]
    assert here.get("own") is kept, "one's own hides that of another process"
    assert "resize" in here
    with pytest.raises(Invalid, match="did you mean 'resize'"):
        here.get("reszie")
    here.take_published([])
    assert here.find("resize") is None


def test_the_public_names() -> None:
    for name in tasker.__all__:
        thing = getattr(tasker, name)
        assert thing is tasker.rules.secrets.secret or thing.__module__.startswith("tasker.")
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        tasker.Nothing  # noqa: B018


def test_what_a_cache_makes_of_a_function_is_refused_with_the_place_of_the_function() -> None:
    with pytest.raises(RegistrationError, match=r"test_registry\.py:\d+: .*<locals>\.cached: only a function can be"):

        @task
        @functools.lru_cache
        def cached(a: int) -> int:
            return a
