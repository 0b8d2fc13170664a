"""One owner's things, with a mark in every text: tasks in all states, schedules, webhooks and a delivery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from msgspec import Raw, structs

from tasker import task
from tasker.errors import Fault
from tasker.model import NewEvent, Progress, Report
from tasker.model.schedules import Skip
from tasker.rules.lifecycle import Cancelled, Failed, Outcome, Succeeded
from tasker.rules.lifecycle import problem as task_problem
from tasker.testing import make_draft
from tests.api.conftest import TYPES, Rig
from tests.api.webhooks import tell_in_vain
from tests.asking import done, park, question, start_children

HOUR = 3600


def picks(word: str) -> Iterator[Fault]:
    if word != "mine":
        yield Fault("/word", f"not {word}")


@task(check=picks, example=["mine"])
async def picky(word: str) -> str:
    """Accept one word only, and name any other in the fault."""
    return word


@dataclass
class Land:
    """An owner's things by name, so that a walk can ask for each with any of the owner's keys."""

    rig: Rig
    owner: str
    mark: str
    headers: dict[str, str]
    ids: dict[str, str] = field(default_factory=dict)

    async def post(self, path: str, body: Any = None) -> Any:
        reply = await self.rig.client.post(path, json=body, headers=self.headers)
        assert reply.status_code < 300, reply.text
        return reply.json()

    def marked(self, **options: Any) -> dict[str, Any]:
        """Return a submission with the mark wherever text is allowed."""
        return {
            "type": "echo", "params": [self.mark], "tags": [self.mark], "metadata": {self.mark: self.mark},
            "concurrency_key": self.mark, **options,
        }  # fmt: skip

    async def submit(self, name: str, **options: Any) -> str:
        task_id: str = (await self.post("/task", self.marked(**options)))["task_id"]
        self.ids[name] = task_id
        return task_id

    async def ended(self, name: str, outcome: Outcome, **options: Any) -> None:
        """Submit a task that reports something, and run it to this outcome."""
        await self.submit(name, queue=f"{name}-{self.owner}", **options)
        claim = await self.started(name)
        await self.rig.driver.finish(claim, outcome)

    async def started(self, name: str) -> Any:
        [claim] = await self.rig.driver.claim(types=TYPES, queues=[f"{name}-{self.owner}"])
        said = (b'{"level":"info","message":"%b","fields":{"a":"%b"}}', b'{"chunk":"%b %b"}')
        events = tuple(
            NewEvent(type=type_, time=self.rig.clock.now(), data=text % ((self.mark.encode(),) * 2))  # type: ignore[arg-type]
            for type_, text in zip(("log", "output"), said, strict=True)
        )
        usage = b'{"note":"%b"}' % self.mark.encode()
        report = Report(events=events, progress=Progress(fraction=0.5, message=self.mark), usage=usage)
        assert await self.rig.engine.record(claim.lease, report)
        return claim

    async def build(self) -> Land:
        await self._tasks()
        await self._schedules()
        for name in ("webhook_id", "doomed_webhook"):
            made = await self.post("/webhook", {"url": f"https://example.org/{self.mark}", "description": self.mark})
            self.ids[name] = made["webhook_id"]
        for name in ("bulk_id", "stopped_bulk"):
            body = {"action": "retry", "filter": {"type": self.mark, "tag": self.mark}}
            self.ids[name] = (await self.post("/bulk", body))["bulk_id"]
        self.ids["delivery_of"] = self.ids["doomed_webhook"]
        self.ids["delivery_id"] = str((await tell_in_vain(self.rig, self.mark)).delivery_id)
        return self

    async def _tasks(self) -> None:
        broken = Failed(structs.replace(task_problem("task-raised", self.mark), traceback=self.mark))
        result = Succeeded(b'"%b"' % self.mark.encode())
        await self.submit("unique", unique_key="job", delay=HOUR, webhook={"url": f"https://example.org/{self.mark}"})
        await self.submit("replaced", unique_key="job to be replaced", delay=HOUR)
        await self.submit("cancelled", type="named", delay=HOUR)
        await self.submit("grouped", group=self.mark, delay=HOUR)
        await self.submit("in a group", group="shared", delay=HOUR)
        await self.submit("doomed", group=f"doomed-{self.mark}", delay=HOUR)
        await self.submit("in bulk", type="reverse", delay=HOUR)
        await self.ended("completed", result)
        await self.ended("cached", result, params=["the same"], cache=HOUR)
        for name in ("failed", "retried", "deleted"):
            await self.ended(name, broken, group=self.mark)
        await self.ended("barred", Cancelled(), unique_key=self.mark)
        await self.submit("in the way", unique_key=self.mark, delay=HOUR)
        await self.submit("running", queue=f"running-{self.owner}", unique_key="running job")
        await self.started("running")
        await self._asking()
        misfit = make_draft(
            self.rig.clock.now(), type="picky", params=b'["%b"]' % self.mark.encode(), owner=self.owner,
            delay=timedelta(hours=1),
        )  # fmt: skip
        self.ids["misfit"] = str(await self.rig.driver.submit(misfit))
        own = str(uuid4())
        reply = await self.rig.client.put(f"/task/{own}", json=self.marked(delay=HOUR), headers=self.headers)
        assert reply.status_code == 201
        self.ids["put"] = own

    async def _asking(self) -> None:
        """Make a task with a step, children, and a question."""
        await self.submit("asking", queue=f"asking-{self.owner}")
        claim, now = await self.started("asking"), self.rig.clock.now()
        await start_children(self.rig.engine, claim, now, 2, key=self.mark)
        asked = question(now, message=self.mark, schema={"enum": ["yes", "no", self.mark]})
        await park(self.rig.driver, claim, done(now, f"step {self.mark}", self.mark), asked)

    async def _schedules(self) -> None:
        for name in ("schedule_id", "misfit_schedule", "doomed_schedule", "weak_schedule"):
            body = {"name": f"{name} {self.mark}", "interval": HOUR, "task": self.marked()}
            self.ids[name] = (await self.post("/schedule", body))["schedule_id"]
        await self._as("schedule_id", last_skip=Skip(tick=self.rig.clock.now(), reason="refused", detail=self.mark))
        await self._as(
            "misfit_schedule", type="picky", task=Raw(b'{"type":"picky","params":["%b"]}' % self.mark.encode())
        )
        await self._as("weak_schedule", scopes=("submit", "read"))

    async def _as(self, name: str, **fields: Any) -> None:
        schedule = await self.rig.engine.schedules.find(UUID(self.ids[name]))
        assert schedule is not None
        assert await self.rig.engine.schedules.update(structs.replace(schedule, version=schedule.version + 1, **fields))
