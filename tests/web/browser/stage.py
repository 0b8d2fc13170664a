"""A service with something to look at: tasks in every state, a paused queue, schedules, hostile texts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2

TYPES = Path(__file__).with_name("sample_types.py")
WITHIN = 30.0
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "\u202etxt.exe\u202c and \u2066isolated\u2069",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x08\x08",
    "'\"><svg onload=document.title='owned'>{{ 7919 * 7907 }} ${7919*7907} </textarea></template>",
    "javascript:document.title='owned'",
    '<hx-partial hx-target="body">owned</hx-partial>',
    "</bdi></code></td></tr></table><form action=//evil.example><button>Sign in",
    "x" * 3000,
)
SEEN = ("owned", "isolated", "red", "onload", "javascript:", "hx-partial", "evil.example", "xxxx")
"""What a page shows of each at least."""


class Stage:
    """Submits tasks to a service, and waits for them."""

    def __init__(self, url: str) -> None:
        self.client = httpx2.Client(base_url=url, timeout=WITHIN)

    def submit(self, type: str, *params: Any, **options: Any) -> str:
        """Submit a task; return its id."""
        reply = self.client.post("/task", json={"type": type, "params": list(params), **options})
        assert reply.status_code == 202, reply.text
        return str(reply.json()["task_id"])

    def end(self, task_id: str) -> str:
        """Wait until a task has ended; return its status."""
        reply = self.client.get(f"/task/{task_id}", params={"wait": 20})
        return str(reply.json()["status"])

    def started(self, task_id: str) -> None:
        """Wait until a task runs."""
        until = time.monotonic() + WITHIN
        while self.client.get(f"/task/{task_id}").json()["status"] == "pending":
            assert time.monotonic() < until
            time.sleep(0.05)

    def parked(self, task_id: str) -> None:
        """Wait until a task waits for a person or sleeps."""
        until = time.monotonic() + WITHIN
        while self.client.get(f"/task/{task_id}").json().get("reason") not in ("input_required", "sleeping"):
            assert time.monotonic() < until
            time.sleep(0.05)

    def fill(self) -> dict[str, str]:
        """Make tasks of every kind; return the ids of some by what they are."""
        ids = {
            "sum": self.submit("sum", 4, 2, tags=["nightly"]),
            "reverse": self.submit("reverse", "Hello Tasker"),
            "report": self.submit("report", "acme-41"),
            "story": self.submit("story", "Once upon a time", 5),
            "failed": self.submit("report", "globex", None, "pdf", None, "XBT", tags=["nightly", "tenant:globex"]),
            "grouped": self.submit("report", "acme-42", None, "pdf", None, "XBT", group="import-7"),
        }
        for customer in ("initech", "umbrella", "hooli"):
            self.end(self.submit("report", customer, None, "xlsx", None, "XBT"))
        for task_id in ids.values():
            self.end(task_id)
        ids["running"] = self.submit("import_orders", "orders-2026-11-29.csv")
        self.submit("reverse", "in a group", delay=3600, group="import-7")
        ids["scheduled"] = self.submit("report", "acme-77", delay=3600)
        self.client.patch("/queue/llm", json={"paused": True, "concurrency": 8})
        ids["waiting"] = self.submit("story", "Tell me of clocks")
        ids["cancelled"] = self.submit("story", "Never told")
        self.client.post(f"/task/{ids['cancelled']}/cancel")
        ids |= {
            "asks": self.submit("order", 7, 6),
            "album": self.submit("album", 30),
            "invite": self.submit("invite", HOSTILE[0]),
            "sleeps": self.submit("doze"),
        }
        self.end(ids["album"])
        for name in ("asks", "invite", "sleeps"):
            self.parked(ids[name])
        ids |= self._fill_other_pages()
        self.started(ids["running"])
        return ids

    def _fill_other_pages(self) -> dict[str, str]:
        """Make a schedule, a webhook and a bulk action; return their ids by the path of their page."""
        schedule = {"name": "nightly reports", "cron": "30 2 * * *", "task": {"type": "report", "params": ["acme-41"]}}
        made = {
            "/schedule/{schedule_id}": self.client.post("/schedule", json=schedule).json()["schedule_id"],
            "/webhook/{webhook_id}": self.client.post(
                "/webhook", json={"url": "https://hooks.example/tasks", "events": ["task.failed"], "tag": "nightly"}
            ).json()["webhook_id"],
            "/bulk/{bulk_id}": self._cancel_many("spring"),
        }
        return made | {f"{path}/edit": made[path] for path in ("/schedule/{schedule_id}", "/webhook/{webhook_id}")}

    def _cancel_many(self, tag: str) -> str:
        """Submit some tasks for later, and cancel them together; return the id of the receipt."""
        for number in range(3):
            self.submit("reverse", str(number), delay=3600, tags=[tag])
        reply = self.client.post("/bulk", json={"action": "cancel", "filter": {"tag": tag}})
        assert reply.status_code in (200, 202), reply.text
        return str(reply.json()["links"]["self"].rpartition("/")[2])

    def fill_with_hostile_texts(self) -> list[str]:
        """Make tasks whose params, result, error, tags and metadata try to act."""
        ids = []
        for text in HOSTILE:
            ids.append(self.submit("say", text, metadata={"note": text[:200]}))
            ids.append(self.submit("fail", text))
        ids.append(self.submit("say", "tagged", tags=["<b>tag</b>"]))
        for task_id in ids:
            self.end(task_id)
        return ids
