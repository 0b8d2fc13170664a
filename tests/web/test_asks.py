"""Questions on the page of a task: the form of each, what is refused, and the same verdict as the API's."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import httpx2
import pytest

from tasker.errors import Fault
from tasker.model.keys import ANYBODY
from tasker.model.steps import Step
from tasker.testing import START
from tasker.web.asks import Sent, asks_of
from tasker.web.forms.exact import ABSENT, Given, exact
from tasker.web.forms.fields import fill
from tasker.web.forms.shapes import shape_of_value
from tasker.web.frame import make_templates
from tests.corpus.samples import INPUTS, corpus
from tests.web.conftest import Web
from tests.web.forms.controls import Pairs, controls_of, html_of
from tests.web.stories import APPROVAL, Story
from tests.web.test_task import words

_FORM = re.compile(r'<form method="post" action="\.\./task/[^"]*">(.*?)</form>', re.DOTALL)
_BUTTON = re.compile(r'<button class="b p" type="submit" name="([^"]*)" value="([^"]*)">')
_FAULT = re.compile(r'<li><a href="#([^"]*)"><bdi>(.*?)</bdi></a>: <bdi>(.*?)</bdi></li>')
HOSTILE = "<img src=x onerror=a()>\u202egnp\x1b[31m"


async def asking(web: Web, *schemas: Any, **options: Any) -> Story:
    """Return a task that asks for each of the schemas, in order `q1`, `q2`..., and waits."""
    story = await Story(web.rig.engine, web.rig.clock).begin(owner=options.pop("owner", ""))
    for number, schema in enumerate(schemas, start=1):
        await story.ask(f"q{number}", schema, **options)
    await story.park()
    return story


def forms_of(page: str) -> list[Pairs]:
    """Return what the forms of the questions send if nobody touches them."""
    return [controls_of(form) for form in _FORM.findall(page) if 'name="asked_at"' in form]


def buttons_of(page: str) -> list[tuple[str, str]]:
    """Return the names and values of the buttons that answer."""
    return [(unescape(name), unescape(value)) for name, value in _BUTTON.findall(page) if name != "do"]


async def send(web: Web, story: Story, at: int = 0, **changes: str) -> httpx2.Response:
    """Post the form of a question, with some controls changed."""
    path = f"/ui/task/{story.task_id}"
    fields = dict(forms_of(await web.get(path))[at]) | changes
    return await web.client.post(path, data=fields)


async def answer_of(story: Story, name: str = "q1") -> Any:
    [step] = [step for step in await story.stored() if step.name == name]
    return None if step.value is None else json.loads(step.value)


async def test_an_approval_is_one_click(web: Web) -> None:
    story = await asking(web, APPROVAL)
    page = await web.get(f"/ui/task/{story.task_id}")
    assert "waits for a person" in words(page)
    assert "Ship order 7?" in words(page)
    assert buttons_of(page) == [("q1/approved", "true"), ("q1/approved", "false")]
    reply = await send(web, story, **{"q1/approved": "true", "q1/comment": "with care"})
    assert (reply.status_code, reply.headers["location"]) == (303, f"../task/{story.task_id}")
    assert await answer_of(story) == {"approved": True, "comment": "with care"}
    page = await web.get(f"/ui/task/{story.task_id}")
    assert forms_of(page) == []
    assert "answered" in words(page)


@pytest.mark.parametrize(
    ("schema", "buttons"),
    [
        ({"type": "boolean"}, [("q1", "true"), ("q1", "false")]),
        ({"enum": ["pay", "refuse"]}, [("q1", "pay"), ("q1", "refuse")]),
        ({"enum": [1, True, "1"]}, [("q1", "1"), ("q1", "true"), ("q1", "1")]),
        ({"enum": [f"choice {n}" for n in range(9)]}, []),
        ({"enum": ["pay", None]}, []),
        ({"enum": ["x" * 50, "y"]}, []),
        ({"type": "string"}, []),
        ({"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}}, "required": ["b"]},
         [("q1/b", "x"), ("q1/b", "y")]),
        ({"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}}, "required": ["a", "b"]},
         []),
    ],
)  # fmt: skip
async def test_what_is_answered_by_a_click(web: Web, schema: Any, buttons: list[tuple[str, str]]) -> None:
    story = await asking(web, schema)
    page = await web.get(f"/ui/task/{story.task_id}")
    assert buttons_of(page) == buttons
    assert ('value="answer">Answer' in page) is (not buttons)


async def test_enter_decides_nothing(web: Web) -> None:
    """A browser presses the first button of a form; a disabled one sends nothing."""
    story = await asking(web, APPROVAL)
    [form] = [form for form in _FORM.findall(await web.get(f"/ui/task/{story.task_id}")) if "asked_at" in form]
    assert re.findall(r"<button[^>]*>", form)[0] == '<button type="submit" disabled hidden>'
    reply = await send(web, story)
    assert reply.status_code == 422
    assert await answer_of(story) is None


async def test_a_refused_answer_shows_each_fault_at_its_field_and_keeps_what_was_typed(web: Web) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 3}, "age": {"type": "integer"},
            "lines": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["name", "age"],
    }  # fmt: skip
    story = await asking(web, schema)
    typed = {"q1/name": "Al", "q1/age": "old", "set:q1/lines": "1", "item:q1/lines/0": "", "q1/lines/0": "x"}
    reply = await send(web, story, **typed)
    assert reply.status_code == 422
    assert {unescape(name) for _, name, _ in _FAULT.findall(reply.text)} == {"name", "age", "lines.0"}
    for target, _, _ in _FAULT.findall(reply.text):
        assert f'id="{target}"' in reply.text
    assert dict(forms_of(reply.text)[0]) | typed == dict(forms_of(reply.text)[0])
    assert (await story.driver.get(story.task_id)).reason == "input_required"
    seen = re.search(r"seen=([^&\"]+)", reply.text)
    plain = re.search(r"seen=([^&\"]+)", await web.get(f"/ui/task/{story.task_id}"))
    assert seen is not None
    assert plain is not None
    assert seen[1] == plain[1]  # so that the stream does not send the form without its faults


async def test_rows_are_added_and_removed(web: Web) -> None:
    story = await asking(web, {"type": "array", "items": {"type": "string"}})
    reply = await send(web, story, do="add:q1")
    assert reply.status_code == 200
    [form] = forms_of(reply.text)
    assert ("item:q1/0", "") in form
    path = f"/ui/task/{story.task_id}"
    reply = await web.client.post(path, data=dict(form) | {"q1/0": "kept", "do": "add:q1"})
    form = forms_of(reply.text)[0]
    reply = await web.client.post(path, data=dict(form) | {"q1/1": "gone", "do": "remove:q1/1"})
    reply = await web.client.post(path, data=dict(forms_of(reply.text)[0]) | {"do": "answer"})
    assert reply.status_code == 303
    assert await answer_of(story) == ["kept"]


async def test_what_was_answered_meanwhile_is_said(web: Web) -> None:
    story = await asking(web, {"type": "boolean"})
    fields = dict(forms_of(await web.get(f"/ui/task/{story.task_id}"))[0])
    await web.rig.service.steps.answer(ANYBODY, story.task_id, "q1", b"false")
    reply = await web.client.post(f"/ui/task/{story.task_id}", data=fields | {"q1": "true"})
    assert reply.status_code == 409
    assert "Nothing was changed. 'q1' is answered already" in words(reply.text)
    assert await answer_of(story) is False


async def test_a_form_of_an_earlier_question_answers_no_later_one(web: Web) -> None:
    story = await asking(web, {"type": "boolean"})
    fields = dict(forms_of(await web.get(f"/ui/task/{story.task_id}"))[0])
    await web.rig.service.steps.answer(ANYBODY, story.task_id, "q1", b"false")
    await story.go_on()
    web.rig.clock.advance(timedelta(seconds=1))
    await story.ask("q1", {"type": "boolean"}, key="q1#2")
    await story.park()
    reply = await web.client.post(f"/ui/task/{story.task_id}", data=fields | {"q1": "true"})
    assert reply.status_code == 409
    assert [step.value for step in await story.stored()] == [b"false", None]


async def test_a_question_whose_time_is_over_has_no_form(web: Web) -> None:
    story = await asking(web, {"type": "boolean"}, seconds=60, default=False)
    page = await web.get(f"/ui/task/{story.task_id}")
    fields = dict(forms_of(page)[0])
    assert "expires in 1 min ; then false counts" in words(page)
    web.rig.clock.advance(timedelta(seconds=61))
    assert forms_of(await web.get(f"/ui/task/{story.task_id}")) == []
    reply = await web.client.post(f"/ui/task/{story.task_id}", data=fields | {"q1": "true"})
    assert reply.status_code == 409
    assert "the time to answer 'q1' is over" in words(reply.text)


async def test_several_questions_have_a_form_each(web: Web) -> None:
    story = await asking(web, {"type": "boolean"}, {"type": "string"})
    page = await web.get(f"/ui/task/{story.task_id}")
    assert [dict(form)["name"] for form in forms_of(page)] == ["q1", "q2"]
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert (await send(web, story, 1, q2="the second")).status_code == 303
    assert (await answer_of(story), await answer_of(story, "q2")) == (None, "the second")


async def test_what_is_asked_is_inert(web: Web) -> None:
    properties = {HOSTILE: {"enum": [HOSTILE, "b"]}}
    schema = {
        "type": "object",
        "title": HOSTILE,
        "description": HOSTILE,
        "properties": properties,
        "required": [HOSTILE],
    }
    story = await asking(web, schema, message=f"{HOSTILE}\nsecond line")
    page = await web.get(f"/ui/task/{story.task_id}")
    assert "<img" not in page
    assert not re.search("[\u202e\x1b]", words(page))
    assert "second line" in page
    [(name, value), _] = buttons_of(page)
    assert (await send(web, story, **{name: value})).status_code in (303, 422)


async def test_only_a_key_with_control_answers(web: Web) -> None:
    story = await asking(web, {"type": "boolean"}, owner="alice")
    await web.sign_in("read", owner="alice")
    page = await web.get(f"/ui/task/{story.task_id}")
    assert "Ship order 7?" in words(page)
    assert forms_of(page) == []
    assert "Your key may not answer" in words(page)
    assert (await web.post(f"/ui/task/{story.task_id}", name="q1", q1="true")).status_code == 403
    await web.sign_in("read", "control", owner="bob")
    assert (await web.post(f"/ui/task/{story.task_id}", name="q1", q1="true")).status_code == 404
    await web.sign_in("read", "control", owner="alice")
    assert (await send(web, story, q1="true")).status_code == 303
    [step] = await story.stored()
    assert (step.value, step.answered_by) == (b"true", "alice")
    page = words(await web.get(f"/ui/task/{story.task_id}"))
    assert "answered true by alice" in page
    assert "alice answered q1" in page


_FIELD = make_templates().get_template("form.html").module.field
CORPUS = {one.name: one for one in corpus() if one.name != "hidden"}
OTHERS: list[tuple[Any, list[Any]]] = [
    ({"type": "integer", "minimum": 3}, [3, 2, 1.5, "x", None]),
    ({"type": ["string", "null"], "maxLength": 3}, ["abc", "abcd", None, 3]),
    ({"enum": ["a", "b", 3, None]}, ["a", 3, "3", None, "c"]),
    ({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, [[], [1, 2], [1, "x"], [1, 2, 3]]),
    ({"$defs": {"P": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
      "$ref": "#/$defs/P"},
     [{"x": 1.50}, {"x": "1"}, {}]),
    ({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "string"}}]}, [1, ["a"], [1], "x"]),
    ({}, [1, {"a": [None]}, "x"]),
]  # fmt: skip


def _pairs(step: Step, value: Given, number: int) -> Pairs:
    """Return what the form sends that is filled with a value."""
    [ask] = asks_of([step], step.started_at, Sent(number, value))
    form = (
        ask.form
        if ask.decision is None or ask.is_decided
        else replace(ask.form, fields=[*ask.form.fields, ask.decision])
    )
    return controls_of(html_of(form) if form.kind == "object" else str(_FIELD(form)))


@pytest.mark.parametrize("number", range(len(CORPUS) + len(OTHERS)))
async def test_form_and_api_give_the_same_verdict_at_the_same_places(web: Web, number: int) -> None:
    cases = [(one.input_schema, INPUTS[name]) for name, one in CORPUS.items()] + OTHERS
    schema, values = cases[number]
    for value in values:
        by_form, by_api = await asking(web, schema), await asking(web, schema)
        [step] = await by_form.stored()
        reply = await web.rig.client.post(f"/task/{by_api.task_id}/input", json={"name": "q1", "value": value})
        faults = reply.json().get("errors", []) if reply.status_code == 422 else []
        places = {fault["pointer"].removeprefix("/value")[1:].replace("/", ".") or "q1" for fault in faults}
        own = {key: text for key, text in forms_of(await web.get(f"/ui/task/{by_form.task_id}"))[0]
               if key in ("token", "name", "asked_at")}  # fmt: skip
        pairs = dict(_pairs(step, exact(value), step.number)) | own
        posted = await web.client.post(f"/ui/task/{by_form.task_id}", data=pairs)
        shown = {unescape(fault[1]) for fault in _FAULT.findall(posted.text)}
        assert (posted.status_code, shown) == (303 if reply.status_code == 200 else reply.status_code, places), value
        if posted.status_code == 303:
            assert await answer_of(by_form) == await answer_of(by_api)


def test_a_question_that_cannot_be_read_breaks_nothing() -> None:
    assert asks_of([], START) == []
    step = Step(key="a", name="a", kind="input", started_at=START, question=b"{}", number=1, attempt=1)
    assert asks_of([step], START) == []


def test_faults_without_a_field_are_shown_at_the_answer() -> None:
    shape = shape_of_value({"type": "boolean"})
    assert fill(shape, ABSENT).choices
    question = b'{"name":"a","message":"m","schema":{"type":"boolean"}}'
    step = Step(key="a", name="a", kind="input", started_at=START, question=question, number=1, attempt=1)
    [ask] = asks_of([step], START, Sent(1, ABSENT, [Fault("/value", "expected an answer")]))
    assert ask.faults == ((ask.form.id, "a", "expected an answer"),)
