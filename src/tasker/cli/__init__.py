"""The command `tasker`: parse, call, print. Commands are imported when they are used.

Data goes to standard output, all else to standard error. Exit codes are those of `cli.exits`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tasker.cli.exits import Exit
from tasker.cli.streams import OutputError, ReaderGone, drop_output, guard_streams

if TYPE_CHECKING:
    from cyclopts import App

_EXIT_CODES = (
    "Exit codes: 0 ok, 1 the task failed, 2 usage or settings, 3 not found, 4 not allowed, 5 no answer from the "
    "service or database, or a full disk, 6 conflict, 7 the output could not be written, 70 the service did not end by "
    "itself, 75 the service is stopping and runs the task after its restart, 124 waiting took too long, "
    "130 interrupted, 141 the reader of the output has gone."
)
_TYPED = {"run", "replay"}
"""Commands that take the params of a task type as flags."""
_WIDTH = 100
"""Columns of the help."""
_COMMANDS = (
    ("run", "tasker.cli.run:run", "Submit a task, wait for it and print its result."),
    ("ls", "tasker.cli.tasks:ls", "List tasks, newest first."),
    ("get", "tasker.cli.tasks:get", "Show one task."),
    ("logs", "tasker.cli.events:logs", "Show what a task has logged."),
    ("output", "tasker.cli.events:output_", "Print the text that a task puts out."),
    ("events", "tasker.cli.events:events", "Show what happened to a task, or to all."),
    ("input", "tasker.cli.answers:input_", "Answer a question of a task, or show it."),
    ("cancel", "tasker.cli.control:cancel", "Cancel tasks."),
    ("retry", "tasker.cli.control:retry", "Run failed or cancelled tasks again."),
    ("replay", "tasker.cli.replay:replay", "Submit a task once more, as it was or edited."),
    ("rm", "tasker.cli.control:rm", "Erase tasks that have ended."),
    ("batch", "tasker.cli.batch.command:batch", "Submit a task for each row of a file, and gather the results."),
    ("bulk", "tasker.cli.bulk:app", "Cancel, retry or erase all tasks of a filter."),
    ("group", "tasker.cli.groups:app", "Show, await and cancel groups of tasks."),
    ("types", "tasker.cli.types:types", "List what can be submitted."),
    ("type", "tasker.cli.types:app", "Show a task type: its params, its defaults, an example."),
    ("queue", "tasker.cli.queues:app", "Pause, resume and limit queues."),
    ("schedule", "tasker.cli.schedules:app", "Submit tasks by the clock."),
    ("webhook", "tasker.cli.webhooks:app", "Send events to receivers."),
    ("usage", "tasker.cli.usage:usage", "Show what tasks used up: tokens, cost, run time, counts."),
    ("stats", "tasker.cli.stats:stats", "Show what happened lately, how fast, and what is open."),
    ("failure", "tasker.cli.failures:app", "Show what fails, and how often."),
    ("question", "tasker.cli.questions:app", "Show what tasks ask."),
    ("audit", "tasker.cli.audit:app", "Show who did what."),
    ("profile", "tasker.cli.profiles:app", "Name the services that you use."),
    ("key", "tasker.cli.keys:app", "Make, list and revoke API keys."),
    ("completion", "tasker.cli.completion:completion", "Print a script that completes words at TAB."),
    ("serve", "tasker.cli.serve:serve", "Run the service."),
    ("dev", "tasker.cli.dev:dev", "Run the service, and load your code again when it changes."),
    (
        "worker",
        "tasker.cli.worker:worker",
        "Run tasks without an API, next to other processes; `worker ls` lists them.",
    ),
    ("doctor", "tasker.cli.doctor.command:doctor", "Say what is wrong here, and what to do."),
    ("config", "tasker.cli.config:app", "Show the settings, and where each comes from."),
    ("model", "tasker.cli.model:app", "The local language model: install it, or show whether it is."),
    ("migrate", "tasker.cli.migrate:migrate", "Bring the database up to date."),
    ("export", "tasker.cli.archive:export", "Write everything stored as JSON Lines."),
    ("import", "tasker.cli.archive:import_", "Store what `tasker export` wrote, and verify it."),
    ("backup", "tasker.cli.backup:backup", "Write a backup while the service runs (SQLite)."),
    ("restore", "tasker.cli.backup:restore", "Put a backup into a new data folder."),
    ("healthcheck", "tasker.cli.health:healthcheck", "Ask the service whether it is ready."),
    ("version", "tasker.cli.version:version", "Print the version and the build."),
)
_HEADINGS = {
    "run": "Tasks",
    "batch": "Many tasks",
    "types": "Types, queues, schedules",
    "usage": "Watch",
    "profile": "Set up",
    "serve": "Run the service",
}
"""What stands above a command in the help."""
_WORKERS = "tasker.cli.workers:app"
"""The command instead of `worker` for `tasker worker ls`; other words are the files of a worker."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if argv is None:
        guard_streams()
    try:
        code = _dispatch(_decode(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except ReaderGone:
        drop_output()
        return Exit.READER_GONE
    except OutputError as error:
        drop_output()
        print(f"tasker: {error}", file=sys.stderr)
        return Exit.OUTPUT
    except ArgumentError as error:
        print(f"tasker: {error}", file=sys.stderr)
        return Exit.USAGE
    return code


class ArgumentError(Exception):
    """An argument or an environment variable is not text."""


def _decode(arguments: Sequence[str]) -> list[str]:
    """Return the arguments decoded as UTF-8, whatever the locale. Raises ArgumentError."""
    for name, value in os.environ.items():
        if name.startswith(("TASKER_", "OPENAI_")) and not _is_text(os.fsencode(value)):
            raise ArgumentError(f"{name}: expected text in UTF-8, got {len(value)} characters of another encoding")
    decoded = list(arguments)
    for index, word in enumerate(decoded):
        if not word.isascii() and any("\udc80" <= character <= "\udcff" for character in word):  # undecodable bytes
            data = os.fsencode(word)
            if not _is_text(data):
                raise ArgumentError(f"argument {index + 1}: expected text in UTF-8, got {data!r}")
            decoded[index] = data.decode()
    return decoded


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["--no-color"]:
        os.environ["NO_COLOR"] = "1"
        arguments = arguments[1:]
    quick = _find_quick(arguments)
    if quick is not None:
        return quick()
    from cyclopts import CycloptsError

    from tasker.errors import TaskerError

    if arguments[0] == "__complete":
        from tasker.cli.completing import complete

        return complete(build, _COMMANDS)
    try:
        if arguments[:1] == ["help"]:
            arguments = [*arguments[1:], "--help"]
        words = ["@-" if word == "-" else word for word in arguments]  # a lone dash is not an option
        if words[0] in _TYPED:
            from tasker.cli.typed import dispatch

            return dispatch(build(arguments), words)
        return int(build(arguments)(words, exit_on_error=False, result_action="return_value") or 0)
    except CycloptsError as error:  # already printed
        print(f"More: {' '.join(['tasker', *(error.command_chain or ())])} --help", file=sys.stderr)
        return Exit.USAGE
    except TaskerError as error:
        from tasker.cli.faults import explain

        return explain(error)


def _find_quick(arguments: list[str]) -> Callable[[], int] | None:
    """Return a command that needs no parser, which takes 200 ms: a health check runs every few seconds."""
    match arguments:
        case [] | ["help" | "--help" | "-h"]:
            return _help
        case ["version" | "--version"]:
            from tasker.cli.version import version

            return version
        case ["healthcheck"]:
            from tasker.cli.health import healthcheck

            return healthcheck
    return None


def _help() -> int:
    """Print what there is, in the order of use."""
    from textwrap import fill

    width = max(len(name) for name, *_ in _COMMANDS)
    print("Usage: tasker [--no-color] COMMAND\n\nSubmit tasks, and run the service that keeps and runs them.")
    for name, _, help in _COMMANDS:
        if name in _HEADINGS:
            print(f"\n{_HEADINGS[name]}:")
        print(f"  {name:<{width}}  {help}")
    print("\nMore on one: tasker COMMAND --help; all of them: docs/cli.md\n")
    print(fill(_EXIT_CODES, _WIDTH))
    return Exit.OK


def build(arguments: Sequence[str] = (), **options: Any) -> App:
    """Return the parser. Only the command that `arguments` name is imported, for its own longer help."""
    from cyclopts import App

    app = App(
        name="tasker",
        version_flags=(),
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
        **options,
    )
    for name, path, help in _COMMANDS:
        is_list = name == "worker" and list(arguments[1:2]) == ["ls"]
        app.command(_WORKERS if is_list else path, name=name, **({} if name in arguments[:1] else {"help": help}))
    return app
