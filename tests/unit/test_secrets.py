"""Secret params: masked, put back, and found in what a task reports."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from time import process_time
from typing import Annotated, Any
from urllib.parse import quote, quote_plus, urlencode

import httpx2
import msgspec
import pydantic
import pytest
from msgspec import structs

import tasker
from tasker import task
from tasker.errors import Invalid, RegistrationError
from tasker.model import ExceptionInfo, NewEvent, Progress, Report, TaskProblem
from tasker.model.steps import NewStep, Question
from tasker.rules import secrets as hiding
from tasker.rules.secrets import Erased, Hidden, Scrubber, find_masks, hide, is_secret, reveal
from tasker.tasktypes.registry import Registry
from tasker.tasktypes.tasktype import TaskType
from tasker.testing import START


@task
async def call(
    url: str, token: Annotated[str, tasker.secret], *parts: Annotated[str, tasker.secret], n: int = 1
) -> str:
    return url


def the_type(function: Any = call) -> TaskType:
    registry = Registry()
    return registry.add(function) or registry.get(function.__name__)


PLACES = the_type().secrets
assert PLACES is not None


@pytest.mark.parametrize("hint", [
    Annotated[str, tasker.secret], Annotated[str, msgspec.Meta(min_length=1), tasker.secret],
    Annotated[str, tasker.secret] | None, list[Annotated[str, tasker.secret]], dict[str, Annotated[int, tasker.secret]],
])  # fmt: skip
def test_marked_annotations(hint: Any) -> None:
    assert is_secret(hint)


def test_other_annotations_are_not_marked() -> None:
    assert not is_secret(str)
    assert not is_secret(Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})])


@pytest.mark.parametrize(("params", "shown", "secrets"), [
    (b'["u", "tok"]', b'["u","***"]', b'{"1":"tok"}'),
    (b'["u", "tok", "p", "q"]', b'["u","***","***","***"]', b'{"1":"tok","2":"p","3":"q"}'),
    (b'{"n": 1.10, "token": "t\\u00e9", "url": "u"}', b'{"n":1.10,"token":"***","url":"u"}', b'{"token":"t\\u00e9"}'),
    (b'{"url": "u", "parts": ["p"], "token":"t"}', b'{"url":"u","parts":"***","token":"***"}', None),
    (b'["u"]', b'["u"]', None), (b"{}", b"{}", None),
])  # fmt: skip
def test_secrets_are_masked_and_put_back(params: bytes, shown: bytes, secrets: bytes | None) -> None:
    hidden = hide(params, PLACES)
    assert hidden.params == shown
    if secrets is not None:
        assert hidden.secrets == secrets
    assert msgspec.json.decode(reveal(hidden.params, hidden.secrets, PLACES)) == msgspec.json.decode(params)
    if hidden.secrets is None:
        assert hidden == Hidden(params, None)
    else:
        with pytest.raises(Erased):
            reveal(hidden.params, None, PLACES)


def test_the_mask_is_not_a_secret() -> None:
    assert sorted(map(str, find_masks(["u", "***", "***"], PLACES))) == ["1", "2"]
    assert find_masks({"url": "***", "token": "t"}, PLACES) == []
    for params, pointer in ((["u", "***"], "/1"), ({"url": "u", "token": "***"}, "/token")):
        with pytest.raises(Invalid) as caught:
            the_type().check(params)
        assert [fault.pointer for fault in caught.value.faults] == [pointer]


def test_the_schema_marks_secrets() -> None:
    schema = the_type().input_schema["properties"]["token"]
    assert (schema["writeOnly"], schema["format"]) == (True, "password")


class Inner(msgspec.Struct):
    token: Annotated[str, tasker.secret]


class Account(pydantic.BaseModel):
    password: pydantic.SecretStr


@pytest.mark.parametrize("hint", [Inner, list[Inner], Account, list[Account], list[pydantic.SecretStr]], ids=str)
def test_a_mark_without_effect_is_refused(hint: Any) -> None:
    async def nested(inner): ...

    nested.__annotations__ = {"inner": hint}
    with pytest.raises(RegistrationError, match="`secret` marks a parameter as a whole"):
        the_type(nested)


async def login(name: str, password: pydantic.SecretStr) -> None: ...


def test_a_secret_of_pydantics_is_hidden() -> None:
    places = the_type(login).secrets
    assert places is not None
    assert hide(b'["u","sesame"]', places) == Hidden(b'["u","***"]', b'{"1":"sesame"}')


NASTY = 'pa"ss\\wo\nrd-of-many-letters é'


SHOWN: list[Callable[[str], str]] = [
    str, repr, lambda s: msgspec.json.encode(s).decode(), lambda s: str({"a": [s]}),
    lambda s: msgspec.json.encode(repr(s)).decode(), lambda s: s.splitlines()[1],
    quote, quote_plus, lambda s: quote(s, safe=""), lambda s: urlencode({"key": s}),
    lambda s: quote(s, safe="").lower(), lambda s: httpx2.URL("https://u", params={"key": s}).query.decode(),
]  # fmt: skip


@pytest.fixture(params=[True, False], ids=["few", "many"])
def few_or_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(hiding, "_FEW", 0)


@pytest.mark.usefixtures("few_or_many")
@pytest.mark.parametrize("show", SHOWN)
def test_a_secret_is_found_in_every_form(show: Any) -> None:
    scrubber = Scrubber(msgspec.json.encode({"1": [NASTY, 1, "ab"]}))
    scrubbed = scrubber.text(f"before {show(NASTY)} after ab 1")
    assert "letters" not in scrubbed
    assert scrubbed.startswith("before ")
    assert scrubbed.endswith(" after ab 1")
    assert "***" in scrubbed


@pytest.mark.usefixtures("few_or_many")
def test_reports_and_problems_are_scrubbed() -> None:
    scrubber = Scrubber(b'{"token":"s3cret-token","pin":1234567}')
    event = NewEvent(type="log", time=START, data=b'{"message":"s3cret-token!","fields":{"s3cret-token":["1234567"]}}')
    report = scrubber.report(
        Report(events=(event,), progress=Progress(fraction=0.5, message="s3cret-token"), usage=b"{}")
    )
    assert report.events[0].data == b'{"message":"***!","fields":{"***":["***"]}}'
    assert report.progress == Progress(fraction=0.5, message="***")
    problem = TaskProblem(
        type="t", title="t", detail="ValueError: s3cret-token", traceback="line s3cret-token",
        exception=ExceptionInfo(class_="ValueError", message="s3cret-token"),
    )  # fmt: skip
    assert "s3cret" not in msgspec.json.encode(scrubber.problem(problem)).decode()
    assert scrubber.problem(problem).exception == ExceptionInfo(class_="ValueError", message="***")


@pytest.mark.parametrize("secret", ["type", "title", "detail", "message", "exception", "class", "current", "fields"])
def test_a_secret_that_is_a_word_of_ours_leaves_reports_and_problems_whole(secret: str) -> None:
    text = f"the {secret}"
    problem = TaskProblem(type="t", title="t", detail=text, exception=ExceptionInfo(class_="E", message=text))
    shown = scrubber_of(secret).problem(problem)
    assert (shown.detail, shown.exception) == ("the ***", ExceptionInfo(class_="E", message="the ***"))
    event = NewEvent(type="log", time=START, data=b'{"message":"m","fields":{}}')
    said = scrubber_of(secret).report(Report(events=(event,), progress=Progress(current=1, message=text)))
    assert said.events == (event,)
    assert said.progress == Progress(current=1, message="the ***")


@pytest.mark.usefixtures("few_or_many")
def test_usage_and_names_are_scrubbed_too() -> None:
    scrubber = Scrubber(b'{"token":{"hunter22-name":"hunter22-secret"}}')
    said = scrubber.report(Report(usage=b'{"endpoint":"https://u:hunter22-secret@x","hunter22-name":1}'))
    assert said.usage is not None
    assert b"hunter22" not in said.usage


def scrubber_of(*secrets: str) -> Scrubber:
    return Scrubber(msgspec.json.encode(secrets))


def masked(text: str, secrets: list[str]) -> str:
    """Return the expected text, position by position."""
    spans = {(place, place + len(one)) for one in secrets for place in range(len(text)) if text.startswith(one, place)}
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if joined and begin < joined[-1][1]:
            begin, end = joined[-1][0], max(end, joined.pop()[1])
        joined.append((begin, end))
    for begin, end in reversed(joined):
        text = text[:begin] + "***" + text[end:]
    return text


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(8, 20))])
def test_many_texts_are_found_at_every_position(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiding, "_FEW", 0)
    random = Random(seed)

    def word(most: int) -> str:
        return "".join(random.choices("ab" if seed % 2 else "abé\U0001f511", k=random.randint(4, most)))

    secrets = [word(random.choice((6, 12, 60))) for _ in range(random.choice((1, 5, 40, 300)))]
    shown = [variant for one in secrets for variant in hiding._variants(one)]
    scrubber = scrubber_of(*secrets)
    for _ in range(60):
        text = "".join(random.choice((word(9), random.choice(secrets), " - ")) for _ in range(random.randint(0, 9)))
        assert scrubber.text(text) == masked(text, shown)


def test_the_longest_of_many_with_common_prefixes_is_found_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has all earlier ones as prefixes, so that the last candidate in the order does not match."""
    monkeypatch.setattr(hiding, "_FEW", 0)
    scrubber = scrubber_of(*("a" * size for size in range(4, 1_000)))
    assert scrubber.text("aaaab" * 3 + "aaa") == "***b***b***baaa"
    many = scrubber._many
    assert many is not None
    compared = 0

    class Text(str):
        def startswith(self, *given: Any) -> bool:
            nonlocal compared
            compared += 1
            return super().startswith(*given)

    assert many._size_at(Text("a" * 500 + "b"), 0) == 500
    assert compared <= 60


def test_many_secrets_cost_a_line_no_more_than_some() -> None:
    line = "a line that a task says, in which there is nothing to be hidden: " * 20

    def took(count: int) -> float:
        scrubber = scrubber_of(*(f"secret{number}" for number in range(count)))
        tries = []
        for _ in range(7):
            began = process_time()
            for _ in range(5):
                scrubber.text(line)
            tries.append(process_time() - began)
        return min(tries)

    assert took(50_000) < took(500) * 10


@pytest.mark.parametrize(
    "params", [{"a": ["x123"] * 1_001}, {"a": "\n".join(["line of 8"] * 1_001)}, [[12345] * 1_001]]
)
def test_too_many_secrets_are_refused(params: Any) -> None:
    def guarded(a: Annotated[Any, tasker.secret]) -> None: ...

    task_type = Registry().add(guarded)
    with pytest.raises(Invalid) as refused:
        task_type.check(params, msgspec.json.encode(params))
    [fault] = refused.value.faults
    assert fault.pointer == ("/0" if isinstance(params, list) else "/a")
    assert "at most 1,000 texts" in fault.detail
    fewer = [params[0][1:]] if isinstance(params, list) else {"a": params["a"][20:]}
    task_type.check(fewer, msgspec.json.encode(fewer))


def test_parts_that_are_nested_too_deeply_are_masked() -> None:
    deep: Any = "s3cret-token"
    for _ in range(480):
        deep = [deep]
    event = NewEvent(type="log", time=START, data=msgspec.json.encode({"message": "m", "fields": {"a": deep}}))
    [scrubbed] = Scrubber(b'["s3cret-token"]').report(Report(events=(event,))).events
    assert b"s3cret" not in scrubbed.data
    assert b'["***"]' in scrubbed.data


def test_a_step_shows_no_secret_and_keeps_its_value() -> None:
    value, question = b'{"paid":"with s3cr3t-card","n":1.50}', b'{"name":"ok","message":"s3cr3t-card?","schema":{}}'
    step = NewStep(key="k", name="k", kind="step", started_at=START, value=value, question=question)
    [shown] = scrubber_of("s3cr3t-card").report(Report(steps=(step,))).steps
    assert msgspec.json.decode(shown.value or b"") == {"paid": "with ***", "n": 1.5}
    assert shown.secret_value == value
    assert b"s3cr3t" not in (shown.question or b"")


@pytest.mark.parametrize("secret", ["name", "schema", "message", "default"])
def test_a_secret_that_is_a_word_of_ours_leaves_a_question_readable(secret: str) -> None:
    question = b'{"name":"ok","message":"the schema, name and message?","schema":{},"default":1}'
    step = NewStep(key="k", name="k", kind="input", started_at=START, question=question)
    shown = msgspec.json.decode(scrubber_of(secret).step(step).question or b"", type=Question)
    assert (shown.name, secret in shown.message) == ("ok", False)


def test_a_step_without_secrets_stays_as_it_is() -> None:
    step = NewStep(key="k", name="k", kind="step", started_at=START, value=b'{"n": 1.50}')
    assert scrubber_of("s3cr3t-card").step(step) == step
    assert scrubber_of("s3cr3t-card").step(structs.replace(step, value=None)).secret_value is None
