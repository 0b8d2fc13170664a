"""The command: run all checks, print a line for each finding."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from tasker.cli.doctor.findings import Finding, ok, problem
from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_OUTPUT, Output
from tasker.cli.terminal import paint, printable
from tasker.errors import ConfigError, TaskerError

if TYPE_CHECKING:
    from tasker.config.settings import Settings

_COLOURS = {"ok": "32", "warning": "33", "problem": "31"}


def doctor(*targets: str, output: Output = DEFAULT_OUTPUT) -> int:
    """Check the settings, the store, the disk, the clock, the model, the service and your task files.

    A line for each: ok, a warning, or a problem with what to do about it. The exit code is 1 if there is a problem. It
    changes nothing, and may be used beside a running service. No secret is printed.

    Parameters
    ----------
    targets
        Where your own task functions are; else TASKER_TASKS.
    """
    findings: list[Finding] = []
    for finding in _find_all(targets, output):
        findings.append(finding)
        if not output.json:
            _print(finding)
    if output.json:
        from tasker.cli.service import to_json
        from tasker.cli.terminal import show

        show(to_json(findings))
    return Exit.TASK_FAILED if any(finding.state == "problem" for finding in findings) else Exit.OK


def _find_all(targets: Sequence[str], output: Output) -> Iterator[Finding]:
    from tasker.cli.doctor import machine, service, store
    from tasker.logs.setup import configure_logs

    configure_logs("error")  # what task files print and log is no finding
    settings = yield from _check_settings(targets)
    if settings is not None:
        checks: list[Callable[[Settings], Iterator[Finding]]] = [
            store.check_store,
            machine.check_disk,
            machine.check_clock,
            machine.check_model,
            machine.check_tasks,
            machine.check_children,
        ]
        for check in checks:
            yield from _guarded(check.__name__.removeprefix("check_"), check(settings))
    yield from _guarded("service", service.check_service(output, settings))


def _check_settings(targets: Sequence[str]) -> Generator[Finding, None, Settings | None]:
    """Yield what is wrong with the settings; return them, or None."""
    from tasker.cli.serve import with_targets
    from tasker.config.loading import find_given, load_settings

    try:
        settings = load_settings(**with_targets({}, targets))
        given = find_given()
    except ConfigError as error:
        lines = str(error).split("\n")
        for line in lines[1:] or lines:
            yield problem("settings", line.strip(), "`tasker config show --origin` shows where each value comes from")
        return None
    count = f"{len(given)} given, the rest have their defaults"
    yield ok("settings", count if given else "all have their defaults")
    return settings


def _guarded(name: str, checking: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings; an error that a check did not expect is one, too."""
    try:
        yield from checking
    except (TaskerError, OSError) as error:
        yield problem(name, str(error), "see the message")


def _print(finding: Finding) -> None:
    state = paint(f"{finding.state:<8}", _COLOURS[finding.state], sys.stdout)
    print(f"{state} {finding.name}: {printable(finding.detail)}")
    if finding.advice is not None:
        print(f"         -> {printable(finding.advice)}", flush=True)
