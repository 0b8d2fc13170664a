"""Steps and children of a task on its page, the page of all its steps, the tree of its family, and the questions."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from tasker.model.keys import ANYBODY
from tasker.rules.lifecycle import Failed, Succeeded, problem
from tasker.web.step_words import sentence_of
from tasker.web.tree import MOST_NODES, MOST_OF_OTHERS, MOST_OF_TOP, build
from tests.web.conftest import Web
from tests.web.stories import Story
from tests.web.test_task import words

ERROR = problem("task-raised", "ValueError: no picture", retryable=False)


def rows_of(page: str) -> list[str]:
    """Return the rows of the table of steps, as text."""
    return [words(row).strip() for row in re.findall(r'<tr id="step-\d+">.*?</tr>', page, re.DOTALL)]


async def begin(web: Web, **options: Any) -> Story:
    return await Story(web.rig.engine, web.rig.clock).begin(**options)


async def test_steps_are_in_the_table_in_the_chart_and_in_the_log(web: Web) -> None:
    story = await begin(web)
    await story.step("charge", {"amount": 1250}, 1.4)
    await story.step("page", 1, 2)
    await story.step("page", 2, 3, key="page#2")
    await story.tell("step_started", name="mail", key="mail", kind="step")
    await story.tell("step_failed", name="mail", key="mail", **{"try": 1}, error={"detail": "OSError: no line"})
    web.rig.clock.advance(timedelta(seconds=5))
    page = await web.get(f"/ui/task/{story.task_id}")
    assert rows_of(page) == [
        'charge done {"amount":1250} 1.4 s 11 s ago',
        "page done 1 2.0 s 10 s ago",
        "page#2 done 2 3.0 s 8 s ago",
    ]
    text = words(page)
    assert "mail runs 1 try failed 5.0 s" in text
    assert "Steps: charge 1.4 s; 2 of page 5.0 s; mail for 5.0 s" in page
    for line in (
        "+1.4 s info step charge is done, took 1.4 s",
        "+6.4 s info step mail begins",
        "+6.4 s warning step mail failed, try 1: OSError: no line",
    ):
        assert line in text, line


async def test_lines_about_steps_have_a_level(web: Web) -> None:
    story = await begin(web)
    await story.step("charge")
    await story.tell("step_failed", name="mail", key="mail", error={"detail": "no line"})
    page = words(await web.get(f"/ui/task/{story.task_id}?level=warning"))
    assert "step mail failed: no line" in page
    assert "step charge is done" not in page


async def test_parked_attempts_say_what_they_waited_for(web: Web) -> None:
    story = await begin(web)
    await story.step("charge")
    await story.sleep("cool off", 7200)
    await story.park()
    page = await web.get(f"/ui/task/{story.task_id}")
    assert "It sleeps, and goes on in 2 h." in words(page)
    assert "sleeps for" in words(page)
    web.rig.clock.advance(timedelta(hours=2, seconds=1))
    await story.go_on()
    await story.step("mail")
    [child, _] = await story.children("render", [1, 2])
    await story.park()
    page = words(await web.get(f"/ui/task/{story.task_id}"))
    assert "slept (cool off)" in page
    assert "waited for children (render)" in page
    assert "It waits for 2 of its 2 children" in page
    await story.run_children(Succeeded(b"1"), Failed(ERROR))
    await story.go_on()
    await story.finish()
    page = await web.get(f"/ui/task/{story.task_id}")
    assert "render children failed 2 children, 1 failed 2.0 s" in " ".join(rows_of(page))
    assert "then slept (cool off) for 2 h" in page
    assert "off" not in re.findall(r'<line[^>]*class="([^"]*)"', page)
    assert f"child of {str(story.task_id)[-12:]}" in words(await web.get(f"/ui/task/{child}"))


async def test_a_page_shows_the_latest_steps_and_leads_to_all(web: Web) -> None:
    story = await begin(web)
    for number in range(130):
        await story.step(f"s{number}", number, 0.1)
    page = await web.get(f"/ui/task/{story.task_id}")
    assert len(rows_of(page)) == 30
    assert "the latest 30 all, with their values" in words(page)
    page = await web.get(f"/ui/task/{story.task_id}/steps")
    assert page.count('<section class="panel" id="step-') == 100
    assert "1 to 100 of 130" in words(page)
    assert 'href="?after=100"' in page
    page = await web.get(f"/ui/task/{story.task_id}/steps?after=100")
    assert "101 to 130 of 130" in words(page)


async def test_the_value_of_a_step_as_a_file(web: Web) -> None:
    story = await begin(web)
    await story.step("large", "x" * 5000)
    await story.sleep("nap", 60)
    page = await web.get(f"/ui/task/{story.task_id}/steps")
    assert "It is longer: download" in words(page)
    reply = await web.client.get(f"/ui/task/{story.task_id}/step/1")
    assert reply.text == f'"{"x" * 5000}"'
    assert reply.headers["content-disposition"].startswith("attachment")
    await web.get(f"/ui/task/{story.task_id}/step/2", 404)


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({}, ["a", "b", "c"]),
        ({"how": "keep", "from": "b", "forget": "a"}, ["a", "b", "c"]),
        ({"from": "b"}, ["a"]),
        ({"how": "from", "from": "b"}, ["a"]),
        ({"forget": "b"}, ["a", "c"]),
        ({"how": "forget", "from": "a", "forget": ["a", "c"]}, ["b"]),
    ],
)
async def test_a_retry_forgets_what_is_chosen(web: Web, fields: dict[str, Any], left: list[str]) -> None:
    story = await begin(web)
    for name in ("a", "b", "c"):
        await story.step(name)
    page = await web.get(f"/ui/task/{story.task_id}")
    assert "Retry from here" not in page
    await story.finish(Failed(ERROR))
    page = await web.get(f"/ui/task/{story.task_id}")
    assert page.count("Retry from here") == 3
    reply = await web.post(f"/ui/task/{story.task_id}/retry", page=f"/ui/task/{story.task_id}", **fields)
    assert reply.status_code == 303, reply.text
    assert [step.name for step in await story.stored()] == left
    assert (await story.driver.get(story.task_id)).status == "pending"


async def test_a_retry_that_forgets_nothing_that_is_there_is_refused(web: Web) -> None:
    story = await begin(web)
    await story.step("a")
    await story.finish(Failed(ERROR))
    for fields in ({"from": "nope"}, {"forget": "nope"}, {"how": "forget"}):
        reply = await web.post(f"/ui/task/{story.task_id}/retry", page=f"/ui/task/{story.task_id}", **fields)
        assert reply.status_code == 422, fields
    assert (await story.driver.get(story.task_id)).status == "failed"


async def test_a_copy_keeps_the_steps_if_one_asks_for_it(web: Web) -> None:
    story = Story(web.rig.engine, web.rig.clock, "named")
    await story.begin({"prompt": "x"})
    await story.step("charge", 7)
    await story.finish(Failed(ERROR))
    plain = await web.rig.submit("sum")
    assert "Keep its steps" not in await web.get(f"/ui/type/sum?from={plain}")
    path = f"/ui/type/named?from={story.task_id}"
    assert "Keep its steps" in await web.get(path)
    for keeps in (True, False):
        fields = {"origin": str(story.task_id), "/prompt": "x"} | ({"keep_steps": "1"} if keeps else {})
        reply = await web.post("/ui/type/named", page=path, do="run", **fields)
        assert reply.status_code == 303, reply.text
        copied = reply.headers["location"].rpartition("/")[2]
        page = await web.get(f"/ui/task/{copied}")
        await story.go_on()
        page = await web.get(f"/ui/task/{copied}")
        assert ("kept from another task" in page) is keeps


async def test_children_as_a_bar_with_the_ones_that_matter_first(web: Web) -> None:
    story = await begin(web)
    ids = await story.children("render", range(40))
    await story.park()
    await story.run_children(*[Succeeded(b"1")] * 20, Failed(ERROR))
    page = await web.get(f"/ui/task/{story.task_id}")
    text = words(page)
    assert "Children 20 completed 1 failed 19 pending Tree all 40" in text
    assert f'href="../tasks?parent={story.task_id}&amp;status=failed"' in page
    rows = re.findall(r'<tr id="t-([^"]*)" data-status="([^"]*)"', page)
    assert len(rows) == 10
    assert rows[0] == (str(ids[20]), "failed")
    assert "30 more" in text
    listed = await web.get(f"/ui/tasks?parent={story.task_id}&status=failed")
    assert "children of" in words(listed)
    assert len(re.findall(r'<tr id="t-', listed)) == 1


async def test_a_row_says_what_a_parked_task_waits_for(web: Web) -> None:
    story = await begin(web)
    await story.children("render", range(12))
    await story.park()
    await story.run_children(Succeeded(b"1"), Succeeded(b"1"))
    asks, sleeps = await begin(web), await begin(web)
    await asks.ask("approve", message="Ship <it>?")
    await asks.park()
    await sleeps.sleep("nap", 7200)
    await sleeps.park()
    page = words(await web.get("/ui/tasks?status=pending"))
    assert "waits for 10 of 12 children" in page
    assert "waits for a person: Ship <it>?" in page
    assert "sleeps, goes on in 2 h" in page


async def test_the_overview_and_the_page_of_questions(web: Web) -> None:
    assert "No task waits for a person" in await web.get("/ui/questions")
    first = await begin(web, owner="alice")
    await first.ask("approve", message="Ship <b>it</b>?")
    await first.park()
    page = await web.get("/ui/")
    assert "1 task waits for a person, for 0 s: Ship <b>it</b>?" in words(page)
    assert f'href="task/{first.task_id}">See the question' in page
    web.rig.clock.advance(timedelta(minutes=3))
    for _ in range(2):
        story = await begin(web, owner="bob")
        await story.ask("pay", seconds=3600)
        await story.park()
    page = await web.get("/ui/")
    assert "3 tasks wait for a person, the first for 3 min" in words(page)
    assert 'href="questions">See the questions' in page
    page = words(await web.get("/ui/questions"))
    assert page.index("Ship <b>it</b>?") < page.index("Ship order 7?")
    assert "asked 3 min ago" in page
    assert "expires in 1 h" in page
    await web.sign_in("read", "control", owner="bob")
    page = words(await web.get("/ui/questions"))
    assert "Ship order 7?" in page
    assert "<b>it</b>" not in page
    assert "2 tasks wait for a person" in words(await web.get("/ui/"))


async def test_a_tree_is_bounded_and_says_what_it_leaves_out(web: Web) -> None:
    story = await begin(web)
    await story.children("chunk", range(200), type="chunk")
    await story.park()
    await story.run_children(Failed(ERROR), type="chunk")
    inner = Story(web.rig.engine, web.rig.clock, "chunk")
    await inner.go_on()
    inner.root = story.task_id, 1
    await inner.children("part", range(20), type="part", level=2)
    await inner.park()
    tree = await build(web.rig.service, ANYBODY, story.task_id, web.rig.clock.now())
    assert len(tree.top.below) == MOST_OF_TOP
    assert tree.top.more == 200 - MOST_OF_TOP
    assert tree.top.below[0].row.status == "failed"
    assert len(tree.ids) <= MOST_NODES
    page = await web.get(f"/ui/task/{story.task_id}/tree")
    assert "170 more: list of all 200" in words(page)
    assert "Above it" not in page
    below = await build(web.rig.service, ANYBODY, inner.task_id, web.rig.clock.now())
    assert [row.id for row in below.above] == [str(story.task_id)]
    assert len(below.top.below) == 20
    page = await web.get(f"/ui/task/{inner.task_id}/tree")
    assert f'href="../../task/{story.task_id}/tree"' in page
    assert MOST_OF_OTHERS < 20


async def test_a_tree_has_levels(web: Web) -> None:
    story = await begin(web)
    top, root = story, story.task_id
    for level in range(1, 5):
        await story.children("next", [level], type=f"level{level}", level=level)
        await story.park()
        story = Story(web.rig.engine, web.rig.clock, f"level{level}")
        await story.go_on()
        story.root = root, level
    tree = await build(web.rig.service, ANYBODY, top.task_id, web.rig.clock.now())
    names, node = [], tree.top
    while node.below:
        [node] = node.below
        names.append(node.row.type)
    assert names == ["level1", "level2", "level3", "level4"]
    above = await build(web.rig.service, ANYBODY, story.task_id, web.rig.clock.now())
    assert [row.type for row in above.above] == [top.type, "level1", "level2", "level3"]


@pytest.mark.parametrize(
    ("event", "data", "said"),
    [
        ("step_started", {"name": "a", "key": "a#2"}, "step a#2 begins"),
        ("step_completed", {"name": "a", "key": "a", "took": 0.0312}, "step a is done, took 31 ms"),
        ("step_failed", {"key": "a", "try": 2, "error": {"title": "It failed"}}, "step a failed, try 2: It failed"),
        ("step_failed", {}, "step  failed"),
        ("parked", {"reason": "sleeping", "until": "2026-01-02T03:04:05Z"},
         "gave its slot back: it sleeps until 2026-01-02 03:04:05.000 UTC"),
        ("parked", {"reason": "waiting_for_children"}, "gave its slot back: it waits for its children"),
        ("parked", {"reason": "input_required", "until": "T"},
         "gave its slot back: it waits for a person, at most until T"),
        ("parked", {}, "gave its slot back: it waits"),
        ("resumed", {"steps": 1}, "goes on with 1 step remembered"),
        ("resumed", {"steps": 1200}, "goes on with 1,200 steps remembered"),
        ("input_required", {"name": "ok", "message": "Ship\nit?"}, "asks ok: Ship it?"),
        ("input_given", {"name": "ok", "by": "alice"}, "alice answered ok"),
        ("input_given", {"name": "ok", "by": ""}, "ok was answered"),
        ("log", {"message": "x"}, None),
    ],
)  # fmt: skip
def test_what_events_say(event: str, data: dict[str, Any], said: str | None) -> None:
    assert sentence_of(event, data) == said
