"""`tasker batch` without --out: submit the rows, and say which ones were refused."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import UNSET

from tasker.cli.batch.rows import UNREADABLE, Row, Shape
from tasker.cli.batch.source import Source
from tasker.cli.exits import Exit
from tasker.cli.faults import explain
from tasker.cli.terminal import note, show
from tasker.client import ClientError, Tasker
from tasker.wire.batches import BatchItem

_MOST_SAME = 5
"""Rows with the same fault that are named; --json names all."""
_MOST_FAULTS = 1000
"""Different faults that are counted."""


def submit_file(
    client: Tasker, source: Source, shape: Shape, *, key: str | None, dry_run: bool, quiet: bool, as_json: bool
) -> int:
    """Submit the rows, print what becomes of them, and return the exit code.

    key: the same one again gives the same tasks. dry_run: only check them.
    """
    key = key or str(uuid4())
    report = _Report(quiet=quiet, as_json=as_json, verb="valid" if dry_run else "accepted")
    sending = _Sending(source.rows(shape), report)
    try:
        for item in client.batch(sending.submissions(), idempotency_key=key, validate=dry_run):
            sending.answer(item)
    except ClientError as error:
        code = explain(error)
        note(f"{report.summary()} so far. Send all again without making tasks twice: --key {key}")
        return code
    sending.end()
    report.end()
    return Exit.TASK_FAILED if report.refused else Exit.OK


class _Sending:
    """The rows that are sent and not answered; those that cannot be read are reported in their order."""

    def __init__(self, rows: Iterator[Row], report: _Report) -> None:
        self._rows = rows
        self._report = report
        self._sent: deque[Row] = deque()

    def submissions(self) -> Iterator[dict[str, object]]:
        for row in self._rows:
            self._sent.append(row)
            if row.submission is not None:
                yield row.submission

    def answer(self, item: BatchItem) -> None:
        """Report the next row that was sent."""
        self.end()
        self._report.answer(self._sent.popleft().line, item)

    def end(self) -> None:
        """Report the rows that could not be sent, up to the next one that was."""
        while self._sent and self._sent[0].submission is None:
            row = self._sent.popleft()
            self._report.refuse(row.line, {"title": UNREADABLE, "detail": row.fault})


class _Report:
    """Prints what became of each row, and the sum. verb: what rows are that were not refused."""

    def __init__(self, *, quiet: bool, as_json: bool, verb: str) -> None:
        self._quiet = quiet
        self._as_json = as_json
        self._verb = verb
        self.accepted = 0
        self.refused = 0
        self._said: Counter[str] = Counter()

    def answer(self, line: int, item: BatchItem) -> None:
        if item.problem is not UNSET:
            self.refuse(line, msgspec.to_builtins(item.problem))
            return
        self.accepted += 1
        if self._as_json:
            told = {"line": line, "status": self._verb} | (
                {} if item.task_id is UNSET else {"task_id": str(item.task_id)}
            )
            show(msgspec.json.encode(told).decode())
        elif self._quiet and item.task_id is not UNSET:
            show(str(item.task_id))

    def refuse(self, line: int, problem: dict[str, Any]) -> None:
        self.refused += 1
        if self._as_json:
            show(msgspec.json.encode({"line": line, "status": "refused", "error": problem}).decode())
            return
        faults = problem.get("errors", ())
        for fault in faults:
            self._say(line, f"{fault['pointer'] or 'params'}: {fault['detail']}")
        if not faults:
            self._say(line, ": ".join(problem[name] for name in ("title", "detail") if problem.get(name)))

    def _say(self, line: int, fault: str) -> None:
        """Show a fault of a row, unless several rows before it had the same; `end` counts those."""
        if fault in self._said or len(self._said) < _MOST_FAULTS:
            self._said[fault] += 1
        if self._said[fault] <= _MOST_SAME:
            note(f"line {line}: {fault}")

    def summary(self) -> str:
        return f"{self.accepted:,} {self._verb}, {self.refused:,} refused"

    def end(self) -> None:
        for fault, count in self._said.items():
            if count > _MOST_SAME:
                note(f"{count - _MOST_SAME:,} more: {fault}")
        if not (self._quiet or self._as_json):
            show(self.summary())
