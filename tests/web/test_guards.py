"""What every page has in common: headers, forms, errors, addresses."""

from __future__ import annotations

import gzip
import re
import zipfile
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tasker.web.assets import load_assets
from tests.web.conftest import Web

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


async def test_the_headers_of_a_page(web: Web) -> None:
    reply = await web.client.get("/ui/tasks")
    assert reply.headers["content-security-policy"] == POLICY
    assert reply.headers["referrer-policy"] == "same-origin"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"


async def test_a_browser_is_led_to_the_pages_and_no_other_client(web: Web) -> None:
    reply = await web.client.get("/")
    assert (reply.status_code, reply.headers["location"]) == (307, "ui/")
    for accept in ("*/*", "application/json"):
        reply = await web.client.get("/", headers={"accept": accept})
        assert (reply.status_code, reply.headers["location"]) == (307, "/docs")
    reply = await web.client.get("/ui")
    assert (reply.status_code, reply.headers["location"]) == (307, "ui/")


async def test_a_form_needs_the_token_of_a_page(web: Web) -> None:
    assert (await web.post("/ui/signout")).status_code == 303
    for fields in ({}, {"token": ""}, {"token": "x"}, {"token": "\u00e9"}):
        reply = await web.client.post("/ui/signout", data=fields)
        assert reply.status_code == 403, reply.text


async def test_the_token_of_one_session_is_not_that_of_another(locked: Web) -> None:
    await locked.sign_in("read", owner="alice")
    page = await locked.get("/ui/tasks")
    token = re.search(r'name="token" value="([^"]+)"', page)
    assert token is not None
    await locked.sign_in("read", owner="bob")
    assert (await locked.client.post("/ui/signout", data={"token": token[1]})).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {"origin": "null"}]
)
async def test_another_site_cannot_post(web: Web, headers: dict[str, str]) -> None:
    assert (await web.client.post("/ui/signin", data={"key": "x"}, headers=headers)).status_code == 403


async def test_a_body_that_is_no_form_is_refused(web: Web) -> None:
    assert (await web.client.post("/ui/signout", json={})).status_code == 415
    assert (await web.client.post("/ui/signout", content=b"a=%ff", headers=_FORM)).status_code == 422


_FORM = {"content-type": "application/x-www-form-urlencoded"}


async def test_errors_are_pages(web: Web) -> None:
    page = await web.get("/ui/nothing/here", 404)
    assert "There is nothing here" in page
    assert 'href="../static/app' in page
    page = await web.get("/ui/tasks?status=odd&bogus=1&type=", 422)
    assert "/status" in page
    assert "/bogus" in page
    assert "/type" not in page  # an empty field of a form is as if it were not there
    reply = await web.client.put("/ui/tasks")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "text/html" in reply.headers["content-type"]


async def test_a_store_that_is_away(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasker.errors import Unavailable

    async def fail(*_: object, **__: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(type(web.rig.engine), "find_many", fail)
    reply = await web.client.get("/ui/tasks")
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert '<meta http-equiv="refresh"' in reply.text


async def test_static_files(web: Web) -> None:
    page = await web.get("/ui/tasks")
    address = re.search(r'href="(static/app\.[0-9a-f]{12}\.css)"', page)
    assert address is not None
    reply = await web.client.get(f"/ui/{address[1]}", headers={"accept-encoding": "gzip"})
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.headers["x-content-type-options"] == "nosniff"
    plain = await web.client.get(f"/ui/{address[1]}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == files("tasker.web").joinpath("static/app.css").read_bytes()
    await web.get("/ui/static/app.css", 404)


async def test_pages_are_packed_for_those_who_take_it(web: Web) -> None:
    for accept, packed in (("gzip, br", True), ("gzip;q=0", False), ("", False)):
        reply = await web.client.get("/ui/tasks", headers={"accept-encoding": accept})
        assert ("content-encoding" in reply.headers) is packed, accept


async def test_every_address_is_relative(web: Web) -> None:
    await web.rig.submit()
    page = await web.get("/ui/tasks")
    addresses = re.findall(r'(?:href|src|action|formaction|hx-sse:connect)="([^"]*)"', page)
    assert addresses
    assert [one for one in addresses if one.startswith("/") or re.match(r"[a-z]+://", one)] == []


def test_vendored_files_are_as_published() -> None:
    """The package htmx.org 4.0.1; its licence comes with it."""
    folder = files("tasker.web").joinpath("static/htmx")
    sums = dict(reversed(line.split()) for line in folder.joinpath("SHA256SUMS").read_text().splitlines())  # type: ignore[arg-type]
    assert {"LICENSE", "htmx.min.js", "hx-sse.min.js"} == set(sums)
    assert {name: sha256(folder.joinpath(name).read_bytes()).hexdigest() for name in sums} == sums
    assert "4.0.1" in folder.joinpath("htmx.min.js").read_text()


def test_the_wheel_has_every_file_of_the_pages(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    made = next(WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"]))
    packed = {name for name in zipfile.ZipFile(made).namelist() if name.startswith("tasker/web/")}
    files_ = {
        path.relative_to(root / "src").as_posix() for path in (root / "src/tasker/web").rglob("*") if path.is_file()
    }
    assert {name for name in files_ if "__pycache__" not in name} == packed


def test_templates_keep_to_the_policy() -> None:
    """No style or script in a page, nothing that htmx would evaluate, nothing that is not escaped."""
    refused = re.compile(
        r"\sstyle=|\son\w+=|hx-on|\bjs:|javascript:|\|\s*safe\b|<script(?![^>]*\ssrc=)|<style|{%-?\s*autoescape"
    )
    folder = Path(__file__).parents[2] / "src/tasker/web/templates"
    found = [f"{path.name}: {match[0]}" for path in folder.iterdir() for match in refused.finditer(path.read_text())]
    assert found == []


def test_sizes() -> None:
    """The budget of a first view is 40 kB packed, in 6 requests; most of it is the library's."""
    assets = load_assets()
    sizes = {name: len(files("tasker.web").joinpath("static", name).read_bytes()) for name in ("app.css", "app.js")}
    assert sizes["app.css"] <= 14_000
    assert sizes["app.js"] <= 10_240
    packed = [
        assets.find(assets.address(name)) for name in ("app.css", "app.js", "htmx/htmx.min.js", "htmx/hx-sse.min.js")
    ]
    assert sum(len(one.packed) for one in packed if one) < 26_000


def test_packed_files_are_the_plain_ones() -> None:
    assets = load_assets()
    asset = assets.find(assets.address("app.js"))
    assert asset is not None
    assert gzip.decompress(asset.packed) == asset.plain
