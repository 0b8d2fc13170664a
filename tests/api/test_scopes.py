"""What each key may do: every path and method, and everything that looks like one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from tasker.api.app import make_operations
from tasker.api.auth import PUBLIC_PATHS
from tasker.api.operation import Operation
from tasker.errors import PROBLEMS
from tasker.metrics import Metrics
from tasker.model.keys import ANYBODY, NOBODY, SCOPES, Caller, Scope
from tests.api.conftest import Rig, problem

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
ANY_ID = "0198e000-0000-7000-8000-000000000000"


def operations(rig: Rig) -> list[Operation]:
    return make_operations(rig.service, Metrics(), rig.clock, rig.settings)


def path_of(operation: Operation) -> str:
    """Return a path of the operation."""
    parts = [ANY_ID if part.endswith("_id}") else "sum" if "{" in part else part for part in operation.path.split("/")]
    return "/".join(parts)


def test_callers() -> None:
    alice = Caller(owner="alice", key_id="k", scopes=frozenset[Scope]({"read"}))
    admin = Caller(owner="root", key_id="a", scopes=frozenset[Scope]({"admin"}))
    assert [scope for scope in SCOPES if alice.may(scope)] == ["read"]
    assert [scope for scope in SCOPES if admin.may(scope)] == list(SCOPES)
    assert [scope for scope in SCOPES if NOBODY.may(scope)] == []
    assert (alice.only, admin.only, ANYBODY.only, NOBODY.only) == ("alice", None, None, "")
    assert [alice.sees(owner) for owner in ("alice", "bob", "", None)] == [True, False, False, False]
    assert all(admin.sees(owner) and ANYBODY.sees(owner) for owner in ("alice", "bob", "", None))


def test_only_probes_and_docs_are_public(rig: Rig) -> None:
    files = {"docs.css", "docs.js", "swagger-ui-bundle.js", "swagger-ui.css"}
    open_ = {"/", "/docs"} | {f"/docs/{file}" for file in files} | {f"/problems/{name}" for name in PROBLEMS}
    assert open_ | {"/livez", "/readyz"} == PUBLIC_PATHS


def test_each_operation_needs_the_scope_written_here(rig: Rig) -> None:
    """Written out, so that no scope is loosened in passing."""
    found: dict[str, set[str]] = {}
    for operation in operations(rig):
        found.setdefault(operation.scope, set()).add(f"{operation.method} {operation.path}")
    assert found == SCOPE_OF


SCOPE_OF = {
    "public": {"GET /livez", "GET /readyz", "GET /", "GET /docs", "GET /docs/{file}", "GET /problems/{name}"},
    "any": {"GET /openapi.json", "GET /type", "GET /type/{name}"},
    "submit": {
        "POST /task", "PUT /task/{task_id}", "POST /type/{name}/task", "POST /task/{task_id}/replay", "POST /batch",
        "POST /schedule", "PATCH /schedule/{schedule_id}", "POST /schedule/{schedule_id}/trigger",
    },
    "read": {
        "GET /task", "GET /task/{task_id}", "GET /task/{task_id}/result", "GET /task/{task_id}/events", "GET /events",
        "GET /schedule", "GET /schedule/{schedule_id}", "GET /schedule/{schedule_id}/next", "GET /webhook",
        "GET /webhook/{webhook_id}", "GET /webhook/{webhook_id}/deliveries", "GET /queue", "GET /queue/{name}",
        "GET /worker", "GET /usage", "GET /bulk", "GET /bulk/{bulk_id}", "GET /group", "GET /group/{name}",
        "GET /stats", "GET /failure", "GET /question", "GET /task/{task_id}/log",
    },
    "control": {
        "POST /task/{task_id}/cancel", "POST /task/{task_id}/retry", "POST /task/{task_id}/input",
        "DELETE /task/{task_id}", "POST /bulk", "POST /group/{name}/cancel", "POST /bulk/{bulk_id}/stop",
        "POST /bulk/{bulk_id}/undo",
        "DELETE /schedule/{schedule_id}", "POST /webhook", "PATCH /webhook/{webhook_id}",
        "DELETE /webhook/{webhook_id}", "POST /webhook/{webhook_id}/rotate",
        "POST /webhook/{webhook_id}/deliveries/{delivery_id}/redeliver",
    },
    "admin": {"GET /metrics",
        "GET /key", "POST /key", "GET /key/{key_id}", "DELETE /key/{key_id}", "GET /audit", "PATCH /queue/{name}",
    },
}  # fmt: skip


def spellings(path: str) -> Iterator[str]:
    """Yield the path, and other spellings of it."""
    yield from (path, path + "/", "/" + path, path.upper(), path + ";a=b", path + "%00", path + "/health", path + "%2f")
    yield from ("/livez" + path, path + "/livez", path + "?a=/livez", "/x" + path)


async def test_without_a_key_only_public_paths_answer(locked: Rig) -> None:
    asked = 0
    for operation in operations(locked):
        for path, method in product(spellings(path_of(operation)), METHODS):
            if path.partition("?")[0] in PUBLIC_PATHS:
                continue
            reply = await locked.client.request(method, "http://localhost:5000" + path)
            assert reply.status_code == 401, (method, path)
            assert reply.headers["www-authenticate"] == 'Bearer realm="tasker"'
            asked += 1
    assert asked > 1000


@pytest.mark.parametrize("scope", [None, *SCOPES])
async def test_every_operation_checks_its_scope(rig: Rig, monkeypatch: pytest.MonkeyPatch, scope: Scope | None) -> None:
    caller = Caller(owner="alice", key_id="k", scopes=frozenset([scope] if scope else []))
    monkeypatch.setattr("tasker.api.auth.ANYBODY", caller)
    seen = set()
    for operation in operations(rig):
        methods = [operation.method] + (["HEAD"] if operation.method == "GET" else [])
        for method in methods:
            may = operation.scope in ("any", "public", scope) or scope == "admin"
            if may and operation.streams and operation.method == "GET" and "{" not in operation.path:
                continue  # a stream of everything goes on for ever
            reply = await rig.client.request(method, path_of(operation))
            assert (reply.status_code != 403) is may, (method, operation.path)
            if not may:
                seen.add(operation.scope)
                expected = f'Bearer realm="tasker", error="insufficient_scope", scope="{operation.scope}"'
                assert reply.headers["www-authenticate"] == expected
                assert method == "HEAD" or problem(reply) == (403, "forbidden")
    assert seen >= ({"submit", "read", "control"} - {scope} if scope != "admin" else set())
