"""Children as they are made from what a function asks for: checked like submissions, tied to their parent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pytest

import tasker
from tasker import task
from tasker.errors import Fault, RequestError, Unavailable
from tasker.model import Draft, Lease, new_task_id
from tasker.model.steps import Family, NewChildren, Step
from tasker.requests.submissions import UrlRules
from tasker.rules.children import MAX_LEVEL, Origin, child_id
from tasker.service.admission import OpenQueues
from tasker.service.children import ChildLimits, ChildService
from tasker.service.reading import Reading
from tasker.tasktypes.registry import Registry
from tasker.tasktypes.steps import ChildOptions, StartChildren
from tasker.testing import START, ManualClock

PARENT, ROOT = new_task_id(START), new_task_id(START)
DEADLINE = START + timedelta(hours=3)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FAMILY = Family(root_id=ROOT, level=2, owner="me", deadline=DEADLINE, traceparent=TRACE)
LEASE = Lease(PARENT, 4)
ORIGIN = Origin(2, START)


@task(queue="renders", priority=7, timeout=60)
async def render(page: int, size: str = "a4") -> str:
    return f"{page} {size}"


@task
async def charge(card: Annotated[str, tasker.secret], amount: int) -> None:
    return None


@task(check=lambda n: [] if n < 10 else [Fault("/n", "is too much")])
async def checked(n: int) -> int:
    return n


class FakeSteps:
    """Keeps what is to be stored."""

    def __init__(self) -> None:
        self.kept: list[NewChildren] = []
        self.most = 0

    async def start_children(self, lease: Lease, children: NewChildren, *, most: int) -> Step | None:
        assert lease == LEASE
        self.kept.append(children)
        self.most = most
        return None


class FakeQueues:
    """Knows no open queue."""

    async def find_names(self, *, limit: int) -> list[str]:
        return []

    async def find_open(self, owner: str) -> list[str]:
        return []


LIMITS = ChildLimits(100, 1000)


class Rig:
    def __init__(self, queues: int = 10) -> None:
        self.clock = ManualClock()
        registry = Registry()
        for function in (render, charge, checked):
            registry.add(function)
        self.steps: Any = FakeSteps()
        self.reading = Reading(registry, self.clock, UrlRules())
        store: Any = FakeQueues()
        self.open_queues = OpenQueues(store, self.clock, queues)
        self.service = ChildService(self.steps, self.reading, self.clock, self.open_queues, LIMITS)

    async def start(self, *params: bytes, family: Family = FAMILY, **fields: Any) -> list[Draft]:
        request = StartChildren(
            **{"key": "k", "name": "k", "type_name": "render", "params": params, "first": 0, "total": len(params)}
            | fields
        )
        assert await self.service.start(LEASE, family, ORIGIN, request) is None
        return list(self.steps.kept[-1].drafts)

    async def refused(self, *params: bytes, **fields: Any) -> RequestError:
        with pytest.raises(RequestError) as caught:
            await self.start(*params, **fields)
        assert not self.steps.kept
        return caught.value


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    assert not any(rig.open_queues._known.get("me", Nothing).queues.values()), "what enters leaves"


class Nothing:
    queues: dict[str, int] = {}


async def test_children_are_tied_to_their_parent(rig: Rig) -> None:
    [first, second] = await rig.start(b"[1]", b'{"page":2,"size":"a5"}', first=5, total=7)
    children: NewChildren = rig.steps.kept[0]
    assert (first.owner, first.deadline, first.type) == ("me", DEADLINE, "render")
    assert first.extra is not None
    assert (first.extra.parent_id, first.extra.root_id, first.extra.traceparent) == (PARENT, ROOT, TRACE)
    assert first.task_id == child_id(PARENT, "k", 5, ORIGIN)
    assert second.task_id == child_id(PARENT, "k", 6, ORIGIN)
    assert (second.params, second.idempotency) == (b'{"page":2,"size":"a5"}', None)
    assert (children.first, children.level, children.root_id, children.step.total) == (5, 3, ROOT, 7)
    assert (children.step.kind, children.step.started_at, rig.steps.most) == ("children", ORIGIN.started_at, 100)


async def test_children_have_the_options_of_their_type_or_those_given(rig: Rig) -> None:
    [plain] = await rig.start(b"[1]")
    assert (plain.queue, plain.priority, plain.run_at) == ("renders", 7, None)
    options = ChildOptions(
        queue="slow", priority=-3, delay=timedelta(minutes=1), timeout=timedelta(seconds=9), concurrency_key="c",
        tags=("a", "b"),
    )  # fmt: skip
    [child] = await rig.start(b"[1]", options=options)
    assert (child.queue, child.priority, child.concurrency_key, child.tags) == ("slow", -3, "c", ("a", "b"))
    assert child.run_at == rig.clock.now() + timedelta(minutes=1)
    assert msgspec.json.decode(child.policy)["timeout"] == "PT9S"
    assert child.extra is not None
    assert child.extra.delayed


async def test_secret_params_of_children_are_hidden(rig: Rig) -> None:
    [child] = await rig.start(b'["4242 4242", 7]', type_name="charge")
    assert (child.params, child.secrets) == (b'["***",7]', b'{"0":"4242 4242"}')


async def test_every_fault_of_all_children_is_named(rig: Rig) -> None:
    error = await rig.refused(b'["one"]', b"[2]", b'{"page":"x","size":3}', first=10, total=13)
    assert error.kind.name == "invalid-params"
    for part in ("child 10: ", "child 12: ", "/page", "/size"):
        assert part in error.detail
    assert "child 11" not in error.detail


async def test_checks_of_a_types_author_are_run(rig: Rig) -> None:
    error = await rig.refused(b"[1]", b"[10]", type_name="checked")
    assert "child 1: " in error.detail
    assert "is too much" in error.detail


async def test_faults_of_many_children_are_counted(rig: Rig) -> None:
    error = await rig.refused(*[b'["x"]'] * 30)
    assert error.detail.count("child ") == 10
    assert error.detail.endswith("and 20 more children")


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"type_name": "rendr"}, "unknown-type", "did you mean 'render'"),
        ({"options": ChildOptions(queue="no queue!", priority=1000)}, "invalid-request", "/priority"),
        ({"total": 101}, "limit-reached", "TASKER_MAX_CHILDREN"),
        ({"family": msgspec.structs.replace(FAMILY, level=MAX_LEVEL)}, "limit-reached", "16"),
        ({"params": (b'["' + b"x" * 1000 + b'"]',)}, "invalid-params", "TASKER_MAX_BODY"),
        ({"params": (b"[1",)}, "invalid-params", "child 0"),
        ({"params": (b'{"page":1,"page":2}',)}, "invalid-params", "page"),
        ({"params": (b'["4242", 7, 8]',), "type_name": "charge"}, "invalid-params", "child 0"),
    ],
)
async def test_what_cannot_be_started_is_refused_whole(rig: Rig, fields: dict[str, Any], name: str, words: str) -> None:
    error = await rig.refused(*fields.pop("params", (b"[1]",)), **fields)
    assert error.kind.name == name
    assert words in error.detail


async def test_the_last_level_may_be_used(rig: Rig) -> None:
    await rig.start(b"[1]", family=msgspec.structs.replace(FAMILY, level=MAX_LEVEL - 1))
    assert rig.steps.kept[0].level == MAX_LEVEL


async def test_the_limit_of_open_queues_counts_children() -> None:
    rig = Rig(queues=1)
    await rig.open_queues.enter("me", "other")
    error = await rig.refused(b"[1]")
    assert (error.kind.name, "TASKER_MAX_QUEUES" in error.detail) == ("limit-reached", True)


async def test_an_unavailable_store_is_left_to_the_caller(rig: Rig) -> None:
    async def away(*_: object, most: int) -> Sequence[Any]:
        raise Unavailable("away")

    rig.steps.start_children = away
    with pytest.raises(Unavailable):
        await rig.start(b"[1]")


async def test_no_children_at_all_are_a_step_too(rig: Rig) -> None:
    assert await rig.start() == []
    assert rig.steps.kept[0].step.total == 0
