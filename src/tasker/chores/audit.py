"""Erase old audit entries."""

from __future__ import annotations

from datetime import timedelta

from tasker.chores.loop import Chore
from tasker.service.audit import Audit


def audit_chores(audit: Audit) -> list[Chore]:
    return [Chore("audit", timedelta(minutes=10), audit.prune)]
