"""Types, health, metrics, docs and the pages of problems."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from importlib.resources import files

import pytest

from tasker.errors import PROBLEMS, Unavailable
from tests.api.conftest import Rig, problem


async def test_types(rig: Rig) -> None:
    body = (await rig.client.get("/type")).json()
    assert sorted(item["name"] for item in body["items"]) == ["echo", "named", "reverse", "sum"]
    one = (await rig.client.get("/type/named")).json()
    assert one in body["items"]
    assert one["description"] == "Say it again."
    assert one["input_schema"]["required"] == ["prompt"]
    assert "context" not in one["input_schema"]["properties"]
    assert (one["positional"], one["rest"]) == (["prompt"], None)
    assert one["output_schema"]["type"] == "string"
    assert one["retry"]["max_attempts"] == 1
    assert one["timeout"] == 300.0
    assert one["links"]["submit"] == "/type/named/task"
    assert "conftest" not in str(body), "where the code lies is nobody's business"


async def test_every_example_is_accepted(rig: Rig) -> None:
    for item in (await rig.client.get("/type")).json()["items"]:
        if item["example"] is not None:
            assert (await rig.client.post(item["links"]["submit"], json=item["example"])).status_code == 202


async def test_readiness(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await rig.client.get("/livez")).json() == {"status": "ok"}
    assert (await rig.client.get("/readyz")).json() == {"ready": True, "checks": {"store": "ok", "worker": "ok"}}
    rig.health.words = {"worker": "no heartbeat for 40 s"}
    reply = await rig.client.get("/readyz")
    assert (reply.status_code, reply.json()["checks"]["worker"]) == (503, "no heartbeat for 40 s")

    async def full() -> None:
        raise Unavailable("no space left")

    monkeypatch.setattr(rig.service.readiness.store_check, "_check", full)
    rig.clock.advance(timedelta(seconds=1))  # so long does a good check stand
    reply = await rig.client.get("/readyz")
    assert (reply.status_code, reply.json()) == (503, {"ready": False, "checks": {"store": "no space left"}})
    assert (await rig.client.get("/livez")).status_code == 200


async def test_metrics(rig: Rig) -> None:
    await rig.submit(queue="fast")
    await rig.submit(delay=60)
    await rig.client.get("/task/nothing")
    rig.clock.advance(rig.settings.timeout)
    reply = await rig.client.get("/metrics", headers={"accept": "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"})
    assert reply.headers["content-type"].startswith("text/plain")
    lines = reply.text.splitlines()
    assert 'tasker_tasks{queue="fast",status="pending"} 1.0' in lines
    assert 'tasker_oldest_waiting_seconds{queue="fast"} 300.0' in lines
    assert 'tasker_http_request_seconds_count{operation="submit_task",status="202"} 2.0' in lines
    assert 'tasker_http_request_seconds_count{operation="get_task",status="404"} 1.0' in lines
    assert "tasker_slots 4.0" in lines


async def test_the_index_leads_to_the_docs(rig: Rig) -> None:
    reply = await rig.client.get("/")
    assert (reply.status_code, reply.headers["location"]) == (307, "/docs")


async def test_docs_need_no_other_server_and_no_inline_code(rig: Rig) -> None:
    page = await rig.client.get("/docs", headers={"accept": "text/html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "://" not in page.text
    for part in page.text.split('"'):
        if part.startswith("/docs/"):
            reply = await rig.client.get(part)
            assert reply.status_code == 200, part
            assert reply.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in page.text


def test_vendored_files_are_the_ones_that_were_checked() -> None:
    folder = files("tasker.api").joinpath("static/swagger-ui")
    sums = dict(line.split()[::-1] for line in folder.joinpath("SHA256SUMS").read_text().splitlines())
    present = {item.name for item in folder.iterdir()} - {"SHA256SUMS"}
    assert set(sums) == present
    assert "LICENSE" in present
    for name, expected in sums.items():
        assert sha256(folder.joinpath(name).read_bytes()).hexdigest() == expected, name


async def test_every_problem_has_a_page(rig: Rig) -> None:
    for name, kind in PROBLEMS.items():
        told = (await rig.client.get(f"/problems/{name}")).json()
        assert told == {"name": name, "status": kind.status, "title": kind.title, "advice": kind.advice}
        page = await rig.client.get(f"/problems/{name}", headers={"accept": "text/html,*/*;q=0.8"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert f"<code>{name}</code>" in page.text
        assert "`" not in page.text
    assert problem(await rig.client.get("/problems/nope")) == (404, "not-found")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "text/html"),
        ("text/html", "text/html"), ("*/*", "application/json"), ("", "application/json"),
        ("application/json, text/plain, */*", "application/json"), ("application/json", "application/json"),
        ("text/html;q=0.5, application/json", "application/json"),
    ],
)  # fmt: skip
async def test_a_browser_gets_a_page_of_a_problem(rig: Rig, accept: str, media: str) -> None:
    reply = await rig.client.get("/problems/conflict", headers={"accept": accept})
    assert (reply.status_code, reply.headers["content-type"].partition(";")[0]) == (200, media)
