"""Calls about what a service only lists: workers, audit entries, groups of failures, questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasker.client.core.effects import Flow
from tasker.client.core.exchange import Exchange
from tasker.wire.audit import AuditEntry, AuditPage
from tasker.wire.failures import FailureGroup, FailurePage
from tasker.wire.steps import OpenQuestion, QuestionPage
from tasker.wire.workers import Worker, WorkerPage

_MOST = 100
"""Items of one page."""


@dataclass(frozen=True)
class ListCalls:
    """What `Workers`, `Audit`, `Failures` and `Questions` do, and their twins; see there."""

    exchange: Exchange

    def workers(self, limit: int | None) -> Flow[Worker]:
        return self.exchange.read_list("/worker", WorkerPage, limit=limit)

    def audit(self, limit: int | None) -> Flow[AuditEntry]:
        return self.exchange.read_list("/audit", AuditPage, {"limit": page_of(limit)}, limit)

    def failures(self, limit: int | None, **filters: Any) -> Flow[FailureGroup]:
        return self.exchange.read_list("/failure", FailurePage, {**filters, "limit": page_of(limit)}, limit)

    def questions(self, limit: int | None) -> Flow[OpenQuestion]:
        return self.exchange.read_list("/question", QuestionPage, {"limit": page_of(limit)}, limit)


def page_of(limit: int | None) -> int:
    """Return how many items to ask for in one page, for a list of at most `limit`."""
    return _MOST if limit is None else max(min(limit, _MOST), 1)
