"""Run a stored task here, under the debugger: `tasker replay TASK --pdb`. Nothing changes on the service."""

from __future__ import annotations

import contextlib
import pdb
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from getpass import getpass
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from tasker.cli.exits import Exit
from tasker.cli.params import UsageError
from tasker.cli.terminal import note, printable, show
from tasker.errors import RequestError
from tasker.model import Progress
from tasker.model.steps import Step
from tasker.rules.secrets import MASK, find_masks
from tasker.tasktypes.registry import Registry, TaskType, load
from tasker.tasktypes.steps import (
    AnyAnswer,
    AnyRequest,
    Ask,
    Await,
    CloseQuestion,
    Refused,
    Sleep,
    StepEvent,
    Steps,
    StoreStep,
)

if TYPE_CHECKING:
    from tasker.client import Tasker
    from tasker.wire.steps import Step as ShownStep
    from tasker.wire.tasks import Task

_MAX_VALUE = 64 << 20
"""Bytes of a step's result."""


def replay_here(client: Tasker, task_id: UUID, targets: Sequence[str]) -> int:
    """Run a task's function here with its stored params; open the debugger where it raises. Return the exit code.

    targets: where the function is (files, folders, modules); without any, TASKER_TASKS. Steps that are stored are not
    run again; new ones are run, and stored nowhere. Raises UsageError, ClientError, ConfigError.
    """
    task = client.get(task_id)
    task_type = _find_type(task.type, targets)
    params = _with_secrets(task, task_type)
    try:
        args, kwargs = task_type.bind(params)
    except RequestError as error:
        raise UsageError(f"the stored params no longer fit the code: {error}") from error
    port = LocalPort(_stored(client.steps(task_id)))
    if task_type.context_parameter is not None:
        kwargs[task_type.context_parameter] = _make_context(task_type, task, port)
    note(f"{task.type} of {task_id} runs here, as it was submitted; the service keeps what it has.")
    return _run(task_type, args, kwargs)


def _find_type(name: str, targets: Sequence[str]) -> TaskType:
    registry = _load(targets)
    for fault in registry.faults:
        note(f"not loaded: {fault.detail}")
    found = registry.find(name)
    if found is None:
        where = ", ".join(targets) or "TASKER_TASKS"
        raise UsageError(f"{name!r} is not in {where}: name the file of its function by --tasks")
    return found


def _load(targets: Sequence[str]) -> Registry:
    """Return the built-in types and the user's own. Raises NoSuchTarget, ConfigError."""
    from tasker.builtin import builtin_registry
    from tasker.config.loading import load_settings

    settings = load_settings()
    registry = builtin_registry(settings.gpt)
    with contextlib.redirect_stdout(sys.stderr):
        load(registry, targets or settings.tasks)
    return registry


def _with_secrets(task: Task, task_type: TaskType) -> bytes:
    """Return the params as JSON text; ask for those that the service does not show. Raises UsageError."""
    params: Any = msgspec.json.decode(msgspec.json.encode(task.params))
    masked = [] if task_type.secrets is None else find_masks(params, task_type.secrets)
    if masked and not sys.stdin.isatty():
        names = ", ".join(map(str, masked))
        raise UsageError(f"the secret params ({names}) are not shown by the service: run it on a terminal to type them")
    for place in masked:
        params[place] = _read_secret(place)
    return msgspec.json.encode(params)


def _read_secret(place: int | str) -> object:
    text = getpass(f"{place}, which is secret ({MASK}): ")
    try:
        return msgspec.json.decode(text) if text[:1] in ("{", "[") else text
    except msgspec.DecodeError:
        return text


def _make_context(task_type: TaskType, task: Task, port: LocalPort) -> Any:
    from tasker.tasktypes.context import Context
    from tasker.tasktypes.sync_context import SyncContext

    start = (task.task_id, max(task.attempt, 1), Printer(), lambda: False)
    return Context(*start, AwaitedPort(port)) if task_type.is_awaited else SyncContext(*start, port)


def _run(task_type: TaskType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    try:
        result = task_type.encode_result(_call(task_type.function, args, kwargs))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's function raises, SystemExit included
        _examine(error)
        return Exit.TASK_FAILED
    note("It succeeds here. Its result:")
    show(result.decode())
    return Exit.OK


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function in this thread; run what it returns to its end, if that is awaitable."""
    import asyncio

    value = function(*args, **kwargs)
    if not hasattr(type(value), "__await__"):
        return value

    async def main() -> Any:
        return await value

    return asyncio.run(main())


def _examine(error: BaseException) -> None:
    """Show the traceback, and open the debugger at its end; without a terminal only show it."""
    import traceback

    frames = _own_frames(error)
    note("".join(traceback.format_exception(type(error), error, frames)).rstrip())
    if frames is None:
        return
    if not sys.stdin.isatty():
        note("The debugger needs a terminal; there is none.")
        return
    note("The debugger is where it was raised: p NAME shows a variable, u and d go up and down, q ends.")
    pdb.post_mortem(frames)


def _own_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback without the frames above the task's function."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith((__name__, "asyncio")):
        frames = frames.tb_next
    return frames or error.__traceback__


def _stored(steps: Sequence[ShownStep]) -> list[Step]:
    """Return the stored steps that can be used here; say which cannot."""
    found = []
    for step in steps:
        if step.kind == "children":
            note(f"step {step.key}: it has started children, which cannot be had here")
        elif step.value_preview is not None:
            note(f"step {step.key}: its value is too long to be fetched: it runs again")
        elif step.finished_at is not None:
            found.append(_step(step.key, step.name, step.kind, msgspec.json.encode(step.value), step.number))
    return found


def _step(key: str, name: str, kind: str, value: bytes | None, number: int = 0) -> Step:
    now = datetime.now(UTC)
    return Step(
        key=key,
        name=name,
        kind=kind,  # type: ignore[arg-type]
        started_at=now,
        finished_at=now,
        value=value,
        number=number,
        attempt=1,
    )


class LocalPort:
    """A SyncPort that keeps steps in memory: sleeps are over at once, and questions are asked on the terminal."""

    def __init__(self, stored: Sequence[Step]) -> None:
        self.stored = stored
        self.max_value = _MAX_VALUE

    def ask(self, request: AnyRequest) -> AnyAnswer:
        match request:
            case StoreStep(key, name, value):
                return Steps((_step(key, name, "step", value),))
            case Sleep(key, name, delay, until):
                note(f"sleep {name!r} ({until if delay is None else delay}) is over at once here")
                return Steps((_step(key, name, "sleep", None),))
            case Ask(key, name, question):
                return _answer(key, name, question)
            case CloseQuestion(key, default):
                return Steps((_step(key, key, "input", default),))
            case Await():
                return Steps(())
            case _:
                return Refused("children-refused", "children are not started from here: the service runs them")

    def wait(self, request: AnyRequest | None, seconds: float | None, until: Callable[[], bool]) -> AnyAnswer | None:
        return None if request is None else self.ask(request)

    def wake(self) -> None:
        """Nobody waits here."""


class AwaitedPort:
    """The same as an AsyncPort."""

    def __init__(self, port: LocalPort) -> None:
        self.stored = port.stored
        self.max_value = port.max_value
        self._port = port

    def ask(self, request: AnyRequest) -> Any:
        import asyncio

        future: asyncio.Future[AnyAnswer] = asyncio.get_running_loop().create_future()
        future.set_result(self._port.ask(request))
        return future


def _answer(key: str, name: str, question: bytes) -> AnyAnswer:
    if not sys.stdin.isatty():
        return Refused("input-timeout", f"nobody can answer {name!r} here: run it on a terminal")
    message = msgspec.json.decode(question).get("message", name)
    print(printable(f"{message}\n{name} (JSON, or text): "), end="", file=sys.stderr, flush=True)
    text = sys.stdin.readline().strip()
    try:
        value = msgspec.json.encode(msgspec.json.decode(text))
    except msgspec.DecodeError:
        value = msgspec.json.encode(text)
    return Steps((_step(key, name, "input", value),))


class Printer:
    """A Reporter that prints."""

    def progress(self, progress: Progress) -> None:
        numbers = f"{progress.fraction:.0%}" if progress.fraction is not None else progress.current
        note(f"progress: {' '.join(str(part) for part in (numbers, progress.message) if part is not None)}")

    def output(self, chunk: str) -> None:
        print(printable(chunk), end="", file=sys.stderr, flush=True)

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        note(" ".join([f"{level}: {message}", *(f"{name}={value}" for name, value in fields.items())]))

    def usage(self, usage: Mapping[str, Any]) -> None:
        note(f"usage: {dict(usage)}")

    def step(self, event: StepEvent, data: Mapping[str, Any]) -> None:
        note(f"{event.replace('_', ' ')}: {data.get('key')}")
