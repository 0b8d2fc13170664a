"""Celery's ways of calling, over a Tasker service, so that a code base moves task by task.

from tasker.contrib.celery import shared_task


@shared_task(bind=True, max_retries=5)
def send(self, to: str) -> None: ...


send.delay("ada@example.org").get(timeout=10)
"""

from tasker.contrib.celery.app import App, shared_task, signature
from tasker.contrib.celery.canvas import Signature, chain, chord, group
from tasker.contrib.celery.results import AsyncResult, GroupResult
from tasker.contrib.celery.task import Task

__all__ = [
    "App",
    "AsyncResult",
    "GroupResult",
    "Signature",
    "Task",
    "chain",
    "chord",
    "group",
    "shared_task",
    "signature",
]
