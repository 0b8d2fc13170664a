"""What becomes of submissions from the inbox that cannot run: the errors of their tasks. Pure."""

from __future__ import annotations

from uuid import UUID

from tasker.errors import RequestError
from tasker.model import TaskProblem
from tasker.rules.lifecycle import problem

_LONGEST = 4_000
"""Characters of an error's detail at most."""


def refused(error: RequestError) -> TaskProblem:
    """Return the error of a task whose submission was refused, with every fault of it."""
    faults = [f"{fault.pointer or 'the body'}: {fault.detail}" for fault in error.faults]
    detail = error.detail if not faults else "; ".join(faults)
    return problem(error.kind.name, f"the submission is refused: {detail}"[:_LONGEST])


def answered(task_id: UUID) -> TaskProblem:
    """Return the error of a cancelled task in whose place an earlier one runs or has run."""
    return problem(
        "not-unique", f"task {task_id} answers for this one: it was there before, by its unique_key or cache"
    )
