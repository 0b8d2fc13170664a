"""Bodies of submissions: what is read from them, and that every fault is found at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tasker import task
from tasker.errors import Fault, Invalid, Malformed
from tasker.requests.submissions import Context, RetryOptions, Submission, read_submission
from tasker.tasktypes.registry import Registry
from tasker.testing import START


@task
async def add(a: float, b: float = 0) -> float:
    return a + b


@task
async def nothing() -> None: ...


@pytest.fixture(scope="module")
def registry() -> Registry:
    registry = Registry()
    registry.add(add)
    registry.add(nothing)
    return registry


def read(registry: Registry, body: bytes | dict[str, Any], **options: Any) -> Submission:
    text = body if isinstance(body, bytes) else json.dumps({"type": "add", "params": [4, 2]} | body).encode()
    return read_submission(text, Context(registry, START), **options)[1]


def faults(registry: Registry, body: bytes | dict[str, Any], **options: Any) -> tuple[str, dict[str, str]]:
    with pytest.raises(Invalid) as caught:
        read(registry, body, **options)
    return caught.value.kind.name, {fault.pointer: fault.detail for fault in caught.value.faults}


def test_type_and_params_are_enough(registry: Registry) -> None:
    task_type, submission = read_submission(b'{"type":"add","params":[4,2]}', Context(registry, START))
    assert task_type is registry.get("add")
    assert submission.type == "add"
    assert bytes(submission.params) == b"[4,2]"
    assert submission == Submission(type="add", params=submission.params)


def test_the_check_of_a_type_sees_every_digit() -> None:
    seen: list[Decimal] = []

    def look(amount: Decimal) -> Iterator[Fault]:
        seen.append(amount)
        yield from ()

    @task(check=look, example=["1"])
    def pay(amount: Decimal) -> None: ...

    registry = Registry()
    registry.add(pay)
    params = b"[ 12345678901234567.89]"
    read(registry, b'{"params": %b, "type":"pay"}' % params)
    read(registry, b'{"params": %b, "type":"pay", "tags":[]}' % params)
    read(registry, b" \n" + params, type_name="pay")
    assert seen[1:] == [Decimal("12345678901234567.89")] * 3


def test_params_stay_as_they_were_written(registry: Registry) -> None:
    text = b"[ -0 ,\n9223372036854775808 ]"
    assert bytes(read(registry, b'{"params": %b, "type":"add", "tags":[]}' % text).params) == text
    assert bytes(read(registry, b' {"a":1.10, "b":1e2}\n', type_name="add").params) == b'{"a":1.10, "b":1e2}'


def test_params_may_be_left_out_where_none_are_needed(registry: Registry) -> None:
    assert bytes(read(registry, b'{"type":"nothing"}').params) == b"[]"
    assert faults(registry, b'{"type":"add"}') == ("invalid-params", {"/params/0": "`a` is missing"})


def test_every_option(registry: Registry) -> None:
    submission = read(
        registry,
        b'{"type":"add","params":[1],"queue":"q","priority":-100,"delay":1.5,"timeout":"PT5M","tags":["a","b"],'
        b'"retry":{"max_attempts":100,"initial":0,"factor":1,"max":"PT1H","jitter":false},"metadata":{"n": 1.10}}',
    )
    assert submission.queue == "q"
    assert submission.priority == -100
    assert submission.delay == timedelta(seconds=1.5)
    assert submission.timeout == timedelta(minutes=5)
    assert submission.tags == ("a", "b")
    assert submission.retry == RetryOptions(
        max_attempts=100, initial=timedelta(0), factor=1.0, max=timedelta(hours=1), jitter=False
    )
    assert submission.metadata is not None
    assert bytes(submission.metadata) == b'{"n": 1.10}'


@pytest.mark.parametrize(
    ("given", "read_as"),
    [(1.5, timedelta(seconds=1.5)), ("P30D", timedelta(days=30)), ("forever", "forever"), (None, None)],
)
def test_a_retention_is_a_duration_or_forever(registry: Registry, given: object, read_as: object) -> None:
    assert read(registry, {"retention": given}).retention == read_as


def test_run_at_is_kept_in_utc(registry: Registry) -> None:
    submission = read(registry, {"run_at": "2026-03-01T12:00:00+02:00"})
    assert submission.run_at == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert submission.run_at.tzinfo is UTC


def test_null_is_the_same_as_left_out(registry: Registry) -> None:
    names = ("queue", "priority", "delay", "run_at", "timeout", "retry", "tags", "metadata", "retention")
    plain = read(registry, {})
    nulls = read(registry, dict.fromkeys(names))
    assert [getattr(nulls, name) for name in names] == [getattr(plain, name) for name in names]
    assert read(registry, {"retry": {"jitter": None}}).retry == RetryOptions()


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"queue": ""}, "/queue"),
        ({"queue": "a b"}, "/queue"),
        ({"queue": "q" * 101}, "/queue"),
        ({"queue": 1}, "/queue"),
        ({"priority": 101}, "/priority"),
        ({"priority": -101}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"priority": "5"}, "/priority"),
        ({"priority": 1.5}, "/priority"),
        ({"priority": 10**400}, "/priority"),
        ({"delay": -1}, "/delay"),
        ({"delay": True}, "/delay"),
        ({"delay": "5"}, "/delay"),
        ({"delay": "P1Y"}, "/delay"),
        ({"delay": "-PT5S"}, "/delay"),
        ({"delay": 1e300}, "/delay"),
        ({"delay": 10**400}, "/delay"),
        ({"delay": "P99999999999D"}, "/delay"),
        ({"delay": 3654 * 86400}, "/delay"),
        ({"timeout": 0}, "/timeout"),
        ({"timeout": 1e-9}, "/timeout"),
        ({"timeout": -1}, "/timeout"),
        ({"timeout": 86401}, "/timeout"),
        ({"timeout": "PT25H"}, "/timeout"),
        ({"timeout": True}, "/timeout"),
        ({"retention": 0}, "/retention"),
        ({"retention": -1}, "/retention"),
        ({"retention": True}, "/retention"),
        ({"retention": "for ever"}, "/retention"),
        ({"retention": "P10000D"}, "/retention"),
        ({"retention": ["forever"]}, "/retention"),
        ({"run_at": "2026-03-01T12:00:00"}, "/run_at"),
        ({"run_at": "9999-12-31T23:59:59Z"}, "/run_at"),
        ({"run_at": "9999-12-31T23:59:59-14:00"}, "/run_at"),
        ({"run_at": "1970-01-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "0001-01-01T00:00:00+14:00"}, "/run_at"),
        ({"run_at": "2126-01-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "tomorrow"}, "/run_at"),
        ({"run_at": 1767225600}, "/run_at"),
        ({"run_at": "2026-03-01T12:00:00Z", "delay": 1}, "/run_at"),
        ({"retry": 0}, "/retry"),
        ({"retry": 101}, "/retry"),
        ({"retry": True}, "/retry"),
        ({"retry": 2.5}, "/retry"),
        ({"retry": "3"}, "/retry"),
        ({"retry": [3]}, "/retry"),
        ({"retry": {"max_attempts": 0}}, "/retry/max_attempts"),
        ({"retry": {"max_attempts": 101}}, "/retry/max_attempts"),
        ({"retry": {"max_attempts": True}}, "/retry/max_attempts"),
        ({"retry": {"initial": -1}}, "/retry/initial"),
        ({"retry": {"factor": 0.5}}, "/retry/factor"),
        ({"retry": {"factor": 1000}}, "/retry/factor"),
        ({"retry": {"max": "PT200H"}}, "/retry/max"),
        ({"retry": {"jitter": 1}}, "/retry/jitter"),
        ({"retry": {"initial": 20, "max": 10}}, "/retry/initial"),
        ({"retry": {"initial": 601}}, "/retry/initial"),  # the type's `max` is ten minutes
        ({"retry": {"max": 0.5}}, "/retry/max"),  # the type's `initial` is a second
        ({"tags": "a"}, "/tags"),
        ({"tags": ["a"] * 21}, "/tags"),
        ({"tags": ["a", ""]}, "/tags/1"),
        ({"tags": ["a" * 101]}, "/tags/0"),
        ({"tags": [1]}, "/tags/0"),
        ({"metadata": []}, "/metadata"),
        ({"deadline": "2026-01-01T00:00:00Z"}, "/deadline"),
        ({"deadline": "2126-01-01T00:00:00Z"}, "/deadline"),
        ({"deadline": "2026-03-01T00:00:00"}, "/deadline"),
        ({"deadline": 5}, "/deadline"),
        ({"deadline": "2026-01-01T00:00:10Z", "delay": 10}, "/deadline"),
        ({"deadline": "2026-03-01T00:00:00Z", "run_at": "2026-03-02T00:00:00Z"}, "/deadline"),
        ({"unique_key": ""}, "/unique_key"),
        ({"unique_key": "k" * 256}, "/unique_key"),
        ({"unique_key": 1}, "/unique_key"),
        ({"unique_key": "k", "on_conflict": "fail"}, "/on_conflict"),
        ({"on_conflict": "reject"}, "/on_conflict"),
        ({"depends_on": "0198c0de-0000-7000-8000-000000000001"}, "/depends_on"),
        ({"depends_on": ["0198c0de-0000-7000-8000-000000000001"] * 101}, "/depends_on"),
        ({"depends_on": ["0198c0de-0000-7000-8000-000000000001", "x"]}, "/depends_on/1"),
        ({"depends_on": [1]}, "/depends_on/0"),
        ({"cache": -1}, "/cache"),
        ({"cache": True}, "/cache"),
        ({"cache": "P999D"}, "/cache"),
        ({"metadata": "x"}, "/metadata"),
        ({"metadata": {"a": "x" * 16 * 1024}}, "/metadata"),
        ({"type": 1}, "/type"),
        ({"type": ""}, "/type"),
        ({"type": None}, "/type"),
    ],
)
def test_one_wrong_option(registry: Registry, options: dict[str, Any], pointer: str) -> None:
    name, found = faults(registry, options)
    assert name == "invalid-request"
    assert list(found) == [pointer]
    assert found[pointer]


@pytest.mark.parametrize("text", ["5m", "5", "5 minutes", "", "P", "PT", "0:05:00", " PT5M", "infinity", "5M" * 99])
@pytest.mark.parametrize("option", ["delay", "timeout", "cache", "retention"])
def test_a_refused_duration_says_what_is_expected(registry: Registry, option: str, text: str) -> None:
    found = faults(registry, {option: text})[1]
    ending = ', or "forever"' if option == "retention" else ""
    assert found == {f"/{option}": f"expected seconds or an ISO 8601 duration such as PT5M{ending}"}


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (True, "expected seconds or an ISO 8601 duration such as PT5M, got boolean"),
        ([5], "expected seconds or an ISO 8601 duration such as PT5M, got array"),
        ("P1Y", "expected seconds or an ISO 8601 duration such as PT5M; years and months differ in length"),
        ("P2W", "expected more than 0 to 86,400 seconds"),
        ("-PT5M", "expected more than 0 to 86,400 seconds"),
        ("P" + "9" * 30 + "D", "expected more than 0 to 86,400 seconds"),
        (10**400, "expected more than 0 to 86,400 seconds"),
        (-(10**400), "expected more than 0 to 86,400 seconds"),
    ],
)
def test_details_of_refused_durations(registry: Registry, value: object, detail: str) -> None:
    assert faults(registry, {"timeout": value})[1] == {"/timeout": detail}
    assert list(faults(registry, {"retry": {"initial": value, "max": value}})[1]) == ["/retry/initial", "/retry/max"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0), (1.5, 1.5), ("PT5M", 300), ("pt1h30m", 5400), ("P1DT1H", 90_000), ("PT0.25S", 0.25), ("P2W", 1_209_600),
    ],
)  # fmt: skip
def test_a_duration_is_seconds_or_iso_8601(registry: Registry, value: object, seconds: float) -> None:
    assert read(registry, {"delay": value}).delay == timedelta(seconds=seconds)


def test_a_number_of_attempts_is_short_for_the_object(registry: Registry) -> None:
    assert read(registry, {"retry": 3}) == read(registry, {"retry": {"max_attempts": 3}})
    assert read(registry, {"retry": 3}).retry == RetryOptions(max_attempts=3)


def test_the_delays_of_retries_are_compared_with_those_of_the_type(registry: Registry) -> None:
    assert faults(registry, {"retry": {"initial": "PT1H"}})[1] == {"/retry/initial": "expected at most `max` (600 s)"}
    assert faults(registry, {"retry": {"max": 0}})[1] == {"/retry/max": "expected at least `initial` (1 s)"}
    assert read(registry, {"retry": {"initial": 5, "max": 5}}).retry == RetryOptions(
        initial=timedelta(seconds=5), max=timedelta(seconds=5)
    )


@pytest.mark.parametrize(
    ("body", "pointer", "meant"),
    [
        ({"timout": 5}, "/timout", "timeout"),
        ({"runAt": "x"}, "/runAt", "run_at"),
        ({"PRIORITY": 1}, "/PRIORITY", "priority"),
        ({"kwargs": {}}, "/kwargs", "params"),
        ({"countdown": 5}, "/countdown", "delay"),
        ({"max_retries": 5}, "/max_retries", "retry"),
        ({"retry": {"maxAttempts": 5}}, "/retry/maxAttempts", "max_attempts"),
        ({"retry": {"backoff": 2}}, "/retry/backoff", "factor"),
    ],
)
def test_an_unknown_option_names_the_one_that_is_meant(
    registry: Registry, body: dict[str, Any], pointer: str, meant: str
) -> None:
    assert faults(registry, body) == ("unknown-field", {pointer: f"unknown field; did you mean `{meant}`?"})


@pytest.mark.parametrize("name", ["nope", "__import__('os')", "os.system", "../x", "Add", "x" * 10_000])
def test_an_unknown_type_is_looked_up_and_nothing_else(registry: Registry, name: str) -> None:
    problem, found = faults(registry, {"type": name})
    assert problem == "unknown-type"
    assert list(found) == ["/type"]
    assert len(found["/type"]) < 300


@pytest.mark.parametrize(
    "name",
    ["status", "id", "owner", "__proto__", "a/b", "x" * 5000],
)  # fmt: skip
def test_an_unknown_field(registry: Registry, name: str) -> None:
    problem, found = faults(registry, {name: 1})
    assert problem == "unknown-field"
    assert len(found) == 1


def test_options_that_tie_a_task_to_others(registry: Registry) -> None:
    other = "0198c0de-0000-7000-8000-000000000001"
    submission = read(
        registry,
        {"deadline": "2026-03-01T02:00:00+01:00", "unique_key": "k", "on_conflict": "replace",
         "depends_on": [other, other.upper()], "cache": "PT1M"},
    )  # fmt: skip
    assert submission.deadline == datetime(2026, 3, 1, 1, tzinfo=UTC)
    assert (submission.unique_key, submission.on_conflict) == ("k", "replace")
    assert submission.depends_on == (UUID(other),)
    assert submission.cache == timedelta(minutes=1)


def test_an_unknown_param_is_reported_like_an_unknown_field(registry: Registry) -> None:
    assert faults(registry, {"params": {"a": 1, "__class__": 1}})[0] == "unknown-field"
    name, found = faults(registry, {"params": {"a": 1, "c": 1}, "prams": [], "retry": {"tries": 1}})
    assert name == "unknown-field"
    assert set(found) == {"/params/c", "/prams", "/retry/tries"}
    assert "params" in found["/prams"]


def test_all_faults_at_once(registry: Registry) -> None:
    name, found = faults(
        registry,
        {"params": ["4", True], "priority": "5", "tags": ["", 1], "retry": {"max_attempts": 0, "x": 1}, "status": 1},
    )
    assert name == "invalid-request"
    assert set(found) == {
        "/params/0", "/params/1", "/priority", "/tags/0", "/tags/1", "/retry/max_attempts", "/retry/x", "/status",
    }  # fmt: skip


def test_params_alone_have_pointers_into_themselves(registry: Registry) -> None:
    assert faults(registry, b'["x"]', type_name="add") == ("invalid-params", {"/0": "expected number, got string"})
    assert faults(registry, b"5", type_name="add")[0] == "invalid-params"


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"1"])
def test_a_body_that_is_no_object(registry: Registry, body: bytes) -> None:
    assert faults(registry, body) == ("invalid-request", {"": "expected an object"})


def test_what_is_not_json_is_malformed(registry: Registry) -> None:
    with pytest.raises(Malformed):
        read(registry, b'{"type":"add","params":[1,]}')
    with pytest.raises(Malformed):
        read(registry, b"", type_name="add")
