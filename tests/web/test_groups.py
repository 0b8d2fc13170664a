"""The pages of groups: counts, failures, and the way to cancel what is open."""

from __future__ import annotations

from tasker.rules.lifecycle import Failed, problem
from tests.web.conftest import Web
from tests.web.test_task import words

ERROR = problem("task-raised", "ValueError: no <b>picture</b>", retryable=False)


async def test_a_group_shows_its_counts_and_what_failed(web: Web) -> None:
    ids = [await web.rig.submit(group="import-7") for _ in range(5)]
    await web.rig.finish()
    await web.rig.finish(Failed(ERROR))
    page = await web.get("/ui/group/import-7")
    text = words(page)
    assert "3 of 5 tasks to go" in text
    assert "1 completed 1 failed 3 pending" in text
    assert "ValueError: no <b>picture</b>" in text
    assert "<b>picture" not in page
    assert f'href="../task/{ids[2]}"' in page  # the oldest that is open
    assert 'href="../tasks?group=import-7&amp;status=failed"' in page
    assert "import-7" in words(await web.get("/ui/groups"))
    assert 'href="../group/import-7"' in await web.get(f"/ui/task/{ids[0]}")
    listed = await web.get("/ui/tasks?group=import-7&status=failed")
    assert ids[1] in listed
    assert ids[0] not in listed


async def test_what_is_open_is_cancelled_after_a_preview(web: Web) -> None:
    for _ in range(3):
        await web.rig.submit(group="import-7")
    other = await web.rig.submit()
    page = await web.get("/ui/group/import-7")
    assert "Cancel what is open…" in words(page)
    reply = await web.post("/ui/bulk", page="/ui/group/import-7", action="cancel", all="1", group="import-7")
    assert reply.status_code == 200
    assert "What cancel would do" in words(reply.text)
    assert "3 tasks" in words(reply.text)
    reply = await web.post("/ui/bulk/start", action="cancel", all="1", group="import-7", at_most="3")
    assert reply.status_code == 303, reply.text
    assert other[-12:] in await web.get("/ui/tasks?status=pending")


async def test_the_group_of_another_owner_is_not_there(web: Web) -> None:
    hers = await web.rig.key("submit", owner="alice")
    reply = await web.rig.client.post("/task", json={"type": "sum", "params": [4, 2], "group": "g"}, headers=hers)
    assert reply.status_code == 202
    await web.sign_in("read", owner="bob")
    await web.get("/ui/group/g", 404)
    await web.get("/ui/group/g?owner=alice", 404)
    await web.get("/ui/live/group/g?owner=alice", 404)
    assert "/group/g" not in await web.get("/ui/groups?owner=alice")
    await web.sign_in("read", owner="alice")
    assert "1 of 1 task to go" in words(await web.get("/ui/group/g"))
    await web.sign_in("admin")
    assert 'href="group/g?owner=alice"' in await web.get("/ui/groups")
    assert "1 of 1 task to go" in words(await web.get("/ui/group/g?owner=alice"))
