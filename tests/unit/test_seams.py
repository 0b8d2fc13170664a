"""Single points that no code may bypass: where drafts are made, and where tasks are shown."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import tasker

SOURCE = Path(tasker.__file__).parent


@cache
def calls() -> list[tuple[str, ast.Call]]:
    """Return every call in the source by the file that it stands in."""
    return [
        (str(path.relative_to(SOURCE)), node)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]


def callers(name: str) -> set[str]:
    return {file for file, call in calls() if getattr(call.func, "id", getattr(call.func, "attr", None)) == name}


def test_drafts_are_made_only_where_rights_are_checked() -> None:
    """The engines read them back, for replays, and tests make their own."""
    reading = {"engines/sqlite/rows.py", "engines/postgres/control.py"}
    assert callers("Draft") == {"service/drafts.py", "testing/drafts.py"} | reading
    tree = ast.parse((SOURCE / "service/drafts.py").read_text())
    [maker] = [
        function for function in tree.body
        if isinstance(function, ast.FunctionDef)
        and any(isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Draft" for node in ast.walk(function))
    ]  # fmt: skip
    first = next(
        one for one in maker.body if not isinstance(one.value if isinstance(one, ast.Expr) else None, ast.Constant)
    )
    assert ast.unparse(first) == "check_submission(caller, submission, task_id)"


def test_submissions_are_read_by_the_service_alone() -> None:
    """Every interface passes the body on, so that all accept the same."""
    for name in ("OpenedSubmission", "OpenedReplay", "OpenedSchedule", "Reading"):
        assert callers(name) <= {"service/reading.py", "service/service.py", "requests/submissions.py"}, name
    assert callers("read_submission") == {"requests/schedules.py"}


def test_on_conflict_is_set_in_two_places_only() -> None:
    changed = [
        (file, ast.unparse(word.value))
        for file, call in calls()
        for word in call.keywords
        if word.arg == "on_conflict" and not file.startswith(("client/", "cli/"))
    ]
    assert sorted(changed) == [
        ("service/drafts.py", "submission.on_conflict"),
        ("service/submitting.py", "'reject' if draft.on_conflict == 'return' else draft.on_conflict"),
    ]


def test_whole_tasks_are_shown_to_readers_alone() -> None:
    """Every other reply about a task is made by `show_task`, which checks the caller's scope."""
    assert callers("encode_task") == {"api/receipts.py", "api/events.py", "wiring/parts.py"}
    assert callers("encode_usual") == {"api/tasks.py"}
