"""Commands whose flags are those of a task type: `tasker run` and `tasker replay`.

After the type (or the task), a flag that names a param of the type is that param, also `--url` and `--queue`; the
command's own options always work before it, and after it where the type has no such param. So the type has to be known
before the words are parsed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasker.cli.exits import Exit
from tasker.cli.flags import Flags, has_options, split, split_at_type
from tasker.cli.given import NOTHING_GIVEN, Given
from tasker.cli.params import UsageError
from tasker.cli.taskids import find_task_id

if TYPE_CHECKING:
    from cyclopts import App

_HELP = ("--help", "-h")


def dispatch(app: App, words: Sequence[str]) -> int:
    """Run a command that takes a type's params as flags. Raises CycloptsError (already printed), TaskerError."""
    from tasker.cli.faults import explain
    from tasker.client import Unreachable

    command, *rest = words
    given = NOTHING_GIVEN
    if has_options(rest):
        options = _options_of(app, command)
        before, after = split_at_type(rest, options)
        if after and has_options(after[1:]):
            try:
                task_type = _find_type(command, after[0], before, after[1:])
            except Unreachable as error:
                if not any(word in _HELP for word in _before_end(after[1:])):
                    raise
                app.help_print([command])
                return explain(error)
            flags = None if task_type is None else Flags(task_type)
            if task_type is not None and flags is not None and _asks_for_help(after[1:], flags):
                return _print_help(app, command, task_type)
            given = Given(task_type, split(after[1:], flags, options | dict.fromkeys(_HELP, False)), is_asked=True)
            rest = [*before, *given.split.own, "--", after[0], *given.split.words]
    function, bound, ignored = app.parse_args([command, *rest], exit_on_error=False)
    more = {"given": given} if "given" in ignored else {}
    return int(function(*bound.args, **bound.kwargs, **more) or 0)


def _options_of(app: App, command: str) -> dict[str, bool]:
    """Return the options of a command, and whether each takes a value."""
    arguments = app[command].assemble_argument_collection()
    names = ((name, not argument.is_flag()) for argument in arguments for name in argument.names)
    return {name: takes_value for name, takes_value in names if name.startswith("-")}


def _asks_for_help(words: Sequence[str], flags: Flags) -> bool:
    return any(word in _HELP for word in _before_end(words)) and flags.find("help") is None


def _before_end(words: Sequence[str]) -> Sequence[str]:
    return words[: words.index("--")] if "--" in words else words


def _value_of(option: str, words: Sequence[str]) -> str | None:
    """Return the value of an option among words, None if it is not given."""
    for index, word in enumerate(_before_end(words)):
        if word == option and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _find_type(command: str, name: str, before: Sequence[str], after: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the task type; None if the key may not read it, or if there is no such task. Raises as `_ask`.

    A `--url` after the type is a param if the service that is named otherwise has one of this name for the type, and
    else the address of the service.
    """
    from tasker.cli.terminal import note
    from tasker.client import ClientError, Unreachable

    url, profile = _value_of("--url", before), _value_of("--profile", before)
    late = None if url or profile else _value_of("--url", after)
    if late is None:
        return _ask(command, name, url, profile or _value_of("--profile", after))
    found, refusal = None, ""
    try:
        found = _ask(command, name, None, None, retries=0)
    except (Unreachable, UsageError) as error:
        refusal = str(error)
    if found is not None and Flags(found).find("url") is not None:
        return found
    if found is None:
        _check_address(name, late)
    try:
        return _ask(command, name, late, None)
    except ClientError:
        if refusal:
            note(f"--url is taken for the service, because {refusal}. Before the type it always is the service.")
        raise


def _ask(command: str, name: str, url: str | None, profile: str | None, retries: int = 2) -> Mapping[str, Any] | None:
    """Return a task type, or that of a task; None if the key may not read it. Raises UsageError, ClientError."""
    from tasker.cli.service import connect
    from tasker.client import NotAllowed, NotFound

    with connect(url, profile) as client:
        try:
            return client.with_options(retries=retries).find_type(
                name if command == "run" else client.get(find_task_id(client, name)).type
            )
        except NotAllowed:
            return None
        except NotFound as error:
            where = "types" if command == "run" else "ls"
            raise UsageError(f"{error.detail.partition(';')[0]}; `tasker {where}` lists them") from None


def _check_address(name: str, address: str) -> None:
    """Refuse an address that may be meant for the task, where a token would be sent to it. Raises UsageError."""
    from tasker.cli.targets import find_target

    if find_target(address).token is not None and not _is_here(urlsplit(address).hostname or ""):
        raise UsageError(
            f"--url: is it a param of {name}, or the service? No service tells. Before the type it is the service: "
            f"tasker run --url {address} {name} ..."
        )


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _print_help(app: App, command: str, task_type: Mapping[str, Any]) -> int:
    """Print the help of a task type, and the options of the command."""
    from shutil import get_terminal_size

    from tasker.cli.terminal import show
    from tasker.cli.typehelp import describe_type

    show(describe_type(task_type, get_terminal_size().columns))
    show(f"\nOptions of tasker {command}; where the type has a param of the same name, give them before the type:")
    own = app[command]
    own.help, own.usage = "", ""
    app.help_print([command])
    return Exit.OK
