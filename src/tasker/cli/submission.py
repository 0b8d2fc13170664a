"""The options of a submission on a command line, for `tasker run` and `tasker replay`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from tasker.client import SubmitOptions

_FLAGS = {"timeout": "--attempt-timeout", "tags": "--tag", "concurrency_key": "--concurrency-key"}
"""Options of the API whose flag has another name."""
_Several = Parameter(negative="", show_default=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Submission:
    """How to submit a task."""

    queue: Annotated[str | None, Parameter(help="The queue to wait in.")] = None
    priority: Annotated[int | None, Parameter(help="From -100 to 100; larger is sooner.")] = None
    delay: Annotated[str | None, Parameter(help="Wait before the start: seconds, 90s, 5m, 2h, 1d, PT5M.")] = None
    run_at: Annotated[
        str | None, Parameter(help="Not before this time: 2026-12-01T08:00 (of this machine), or 2h from now.")
    ] = None
    attempt_timeout: Annotated[
        str | None, Parameter(help="Longest time for one attempt. (--timeout only ends the waiting.)")
    ] = None
    retry: Annotated[
        str | None, Parameter(help='Attempts in all; or JSON: {"max_attempts": 5, "initial": 1, "factor": 2}.')
    ] = None
    deadline: Annotated[str | None, Parameter(help="No attempt starts after this time; or 2h from now.")] = None
    unique_key: Annotated[str | None, Parameter(help="At most one open task of the type has this key.")] = None
    on_conflict: Annotated[
        Literal["return", "reject", "replace"] | None,
        Parameter(help="What happens if an open task has the unique key."),
    ] = None
    depends_on: Annotated[
        tuple[str, ...], _Several, Parameter(help="Start once this task has completed, or group=NAME; may be repeated.")
    ] = ()
    group: Annotated[str | None, Parameter(help="The group of the task: tasker group show NAME.")] = None
    cache: Annotated[str | None, Parameter(help="Equal requests share a run, and its result for so long.")] = None
    webhook: Annotated[str | None, Parameter(help="A URL that its events are sent to; or JSON with url, events...")] = (
        None
    )
    retention: Annotated[str | None, Parameter(help="How long it is kept after its end; or forever.")] = None
    tag: Annotated[tuple[str, ...], _Several, Parameter(help="A tag of the task; may be repeated.")] = ()
    metadata: Annotated[
        tuple[str, ...], _Several, Parameter(help="Your own notes: name=text, name:=JSON; may be repeated.")
    ] = ()
    concurrency_key: Annotated[str | None, Parameter(help="For the limits of its queue.")] = None
    weight: Annotated[int | None, Parameter(help="What its start costs of its queue's rate.")] = None
    key: Annotated[str | None, Parameter(help="Idempotency key: the same key submits the same task only once.")] = None

    def read(self) -> SubmitOptions:
        """Return the options as the client takes them. Raises UsageError."""
        from tasker.cli.params import UsageError, read_params, read_value
        from tasker.cli.times import read_duration, read_moment
        from tasker.client import SubmitOptions

        now = datetime.now(UTC)
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise UsageError(f"--key: expected visible ASCII characters, got {self.key!r}")
        metadata: Any = read_params(self.metadata) if self.metadata else None
        if isinstance(metadata, list) and not isinstance(metadata := metadata[0], dict):
            raise UsageError(f"--metadata: expected name=text, name:=JSON or a JSON object, got {metadata!r}")
        return SubmitOptions(
            queue=self.queue,
            priority=self.priority,
            delay=read_duration(self.delay),
            run_at=read_moment("--run-at", self.run_at, now, ahead=True),
            timeout=read_duration(self.attempt_timeout),
            retry=None if self.retry is None else read_value([self.retry], {}),
            tags=self.tag or None,
            metadata=metadata,
            deadline=read_moment("--deadline", self.deadline, now, ahead=True),
            unique_key=self.unique_key,
            on_conflict=self.on_conflict,
            depends_on=_read_depends_on(self.depends_on),
            group=self.group,
            cache=read_duration(self.cache),
            retention=read_duration(self.retention),
            webhook=_read_webhook(self.webhook),
            concurrency_key=self.concurrency_key,
            weight=self.weight,
            idempotency_key=self.key,
        )


NO_OPTIONS = Submission()


def flag_of(option: str) -> str:
    """Return the flag for an option of the API."""
    return _FLAGS.get(option, "--" + option.replace("_", "-"))


def _read_depends_on(words: tuple[str, ...]) -> Any:
    """Return the ids of tasks, or the group, that `--depends-on` names."""
    from tasker.cli.params import read_params

    if len(words) == 1 and (words[0].startswith("group=") or words[0].startswith("{")):
        found = read_params(words)
        return found if isinstance(found, dict) else found[0]
    return list(words) or None


def _read_webhook(text: str | None) -> Any:
    from tasker.cli.params import read_params

    if text is None:
        return None
    return read_params([text])[0] if text.startswith("{") else {"url": text}  # type: ignore[index]
