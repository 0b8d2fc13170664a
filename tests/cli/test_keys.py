"""`tasker key`: on the store itself, and through a service that has it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from tasker.cli.keys import read_moment
from tasker.cli.params import UsageError
from tests.cli.command import tasker
from tests.server import run_server

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_keys_are_made_in_the_store_and_then_through_the_service_that_has_it(tmp_path: Path) -> None:
    store = {"TASKER_DATA_DIR": str(tmp_path / "data"), "TASKER_TASKS": ""}
    made = tasker("key", "create", "--scope", "admin", "--name", "root", "--expires", "30d", env=store, folder=tmp_path)
    assert (made.code, made.out.count("\n")) == (0, 1)
    assert made.err.endswith("of root may admin. It is shown only this once:\n")
    key = made.out.strip()
    key_id = key.split("_")[1]
    listed = json.loads(tasker("key", "ls", "--json", env=store, folder=tmp_path).out)
    assert [(one["key_id"], one["owner"], one["scopes"]) for one in listed] == [(key_id, "root", ["admin"])]
    with run_server(tmp_path) as server:
        there = {"TASKER_TOKEN": key}
        refused = tasker("key", "ls", env=store, folder=tmp_path)
        assert refused.code == 2
        assert f"--url http://127.0.0.1:" in refused.err  # noqa: F541
        assert "TASKER_TOKEN" in refused.err
        assert tasker("key", "ls", "--url", server.url, folder=tmp_path).code == 4
        made = tasker("key", "create", "--scope", "submit,read", "--owner", "shop", "--rate", "5", "--url", server.url,
                      "--json", env=there, folder=tmp_path)  # fmt: skip
        new = json.loads(made.out)
        assert (new["owner"], new["rate"], new["burst"]) == ("shop", 5, 10)
        assert tasker("ls", "--url", server.url, env={"TASKER_TOKEN": new["key"]}, folder=tmp_path).code == 0
        listed_there = tasker("key", "ls", "--url", server.url, env=there, folder=tmp_path).out.splitlines()
        assert [line.split("\t")[0] for line in listed_there] == [key_id, new["key_id"]]
        audit = httpx2.get(f"{server.url}/audit", headers={"authorization": f"Bearer {key}"}).json()["items"]
        assert [(one["action"], one["address"]) for one in audit] == [
            ("create_key", "127.0.0.1"), ("create_key", "command line"),
        ]  # fmt: skip
        assert tasker("key", "revoke", new["key_id"], "--url", server.url, env=there, folder=tmp_path).code == 0
        assert tasker("ls", "--url", server.url, env={"TASKER_TOKEN": new["key"]}, folder=tmp_path).code == 4
        assert tasker("key", "revoke", "nope", "--url", server.url, env=there, folder=tmp_path).code == 3
    assert tasker("key", "revoke", key_id, env=store, folder=tmp_path).code == 0
    assert tasker("key", "revoke", "nope", env=store, folder=tmp_path).code == 3
    assert tasker("key", "ls", env=store, folder=tmp_path).out.count("revoked") == 2
    new_key = tasker("key", "create", "--scope", "admin", env=store, folder=tmp_path).out.strip()
    with run_server(tmp_path) as server:
        audit = httpx2.get(f"{server.url}/audit", headers={"authorization": f"Bearer {new_key}"}).json()["items"]
    assert ("revoke_key", key_id, "command line") in [(one["action"], one["target"], one["address"]) for one in audit]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--scope", "root"], "--scope: expected submit, read, control, admin, or several with commas, got 'root'"),
        (["--scope", ""], "--scope: "),
        (["--scope", "read", "--rate", "0", "--burst", "0"], "--rate: "),
        (["--scope", "read", "--expires", "soon"], "--expires: expected a duration (12h, 30d, 8w) or a time"),
    ],
)
def test_wrong_options_make_no_key(args: list[str], told: str, tmp_path: Path) -> None:
    done = tasker("key", "create", *args, "--data-dir", str(tmp_path), folder=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert not list(tmp_path.iterdir()), "nothing is touched"


def test_times() -> None:
    assert read_moment("90m", NOW) == NOW + timedelta(minutes=90)
    assert read_moment("2w", NOW) == NOW + timedelta(days=14)
    assert read_moment("2027-01-31T01:00:00+01:00", NOW) == datetime(2027, 1, 31, tzinfo=UTC)
    for text in ("", "d", "-1d", "1y", "2027-01-31T00:00:00", "1e3s"):
        with pytest.raises(UsageError):
            read_moment(text, NOW)
