"""The settings: one frozen, validated value, made once and passed down.

Constructing `Settings` reads nothing from outside; `config.loading.load_settings` does. Each field is a row of the
table that `describe_settings` returns: flags, README and `.env.example` take its name, default and description. Only
code sets a field without a description.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from tasker.config.kinds import (
    MIN_TOKEN_LENGTH,
    Dollars,
    Duration,
    Expected,
    Host,
    HostNames,
    HttpUrl,
    PostgresUrl,
    Prices,
    QueueNames,
    RetentionTime,
    Size,
    Switch,
    SwitchWithoutFlag,
    Targets,
    Token,
    choice,
    span,
    whole,
)
from tasker.rules.urls import UrlRules

SECRET_VARIABLES = ("TASKER_TOKEN", "TASKER_DATABASE_URL", "TASKER_LISTEN_URL")
"""Tasker's own secrets: child processes do not get them."""


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a server bound to `host`."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _setting(default: Any, description: str) -> Any:
    return Field(default=default, description=description)


def _seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)


class GptSettings(_Frozen):
    """Where the `gpt` task type gets its text from. `timeout` is for one call to the provider."""

    provider: Annotated[Literal["auto", "openai", "local"], *choice("auto, openai or local")] = _setting(
        "auto",
        "Who writes the text: `openai` (billed to your key), `local` (the small model on this machine), or `auto`: "
        "OpenAI if there is a key, else local",
    )
    model: Annotated[str | None, Expected("the name of a model")] = _setting(None, "The model for tasks that name none")
    api_key: Annotated[SecretStr | None, Expected("a key", secret=True)] = _setting(
        None, "The provider's key; without one `gpt` uses the local model"
    )
    base_url: HttpUrl = _setting(None, "A server that speaks OpenAI's protocol, instead of OpenAI's own")
    timeout: Duration = _setting(_seconds(60), "Longest silence of the provider, in seconds")
    threads: Annotated[int | None, *whole(1, 1024)] = _setting(
        None, "Threads of the local model; unset: one less than there are processors"
    )
    prices: Prices = _setting(
        None,
        "Prices of models that the price table lacks, as JSON in US dollars for a million tokens: "
        '`{"my-model": {"input": 0.15, "output": 0.6}}`, `"*"` for any other model',
    )


class Settings(_Frozen):
    """How the service runs. Times are timedeltas, sizes are bytes."""

    host: Host = _setting("127.0.0.1", "Address to listen on; off loopback it needs `TASKER_TOKEN` or `TASKER_AUTH`")
    port: Annotated[int, *whole(0, 65535, "a port from 0 to 65535 (0: any free one)")] = _setting(
        5000, "Port to listen on"
    )
    data_dir: Annotated[Path, Expected("a folder")] = _setting(
        Path("./.tasker"), "Folder that holds the tasks (`tasker.db`)"
    )
    database_url: PostgresUrl = _setting(
        None,
        "Keeps the tasks in this PostgreSQL database, `postgresql://user:password@host/database`, which many "
        "processes can share; unset: in a file of `TASKER_DATA_DIR`, for one process",
    )
    listen_url: PostgresUrl = _setting(
        None,
        "Leads each process's listening connection, and migrations, to the PostgreSQL server itself where "
        "`TASKER_DATABASE_URL` leads to a pooler such as PgBouncer; unset: `TASKER_DATABASE_URL`",
    )
    pool_size: Annotated[int, *whole(3, 1000)] = _setting(
        8,
        "Connections of each process to PostgreSQL, besides the one that listens: two store submissions, one stores"
        " ends of attempts, the rest claim and read; 4 are enough for a worker",
    )
    worker: SwitchWithoutFlag = _setting(
        True, "`off`: `tasker serve` runs no tasks (`--no-worker`); `tasker worker` processes do"
    )
    queues: QueueNames = _setting((), "Queues whose tasks run here, separated by commas; unset: every queue")
    tasks: Targets = _setting((), "Where your own task functions are: files, folders, modules, separated by commas")
    auth: Annotated[Literal["auto", "on", "off"], *choice("auto, on or off")] = _setting(
        "auto",
        "`auto` asks for a key as soon as there is one, `on` always; `off` serves without a key even off loopback",
    )
    token: Token = _setting(None, "An admin's key: `Authorization: Bearer ...`; `tasker key create` makes others")
    allowed_hosts: HostNames = _setting(
        ("localhost", "127.0.0.1", "[::1]"), "Host names under which the service answers, separated by commas"
    )
    slots: Annotated[int, *whole(1, 100_000)] = _setting(100, "How many `async def` tasks run at once")
    processes: Annotated[int, *whole(1, 1024)] = Field(
        default_factory=lambda: max(2, available_cpus()),
        description="How many `def` tasks run at once, each in a process; unset: one for each processor, at least 2",
    )
    timeout: Duration = _setting(
        _seconds(300), "Longest run time of an attempt, in seconds, unless its type has a timeout"
    )
    lease: Duration = _setting(
        _seconds(10),
        "Seconds until an attempt without a heartbeat is taken from its worker: the longest that a task waits "
        "when its worker's machine is lost",
    )
    heartbeat: Duration = _setting(
        _seconds(3),
        "Seconds between heartbeats; at most half of the lease; with the defaults, two may fail",
    )
    drain: Duration = _setting(_seconds(30), "Seconds that running tasks have to end when the service stops")
    cancel_grace: Duration = _setting(_seconds(5), "Seconds from asking a task to stop until it is killed")
    retention: RetentionTime = _setting(
        timedelta(days=30),
        "Seconds that a task is kept after its end, unless it or its type has a retention; `forever`: until `DELETE`",
    )
    max_pending: Annotated[int | None, *whole(1, 10**9, "a whole number from 1")] = _setting(
        None, "Tasks that may be pending; more are answered 503 `queue-full`; unset: any number"
    )
    public_load: Switch = _setting(
        False,
        "Whether keys without the scope `admin` see how busy the service is with all owners' tasks (depths, "
        "positions, `/metrics`), not only with their own",
    )
    max_queues: Annotated[int, *whole(1, 100_000)] = _setting(
        1000,
        "Queues in which an owner may have open tasks, and queues that may have settings; beyond that: 409 `limit-"
        "reached`",
    )
    max_schedules: Annotated[int, *whole(1, 100_000)] = _setting(
        1000, "Schedules that an owner may have; beyond that: 409 `limit-reached`"
    )
    max_children: Annotated[int, *whole(1, 1_000_000)] = _setting(
        10_000, "Children that a task may start; its attempt fails when it wants more"
    )
    min_interval: Annotated[
        timedelta, *span(_seconds(1), timedelta(days=1), "1 to 86400 seconds (60, or ISO 8601: PT1M)")
    ] = _setting(
        _seconds(1),
        "Shortest time between two ticks of a new schedule, in seconds; cron ticks are at least a minute apart",
    )
    daily_budget: Dollars = _setting(
        None,
        "US dollars that the tasks of one owner may cost on one day (UTC), where the key has no budget of its own; "
        "unset: any amount",
    )
    keep_events: Duration = _setting(
        timedelta(hours=24), "Seconds for which a reader of `GET /events` may be away without missing anything"
    )
    keep_events_size: Size = _setting(
        ByteSize(256 << 20),
        "Approximate bytes of the journal, which has the order of events but not their content: some 100 bytes a task",
    )
    max_body: Size = _setting(ByteSize(1 << 20), "Largest request body")
    max_batch: Size = _setting(ByteSize(256 << 20), "Largest request body of submissions in lines (`POST /batch`)")
    max_result: Size = _setting(ByteSize(1 << 20), "Largest result of a task")
    max_output: Size = _setting(
        ByteSize(16 << 20),
        "Limit of what one attempt may report (output, log, progress, printed lines); the rest is dropped",
    )
    max_buffered: Size = _setting(
        ByteSize(128 << 20),
        "Limit of large request bodies in memory, and of large replies that are not read yet; beyond it the "
        "slowest client is cut off",
    )
    spill_over: Size = _setting(
        ByteSize(256 << 10), "With SQLite a larger result has a file of its own, in `results` next to the database"
    )
    child_max_tasks: Annotated[int, *whole(1)] = _setting(1000, "Tasks after which a child process is replaced")
    child_max_memory: Annotated[Size | None, Expected("a size of 1 KiB or more (1GiB, 512MB)")] = _setting(
        None, "Memory beyond which a child process is replaced; unset: no limit"
    )
    webhook_insecure: SwitchWithoutFlag = _setting(
        False, "`on` lets webhooks lead to `http://` and to private addresses: for receivers on your own network"
    )
    webhook_hosts: HostNames = _setting(
        (), "Hosts that webhooks may lead to, separated by commas, `*.example.com` for all below it; unset: any"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], *choice("debug, info, warning or error")] = (
        _setting("info", "The lowest level that is logged")
    )
    log_format: Annotated[Literal["auto", "text", "json"], *choice("auto, text or json")] = _setting(
        "auto", "`auto` logs text on a terminal, JSON elsewhere"
    )
    in_process: bool = False
    """Whether `def` functions run in threads of the service: for a debugger and for tests, so no row of the table."""
    access_log: Switch = _setting(False, "`on` logs a line for each request, at the level `info`, once it is answered")
    gpt: GptSettings = GptSettings()

    @property
    def database_file(self) -> Path:
        """The file that holds the tasks if there is no database URL."""
        return self.data_dir / "tasker.db"

    @property
    def url_rules(self) -> UrlRules:
        """Where a webhook may lead."""
        return UrlRules(self.webhook_insecure, self.webhook_hosts)

    @field_validator("allowed_hosts")
    @classmethod
    def _with_own_host(cls, hosts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Add the address we listen on, unless it stands for every address: the banner's URL must work."""
        host = str(info.data.get("host", ""))
        own = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return hosts if own in {*hosts, "", "0.0.0.0", "[::]"} else (*hosts, own)  # noqa: S104

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = list(self._misfits())
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _misfits(self) -> Iterator[str]:
        """Yield a message for each combination of valid settings that do not fit together."""
        if not self.worker and self.database_url is None:
            yield (
                "TASKER_WORKER (--no-worker): expected on, got off without TASKER_DATABASE_URL: one process holds the "
                f"file {self.database_file}, so no other could run its tasks; set TASKER_DATABASE_URL to a PostgreSQL "
                "database, or leave the worker on"
            )
        if self.listen_url is not None and self.database_url is None:
            yield "TASKER_LISTEN_URL: expected none without TASKER_DATABASE_URL, got a URL; set both, or neither"
        if self.max_buffered < self.max_body:
            yield f"TASKER_MAX_BUFFERED: expected at least {self.max_body} (TASKER_MAX_BODY), got {self.max_buffered}"
        if self.heartbeat * 2 > self.lease:
            yield (
                f"TASKER_HEARTBEAT: expected at most half of TASKER_LEASE ({self.lease.total_seconds():g} s), "
                f"got {self.heartbeat.total_seconds():g} s"
            )
        if self.auth == "off" and self.token is not None:
            yield "TASKER_AUTH: expected auto or on with TASKER_TOKEN, got off, which ignores the token; unset one"
        if not is_loopback(self.host) and self.token is None and self.auth == "auto":
            yield (
                f"TASKER_HOST: {self.host} is reachable from other machines; set TASKER_TOKEN to a secret of "
                f"{MIN_TOKEN_LENGTH} or more characters, or TASKER_AUTH=off to serve everyone without a key, or "
                "TASKER_AUTH=on to serve those alone who have a key of `tasker key create`"
            )
