"""The pages of task types: the form submits what the API accepts, and says what it refuses where it is wrong."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

import httpx2
import pytest

from tasker.requests.submissions import SubmissionBody
from tasker.rules.lifecycle import Failed
from tasker.rules.lifecycle import problem as task_problem
from tasker.tasktypes.published import publish, revive
from tasker.web.options import shape_of_options
from tests.corpus.samples import corpus
from tests.web.conftest import Web
from tests.web.forms.controls import Pairs, controls_of

_FORM = re.compile(r'<form method="post"[^>]* id="form">(.*?)</form>', re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_FAULT = re.compile(r'<li><a href="#([^"]*)"><bdi>(.*?)</bdi></a>: <bdi>(.*?)</bdi></li>')


def form_of(page: str) -> Pairs:
    """Return what the run form of a page sends if nobody touches it."""
    found = _FORM.search(page)
    assert found is not None, page
    return controls_of(found[1])


def text_of(page: str) -> str:
    """Return the text of a page, with blanks between its parts."""
    return " ".join(unescape(_TAG.sub(" ", page)).split())


async def press(web: Web, page: str, do: str, path: str, **changes: str) -> httpx2.Response:
    """Press a button of the run form, with some controls changed."""
    fields = {**dict(form_of(page)), **changes, "do": do}
    return await web.client.post(path, data=fields)


async def task_of(web: Web, reply: httpx2.Response) -> dict[str, Any]:
    """Return the task to whose page a reply leads."""
    assert reply.status_code == 303, reply.text
    where = reply.headers["location"]
    assert where.startswith("../task/")
    found: dict[str, Any] = (await web.rig.client.get(f"/task/{where.removeprefix('../task/')}")).json()
    return found


async def test_the_list_names_every_type_and_leads_to_its_form(web: Web) -> None:
    page = await web.get("/ui/types")
    for name in ("sum", "reverse", "echo"):
        assert f'href="type/{name}"' in page
    assert "Reverse a text by the characters that people see" in page


async def test_sum_and_reverse_run_from_their_forms(web: Web) -> None:
    page = await web.get("/ui/type/sum")
    task = await task_of(web, await press(web, page, "run", "/ui/type/sum"))
    assert task["params"] == {"a": 4, "b": 2}  # the example
    big = "123456789012345678901234567890"
    task = await task_of(web, await press(web, page, "run", "/ui/type/sum", **{"/a": big, "/b": "0.10"}))
    reply = await web.rig.client.get(f"/task/{task['task_id']}")
    assert f'"params":{{"a": {big}, "b": 0.10}}' in reply.text
    page = await web.get("/ui/type/reverse")
    task = await task_of(web, await press(web, page, "run", "/ui/type/reverse", **{"/text": "Hello"}))
    assert (task["type"], task["params"]) == ("reverse", {"text": "Hello"})


async def test_rows_are_added_and_removed_without_script(web: Web) -> None:
    page = await web.get("/ui/type/sum")
    page = (await press(web, page, "add:/more", "/ui/type/sum", **{"/a": "1"})).text
    page = (await press(web, page, "add:/more", "/ui/type/sum", **{"/more/0": "10"})).text
    page = (await press(web, page, "remove:/more/0", "/ui/type/sum", **{"/more/1": "20"})).text
    task = await task_of(web, await press(web, page, "run", "/ui/type/sum"))
    assert task["params"] == {"a": 1, "b": 2, "more": [20]}


async def test_form_and_json_are_one_state(web: Web) -> None:
    page = await web.get("/ui/type/sum")
    page = (await press(web, page, "json", "/ui/type/sum", **{"/a": "1.50"})).text
    assert json.loads(dict(form_of(page))["json"]) == {"a": 1.5, "b": 2}
    assert '"a": 1.50' in dict(form_of(page))["json"]
    page = (await press(web, page, "form", "/ui/type/sum", json='[7, 8, 9, 10, {"x": 1}]')).text
    assert dict(form_of(page)).items() >= {
        "/a": "7",
        "/b": "8",
        "/more/0": "9",
        "json:/more/2": '{"x": 1}',
    }.items() or (dict(form_of(page))["/a"] == "7")
    assert "keeps it as JSON" in page
    page = (await press(web, page, "json", "/ui/type/sum")).text
    assert json.loads(dict(form_of(page))["json"]) == {"a": 7, "b": 8, "more": [9, 10, {"x": 1}]}


async def test_json_that_cannot_be_read_stays(web: Web) -> None:
    page = (await press(web, await web.get("/ui/type/sum"), "json", "/ui/type/sum")).text
    page = (await press(web, page, "form", "/ui/type/sum", json='{"a": 1')).text
    assert dict(form_of(page))["json"] == '{"a": 1'
    assert "expected JSON" in page
    reply = await press(web, page, "run", "/ui/type/sum")
    assert reply.status_code == 422


async def test_json_runs_as_it_is(web: Web) -> None:
    page = (await press(web, await web.get("/ui/type/sum"), "json", "/ui/type/sum")).text
    task = await task_of(web, await press(web, page, "run", "/ui/type/sum", json="[4, 2, 1]"))
    assert task["params"] == {"a": 4, "b": 2, "more": [1]}


async def test_a_refused_form_keeps_its_values_and_points_to_what_is_wrong(web: Web) -> None:
    page = await web.get("/ui/type/sum")
    reply = await press(web, page, "run", "/ui/type/sum", **{"/a": "four", "/b": "", "option:/priority": "1000"})
    assert reply.status_code == 422
    assert [(fault[0], fault[1]) for fault in _FAULT.findall(reply.text)] == [
        ("f-a", "a"), ("f-b", "b"), ("foption.3a.-priority", "priority"),
    ]  # fmt: skip
    assert 'role="alert" id="faults" tabindex="-1" autofocus' in reply.text
    kept = dict(form_of(reply.text))
    assert (kept["/a"], kept["/b"], kept["option:/priority"]) == ("four", "", "1000")
    assert '<details class="sep" id="options" open>' in reply.text
    assert (await web.rig.client.get("/task")).json()["items"] == []


async def test_check_only_stores_nothing(web: Web) -> None:
    page = await web.get("/ui/type/sum")
    reply = await press(web, page, "check", "/ui/type/sum")
    assert (reply.status_code, "It fits." in reply.text) == (200, True)
    assert (await press(web, page, "check", "/ui/type/sum", **{"/a": "x"})).status_code == 422
    assert (await web.rig.client.get("/task")).json()["items"] == []


async def test_options(web: Web) -> None:
    page = (await press(web, await web.get("/ui/type/sum"), "add:option:/tags", "/ui/type/sum")).text
    changes = {"queue": "slow", "priority": "5", "delay": "90", "timeout": "PT1M", "retry": "3", "tags/0": "nightly",
               "unique_key": "k", "on_conflict": "reject", "metadata": '{"n": 1.50}'}  # fmt: skip
    fields = {f"option:/{name}": text for name, text in changes.items()}
    task = await task_of(web, await press(web, page, "run", "/ui/type/sum", **fields))
    expected = {"queue": "slow", "priority": 5, "tags": ["nightly"], "unique_key": "k", "reason": "scheduled"}
    assert {name: task[name] for name in expected} == expected
    assert task["tries_left"] == 3
    reply = await press(web, page, "run", "/ui/type/sum", **fields)
    assert reply.status_code == 409
    assert "Not submitted." in reply.text


async def test_run_again_edited(web: Web) -> None:
    first = await web.rig.submit("sum", [4, 2, 7], queue="slow", priority=3, tags=["x"])
    page = await web.get(f"/ui/type/sum?from={first}")
    kept = dict(form_of(page))
    assert (kept["/a"], kept["/more/0"], kept["option:/queue"], kept["option:/tags/0"]) == ("4", "7", "slow", "x")
    task = await task_of(web, await press(web, page, "run", "/ui/type/sum", **{"/a": "5"}))
    assert (task["replay_of"], task["params"]) == (first, {"a": 5, "b": 2, "more": [7]})
    assert (task["queue"], task["priority"], task["tags"]) == ("slow", 3, ["x"])
    assert "It fits." in (await press(web, page, "check", "/ui/type/sum")).text
    await web.get(f"/ui/type/reverse?from={first}", 404)
    await web.get("/ui/type/sum?from=made-up", 422)
    await web.get("/ui/type/sum?from=0198c0de-0000-7000-8000-000000000000", 404)


async def test_filled_with(web: Web) -> None:
    await web.rig.submit("sum", [10, 20, 30])
    for fill_with, value in (("last", "10"), ("example", "4"), ("defaults", "")):
        assert dict(form_of(await web.get(f"/ui/type/sum?fill={fill_with}")))["/a"] == value
    await web.get("/ui/type/sum?fill=other", 422)


async def test_the_same_as_commands(web: Web) -> None:
    page = unescape(await web.get("/ui/type/sum"))
    assert "curl -X POST http://localhost:5000/type/sum/task" in page
    assert '-d \'{"a": 4, "b": 2}\'' in page
    assert "tasker run sum a:=4 b:=2" in page
    assert "tasker.submit_params('sum', {'a': 4, 'b': 2})" in page
    page = unescape(
        (await press(web, page, "same", "/ui/type/sum", **{"option:/queue": "it's", "option:/deadline": "x"})).text
    )
    assert """"queue": "it'"'"'s\"""" in page
    assert "--queue='it" not in page
    assert "# without deadline: only with curl" in page


async def test_secrets_are_in_no_page(web: Web) -> None:
    web.rig.service.registry.add(next(one for one in corpus() if one.name == "hidden"))
    page = await web.get("/ui/type/hidden?fill=defaults")
    for do in ("json", "add:/keys", "check", "same"):
        reply = await press(web, page, do, "/ui/type/hidden", **{"/token": "s3cr3t-of-mine", "/keys": '["s3cr3t-too"]'})
        assert "s3cr3t" not in reply.text, do
    task = await task_of(web, await press(web, page, "run", "/ui/type/hidden", **{"/token": "s3cr3t-of-mine"}))
    page = await web.get(f"/ui/type/hidden?from={task['task_id']}")
    assert dict(form_of(page))["/token"] == ""
    assert (await press(web, page, "run", "/ui/type/hidden")).status_code == 422  # it must be given anew


async def test_without_rights_the_page_says_so(web: Web) -> None:
    other = await web.rig.submit("sum", [10, 20])
    await web.sign_in("read", owner="alice")
    page = await web.get("/ui/type/sum")
    assert "Your key may not submit tasks." in page
    assert 'id="form"' not in page
    assert other[-12:] not in page
    await web.get(f"/ui/type/sum?from={other}", 404)
    assert (await web.client.post("/ui/type/sum", data={"do": "run"})).status_code == 403
    await web.sign_in("submit", owner="alice")
    page = await web.get("/ui/type/sum?fill=last")
    assert "Last runs" not in page
    await web.get(f"/ui/type/sum?from={other}", 403)
    assert (await press(web, page, "run", "/ui/type/sum")).status_code == 303


async def test_an_unknown_type_is_404(web: Web) -> None:
    await web.get("/ui/type/nope", 404)
    assert (await web.post("/ui/type/nope", do="run")).status_code == 404


CORPUS = {one.name: one for one in corpus() if one.name != "hidden"}


async def test_figures_of_the_last_day(web: Web) -> None:
    await web.rig.submit("sum", [4, 2])
    await web.rig.finish()
    await web.rig.submit("sum", [1, 1])
    await web.rig.finish(Failed(task_problem("task-raised", "ValueError: no")))
    await web.rig.submit("sum", [1, 2])
    page = text_of(await web.get("/ui/type/sum"))
    for figure in (
        "Ended, 24 h 2 0 in the 24 h before",
        "Failed 50 % 1 in all, 0 tried again",
        "Waiting 1",
        "Running 0",
    ):
        assert figure in page
    assert 'class="chart hist"' in await web.get("/ui/type/sum")
    assert "sum queue default" in (types := text_of(await web.get("/ui/types?window=1h")))
    assert "2 50 %" in types
    await web.get("/ui/types?window=2h", 422)
    web.rig.clock.advance(timedelta(days=3))
    assert "Ended, 24 h 0" in text_of(await web.get("/ui/type/sum"))
    assert "Ended, 7 d 2" in text_of(await web.get("/ui/type/sum?window=7d"))


async def test_figures_are_of_the_callers_own_tasks(web: Web) -> None:
    await web.rig.submit("sum", [4, 2])
    await web.rig.finish()
    await web.sign_in("read", owner="alice")
    assert "Ended, 24 h 0" in text_of(await web.get("/ui/type/sum"))
    await web.sign_in("submit", owner="alice")
    assert "Ended" not in text_of(await web.get("/ui/type/sum") + await web.get("/ui/types"))


async def test_a_type_of_workers_alone_has_its_form_and_says_that_they_are_gone(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.rig.service.registry.take_published([revive(publish(CORPUS["report"]))])
    page = await web.get("/ui/type/report")
    assert "No worker has this type." not in page
    assert "Write a customer&#39;s report." in page
    reply = await press(web, page, "run", "/ui/type/report", **{"/customer": "ac", "/since": "2026-11-01"})
    assert [fault[0] for fault in _FAULT.findall(reply.text)] == ["f-customer"]
    reply = await press(web, page, "run", "/ui/type/report", **{"/customer": "acme", "/since": "2026-11-01"})
    task = await task_of(web, reply)
    assert task["params"] == {"customer": "acme", "since": "2026-11-01"}
    gone = web.rig.clock.now() - timedelta(hours=3)
    monkeypatch.setattr(web.rig.service.types, "missing_since", lambda name: gone if name == "report" else None)
    assert "No worker has this type. The last one was seen 3 h ago" in text_of(await web.get("/ui/type/report"))
    assert text_of(await web.get("/ui/types")).count("no worker has it") == 1


async def test_params_that_are_too_large_for_a_page_are_not_shown(web: Web) -> None:
    first = await web.rig.submit("reverse", ["x" * 300_000])
    page = await web.get(f"/ui/type/reverse?from={first}")
    assert "its params are too large to be edited here" in page
    assert len(page) < 50_000
    assert dict(form_of(page))["/text"] == ""


def test_the_form_has_every_option_of_a_submission() -> None:
    names = {member.name for member in shape_of_options(CORPUS["sums"]).members}
    assert names == set(SubmissionBody.__struct_fields__) - {"type", "params"}
