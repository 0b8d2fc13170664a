"""`tasker run`: submit a task, follow it, print its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DEFAULT_SERVICE, Json, Service, Timeout

if TYPE_CHECKING:
    from tasker.client import SubmitOptions


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """How to submit the task."""

    queue: Annotated[str | None, Parameter(help="The queue to wait in.")] = None
    priority: Annotated[int | None, Parameter(help="From -100 to 100; larger is sooner.")] = None
    delay: Annotated[float | None, Parameter(help="Seconds to wait before the start.")] = None
    tag: Annotated[
        tuple[str, ...], Parameter(negative="", show_default=False, help="A tag of the task; may be repeated.")
    ] = ()
    group: Annotated[str | None, Parameter(help="The group of the task: tasker group show NAME.")] = None
    key: Annotated[str | None, Parameter(help="Idempotency key: the same key submits the same task only once.")] = None

    def read(self) -> SubmitOptions:
        """Return the options as the client takes them. Raises UsageError."""
        from tasker.cli.params import UsageError
        from tasker.client import SubmitOptions

        key = self.key
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UsageError(f"--key: expected visible ASCII characters, got {key!r}")
        return SubmitOptions(
            queue=self.queue,
            priority=self.priority,
            delay=self.delay,
            tags=self.tag or None,
            group=self.group,
            idempotency_key=key,
        )


DEFAULT = Options()


def run(
    type: str,
    /,
    *params: str,
    detach: Annotated[bool, Parameter(alias="-d", negative="", show_default=False)] = False,
    timeout: Timeout = None,
    json: Json = False,
    options: Options = DEFAULT,
    service: Service = DEFAULT_SERVICE,
) -> int:
    """Submit a task, wait for it and print its result.

    Params by position are JSON values or else strings: tasker run sum 4 2, tasker run reverse "Hello".
    Params by name are key=value, read as the type says, or key:=json: tasker run gpt prompt="Hello" max_tokens=40.
    @file and - (standard input) stand for what they hold; alone and with a JSON array or object, for all params.
    After -- every word is a param, also one that begins with a dash.
    Ctrl-C stops the waiting, never the task. While the service is stopping it stores the task and runs it after the
    restart: the command says so, and ends with exit code 75.

    Parameters
    ----------
    type
        A task type of the service.
    params
        What the task is given.
    detach
        Do not wait: print the task's id.
    """
    from tasker.cli.faults import explain
    from tasker.cli.service import follow, read_params_of
    from tasker.cli.streams import OutputError, ReaderGone
    from tasker.cli.terminal import note, show
    from tasker.client import AwaitsRestart

    submit_options = options.read()
    with service.connect() as client:
        handle = client.submit_params(type, read_params_of(client, type, params), options=submit_options)
        try:
            if detach:
                show(str(handle.task_id))
                return Exit.OK
            if handle.awaits_restart:
                return explain(AwaitsRestart(handle.task_id))
            return follow(client, handle.task_id, timeout, as_json=json)
        except OutputError as error:
            if not isinstance(error, ReaderGone):
                note(f"The task is kept: tasker get {handle.task_id} --wait")
            raise
