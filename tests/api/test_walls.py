"""Call every operation with every key, and check what the key may do and what it is shown.

A key without the scope `read` must not see any text that another key has sent, and only an admin may see texts of other
owners. Each text carries a mark here, which no reply may contain, in its body or in its head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import combinations
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import httpx2
import pytest

from tasker.api.app import make_operations
from tasker.api.operation import Operation
from tasker.metrics import Metrics
from tasker.model.keys import SCOPES, Scope
from tests.api.conftest import Rig, problem
from tests.api.land import HOUR, Land, picky
from tests.api.test_feed import Follower

HERS, HIS = "mark7of7alice", "mark8of8bob"
NONE = "0198e000-0000-7000-8000-000000000000"
SSE = {"accept": "text/event-stream"}


class Ask(NamedTuple):
    """A request. needs: scopes that it needs besides that of its operation."""

    method: str
    path: str
    json: Any = None
    headers: dict[str, str] = {}
    needs: tuple[Scope, ...] = ()


def _submissions(path: str, method: str = "POST") -> Callable[[Land, str], list[Ask]]:
    def asks(land: Land, me: str) -> list[Ask]:
        plain = {"type": "echo", "params": ["mine"]}
        joining = {**plain, "unique_key": "job"}
        cached = {"type": "echo", "params": ["the same"], "cache": HOUR}
        hook = {"webhook": {"url": "https://example.org/me"}}
        replacing = {**plain, "unique_key": "job to be replaced", "on_conflict": "replace"}
        depending = {**plain, "depends_on": [land.ids["failed"]]}
        after_group = {**plain, "depends_on": {"group": "shared", "when": "ended"}}
        bodies: list[tuple[Any, dict[str, str], tuple[Scope, ...]]] = [
            (plain, {}, ()), (joining, {}, ()), (joining, {"prefer": "wait=0"}, ()), (cached, {}, ()),
            (cached, {"prefer": "wait=1"}, ()), ({**plain, "unique_key": "running job"}, {}, ()),
            (joining, {"idempotency-key": me}, ()), (joining, {"idempotency-key": me}, ()), (depending, {}, ()),
            (joining, {"prefer": "handling=validate"}, ()), ({**joining, "on_conflict": "reject"}, {}, ()),
            ({**plain, **hook}, {}, ()), ({**depending, **hook}, {}, ("read",)), (after_group, {}, ()),
            ({**after_group, **hook}, {}, ("read",)), ({**plain, "group": "shared"}, {}, ()),
            (replacing, {}, ("control",)),
            ({"type": "sum", "params": ["no"]}, {}, ()),
        ]  # fmt: skip
        if method == "POST":  # else `return` is as `reject`, and nothing is shared
            bodies += [({**joining, **hook}, {}, ("read",)), ({**cached, **hook}, {}, ("read",))]
            bodies += [(cached, SSE, ("read",))]
        return [
            Ask(method, path if method == "POST" else f"/task/{uuid5(NAMESPACE_URL, f'{me} {place}')}", *body)
            for place, body in enumerate(bodies)
        ]

    return asks


def _puts(land: Land, me: str) -> list[Ask]:
    again = land.marked(delay=HOUR) if land.mark == HIS else {"type": "echo", "params": ["mine"]}
    return [*_submissions("/task", "PUT")(land, me), Ask("PUT", f"/task/{land.ids['put']}", again)]


def _batches(land: Land, me: str) -> list[Ask]:
    bodies = [ask.json for ask in _submissions("/task")(land, me) if not ask.headers]
    return [Ask("POST", "/batch", bodies), Ask("POST", "/batch", bodies, {"prefer": "handling=validate"})]


def _replays(land: Land, me: str) -> list[Ask]:
    path = f"/task/{land.ids['completed']}/replay"
    hook = {"url": "https://example.org/me"}
    return [
        Ask("POST", path), Ask("POST", path, {"params": ["mine"]}),
        Ask("POST", path, {"tags": ["mine"], "params": None}),
        Ask("POST", path, None, {"prefer": "wait=0"}), Ask("POST", path, None, {"prefer": "handling=validate"}),
        Ask("POST", path, {"unique_key": "job"}), Ask("POST", path, {"keep_steps": True}),
        Ask("POST", f"/task/{land.ids['asking']}/replay", {"keep_steps": True}),
        Ask("POST", path, {"unique_key": "job"}, {"idempotency-key": me + "r"}),
        Ask("POST", path, {"unique_key": "job"}, {"idempotency-key": me + "r"}),
        Ask("POST", path, {"params": ["the same"], "cache": HOUR}, SSE, ("read",)),
        Ask("POST", path, {"retry": {"initial": 1e6}}), Ask("POST", path, {"webhook": hook}, {}, ("read",)),
        Ask("POST", f"/task/{land.ids['misfit']}/replay"), Ask("POST", f"/task/{land.ids['misfit']}/replay", {"x": 1}),
        Ask("POST", f"/task/{land.ids['failed']}/replay"), Ask("POST", f"/task/{NONE}/replay"),
        Ask("POST", path, {"unique_key": "job to be replaced", "on_conflict": "replace"}, {}, ("control",)),
    ]  # fmt: skip


def _schedules(land: Land, me: str) -> list[Ask]:
    task = {"type": "echo", "params": ["mine"]}
    body = {"name": me, "interval": HOUR, "task": task}
    replacing = {**task, "unique_key": "job", "on_conflict": "replace"}
    return [
        Ask("POST", "/schedule", body), Ask("POST", "/schedule", body), Ask("POST", "/schedule", {"name": me}),
        Ask("POST", "/schedule", {**body, "name": me + "2", "task": replacing}, {}, ("control",)),
        Ask("POST", "/schedule", {**body, "name": me + "3", "overlap": "replace"}, {}, ("control",)),
    ]  # fmt: skip


def _changes(land: Land, me: str) -> list[Ask]:
    strong, weak = f"/schedule/{land.ids['schedule_id']}", f"/schedule/{land.ids['weak_schedule']}"
    replacing = {"type": "echo", "unique_key": "job", "on_conflict": "replace"}
    return [
        Ask("PATCH", strong, {"paused": True}, {}, ("control",)), Ask("PATCH", strong, {}, {}, ("control",)),
        Ask("PATCH", strong, {"task": {"type": "echo"}}, {}, ("control",)), Ask("PATCH", weak, {"interval": 60}),
        Ask("PATCH", weak, {"overlap": "replace"}, {}, ("control",)),
        Ask("PATCH", weak, {"task": replacing}, {}, ("control",)),
        Ask("PATCH", weak, {"paused": False, "overlap": "skip"}), Ask("PATCH", weak, {"cron": "x"}),
    ]  # fmt: skip


def _triggers(land: Land, me: str) -> list[Ask]:
    path = f"/schedule/{land.ids['schedule_id']}/trigger"
    return [
        Ask("POST", path), Ask("POST", path, None, {"idempotency-key": me + "t"}),
        Ask("POST", path, None, {"idempotency-key": me + "t"}),
        Ask("POST", f"/schedule/{land.ids['misfit_schedule']}/trigger"),
    ]  # fmt: skip


def _webhook_changes(land: Land, me: str) -> list[Ask]:
    path = f"/webhook/{land.ids['webhook_id']}"
    return [
        Ask("PATCH", path, {"status": "paused"}), Ask("PATCH", path, {"status": "active"}), Ask("PATCH", path, {}),
        Ask("PATCH", path, {"events": ["task.log"]}, {}, ("read",)),
        Ask("PATCH", path, {"description": "mine"}), Ask("PATCH", path, {"type": "echo"}, {}, ("read",)),
    ]  # fmt: skip


def _bulk(land: Land, me: str) -> list[Ask]:
    cancel = {"action": "cancel", "filter": {"type": "reverse"}}
    return [
        Ask("POST", "/bulk", {**cancel, "dry_run": True}), Ask("POST", "/bulk", {**cancel, "at_most": 0}),
        Ask("POST", "/bulk", {**cancel, "filter": {"type": "reverse", "owner": land.owner}}),
        Ask("POST", "/bulk", {"action": "retry", "filter": {"type": "named"}}),
        Ask("POST", "/bulk", {"action": "cancel", "task_ids": [land.ids["in bulk"], land.ids["put"]]}),
    ]  # fmt: skip


def _answers(land: Land, me: str) -> list[Ask]:
    path = f"/task/{land.ids['asking']}/input"
    return [
        Ask("POST", path, {"name": "other", "value": 1}), Ask("POST", path, {"name": "approve", "value": "mine"}),
        Ask("POST", path, {"name": "approve"}), Ask("POST", path, {"name": "approve", "value": "yes"}),
        Ask("POST", path, {"name": "approve", "value": "yes"}), Ask("POST", path, {"name": "approve", "value": "no"}),
        Ask("POST", f"/task/{land.ids['failed']}/input", {"name": "approve", "value": "yes"}),
    ]  # fmt: skip


def _of_task(method: str, path: str, *names: str) -> Callable[[Land, str], list[Ask]]:
    return lambda land, me: [Ask(method, path.format(land.ids[name])) for name in names]


def _fixed(*asks: Ask) -> Callable[[Land, str], list[Ask]]:
    return lambda land, me: list(asks)


def _gets(*paths: str) -> Callable[[Land, str], list[Ask]]:
    return _fixed(*(Ask("GET", path) for path in paths))


ALL_TASKS = ("unique", "completed", "failed", "running", "barred", "misfit", "put", "cached", "asking")
WALK: dict[str, Callable[[Land, str], list[Ask]]] = {
    "submit_task": _submissions("/task"),
    "get_task": _of_task("GET", "/task/{}?include=attempts,steps,children", *ALL_TASKS),
    "list_tasks": lambda land, me: [
        Ask("GET", f"/task{query}")
        for query in ("", f"?owner={land.owner}", "?limit=1", f"?tag={land.mark}", f"?q={land.mark}&count=true",
                      f"?bulk={land.ids['bulk_id']}", f"?group={land.mark}", f"?parent={land.ids['asking']}")
    ],
    "submit_params": _fixed(Ask("POST", "/type/echo/task", ["mine"]), Ask("POST", "/type/sum/task", ["no"])),
    "put_task": _puts,
    "get_result": _of_task("GET", "/task/{}/result", *ALL_TASKS),
    "cancel_task": _of_task("POST", "/task/{}/cancel", "cancelled", "running", "failed"),
    "retry_task": lambda land, me: [
        Ask("POST", f"/task/{land.ids['failed']}/retry", {"forget": ["other"]}),
        *(Ask("POST", f"/task/{land.ids[name]}/retry") for name in ("retried", "barred", "completed")),
    ],
    "answer_task": _answers,
    "replay_task": _replays,
    "delete_task": _of_task("DELETE", "/task/{}", "unique", "deleted", "deleted"),
    "submit_batch": _batches,
    "act_on_tasks": _bulk,
    "list_bulk": _gets("/bulk", "/bulk?limit=1"),
    "get_bulk": _of_task("GET", "/bulk/{}", "bulk_id", "stopped_bulk"),
    "stop_bulk": _of_task("POST", "/bulk/{}/stop", "stopped_bulk"),
    "undo_bulk": _of_task("POST", "/bulk/{}/undo", "bulk_id"),
    "follow_task": _of_task("GET", "/task/{}/events", "completed", "failed", "cached"),
    "follow_all": _gets("/events?after=oldest"),
    "create_schedule": _schedules,
    "list_schedules": lambda land, me: [Ask("GET", "/schedule"), Ask("GET", f"/schedule?name=schedule_id {land.mark}")],
    "get_schedule": _of_task("GET", "/schedule/{}?include=firings", "schedule_id", "misfit_schedule", "weak_schedule"),
    "change_schedule": _changes,
    "delete_schedule": _of_task("DELETE", "/schedule/{}", "doomed_schedule", "doomed_schedule"),
    "trigger_schedule": _triggers,
    "list_ticks": _of_task("GET", "/schedule/{}/next", "schedule_id"),
    "list_types": _gets("/type"),
    "get_type": _gets("/type/echo", "/type/nope"),
    "list_workers": _gets("/worker"),
    "create_webhook": lambda land, me: [
        Ask("POST", "/webhook", {"url": "https://example.org/me"}, {}, ("read",)), Ask("POST", "/webhook", {}),
    ],
    "list_webhooks": _gets("/webhook", "/webhook?limit=1"),
    "get_webhook": _of_task("GET", "/webhook/{}", "webhook_id"),
    "change_webhook": _webhook_changes,
    "delete_webhook": _of_task("DELETE", "/webhook/{}", "webhook_id", "webhook_id"),
    "rotate_secret": _of_task("POST", "/webhook/{}/rotate", "webhook_id", "doomed_webhook"),
    "list_deliveries": _of_task("GET", "/webhook/{}/deliveries", "delivery_of", "webhook_id"),
    "redeliver": lambda land, me: [
        Ask("POST", f"/webhook/{land.ids['delivery_of']}/deliveries/{one}/redeliver")
        for one in (land.ids["delivery_id"], NONE)
    ],
    "list_groups": _gets("/group", "/group?limit=1", "/group?owner=nobody"),
    "get_group": lambda land, me: [
        Ask("GET", f"/group/{land.mark}?owner={land.owner}"), Ask("GET", f"/group/{land.mark}?wait=0"),
    ],
    "cancel_group": lambda land, me: [
        Ask("POST", f"/group/doomed-{land.mark}/cancel?owner={land.owner}"), Ask("POST", "/group/none/cancel"),
    ],
    "list_failures": _gets("/failure", "/failure?window=90d&error=other"),
    "list_questions": _gets("/question", "/question?limit=1"),
    "read_log": _of_task("GET", "/task/{}/log", *ALL_TASKS),
    "get_usage": _gets("/usage", "/usage?group=owner,type"),
    "get_stats": _gets("/stats", "/stats?group=queue&window=24h", "/stats?group=type&owner=you"),
    "list_keys": _gets("/key"),
    "create_key": lambda land, me: [Ask("POST", "/key", {"scopes": ["read"], "owner": "me"})],
    "get_key": _gets("/key/nope"),
    "revoke_key": _fixed(Ask("DELETE", "/key/nope")),
    "list_audit": _gets("/audit"),
    "list_queues": _gets("/queue"),
    "get_queue": _gets("/queue/default", "/queue/nope"),
    "change_queue": _fixed(Ask("PATCH", "/queue/mine", {"concurrency": 5})),
    "is_alive": _gets("/livez"),
    "is_ready": _gets("/readyz"),
    "get_metrics": _gets("/metrics"),
    "get_openapi": _gets("/openapi.json"),
    "explain_problem": _gets("/problems/not-found"),
    "index": _gets("/"),
    "docs": _gets("/docs"),
    "docs_file": _gets("/docs/docs.css"),
}  # fmt: skip
"""The requests to every operation, in an order that erases nothing that later ones need."""
LAST = (
    "change_schedule",
    "cancel_task",
    "act_on_tasks",
    "delete_task",
    "retry_task",
    "delete_schedule",
    "delete_webhook",
)
KEYS = [
    *(pytest.param((one,), id=one, marks=pytest.mark.long if one in {"control", "admin"} else ()) for one in SCOPES),
    *(pytest.param(two, id=" ".join(two), marks=pytest.mark.long) for two in combinations(SCOPES, 2)),
    pytest.param(SCOPES[:3], id=" ".join(SCOPES[:3])),
]


class Walk:
    """Alice's things and Bob's, and a walker with another key of Alice's."""

    def __init__(self, rig: Rig, hers: Land, his: Land, scopes: tuple[Scope, ...], key: dict[str, str]) -> None:
        self.rig = rig
        self.lands = (hers, his)
        self.scopes = scopes
        self.key = key
        self.told: dict[str, set[str]] = {}
        self.done: set[str] = set()
        self.operations = make_operations(rig.service, Metrics(), rig.clock, rig.settings)

    def may(self, scope: str) -> bool:
        return scope in ("public", "any") or scope in self.scopes or "admin" in self.scopes

    async def go(self) -> None:
        for operation in sorted(self.operations, key=lambda one: one.name in LAST):
            for land in self.lands:
                for ask in WALK[operation.name](land, f"{operation.name}-{land.owner}"):
                    await self.ask(operation, land, ask)

    async def ask(self, operation: Operation, land: Land, ask: Ask) -> None:
        if operation.name == "follow_all" and self.may("read"):
            return await self._follow(ask)
        for method in (ask.method, *(["HEAD"] if ask.method == "GET" else [])):
            options = {} if ask.json is None else {"json": ask.json}
            headers = {**self.key, **ask.headers}
            what = f"{' and '.join(self.scopes)}: {method} {ask.path} {ask.json} {ask.headers}"
            try:
                async with asyncio.timeout(20):
                    reply = await self.rig.client.request(method, ask.path, headers=headers, **options)
            except TimeoutError:
                raise AssertionError(f"{what}: no answer") from None
            self._hear(operation, reply.text + str(reply.headers), f"{what}: {reply.status_code} {reply.text}")
            self._check_right(operation, land, ask, reply, what)
        return None

    def _check_right(self, operation: Operation, land: Land, ask: Ask, reply: httpx2.Response, what: str) -> None:
        assert reply.status_code < 500, what
        assert reply.status_code not in (400, 405, 406, 415) or operation.scope == "public", what
        may = self.may(operation.scope) and all(self.may(scope) for scope in ask.needs)
        if land is self.lands[0]:
            assert (reply.status_code != 403) is may, f"{what}: {reply.text}"
        elif not self.may(operation.scope):
            assert reply.status_code == 403, what
        if reply.status_code == 403 and ask.method != "HEAD" and reply.text:
            assert problem(reply) == (403, "forbidden")
            assert "insufficient_scope" in reply.headers["www-authenticate"], what
        if reply.status_code < 300 and land is self.lands[0]:
            self.done.add(operation.name)

    def _hear(self, operation: Operation, text: str, what: str) -> None:
        for mark in (HERS, HIS):
            if mark in text:
                self.told.setdefault(mark, set()).add(operation.name)
        if not self.may("read"):
            assert HERS not in text, what
        if not self.may("admin"):
            assert HIS not in text, what

    async def _follow(self, ask: Ask) -> None:
        """Read the stream of all events up to now; it has no end."""
        [operation] = [one for one in self.operations if one.name == "follow_all"]
        path, _, query = ask.path.partition("?")
        assert path == operation.path
        follower = Follower(self.rig, query, self.key)
        async with asyncio.timeout(30):
            while self.lands[0].ids["in the way"] not in follower.text:
                await asyncio.sleep(0.001)
        await follower.leave()
        self._hear(operation, follower.text, f"{self.scopes}: {ask.path}")
        self.done.add(operation.name)


async def walk(rig: Rig, scopes: tuple[Scope, ...]) -> Walk:
    rig.service.registry.add(picky)
    everything = ("submit", "read", "control")
    hers = await Land(rig, "alice", HERS, await rig.key(*everything, owner="alice")).build()
    his = await Land(rig, "bob", HIS, await rig.key(*everything, owner="bob")).build()
    gone = Walk(rig, hers, his, scopes, await rig.key(*scopes, owner="alice"))
    assert set(WALK) == {operation.name for operation in gone.operations}, "each operation is asked something here"
    await gone.go()
    return gone


@pytest.mark.parametrize("scopes", KEYS)
async def test_no_key_is_shown_what_it_may_not_see(locked: Rig, scopes: tuple[Scope, ...]) -> None:
    gone = await walk(locked, scopes)
    for operation in gone.operations:  # what is refused is refused for its scope, and the rest was really done
        needs = {scope for ask in WALK[operation.name](gone.lands[0], "x") for scope in ask.needs}
        if gone.may(operation.scope) and all(gone.may(scope) for scope in needs):
            assert operation.name in gone.done or operation.name in ("get_key", "revoke_key", "index"), operation.name
    if gone.may("read"):
        hears = {"get_task", "list_tasks", "get_result", "follow_task", "follow_all", "list_schedules", "get_schedule"}
        assert gone.told[HERS] >= hears | {"get_webhook", "list_webhooks", "list_deliveries"}, "the marks are there"
    if scopes == SCOPES[:3]:  # the walk looks where there is something to find
        assert gone.told[HERS] >= {
            "submit_task", "replay_task", "trigger_schedule", "change_schedule", "cancel_task", "retry_task",
            "redeliver", "change_webhook",
        }  # fmt: skip
    if gone.may("admin"):
        assert gone.told[HIS] >= {"get_task", "list_tasks", "get_schedule", "follow_all"}
