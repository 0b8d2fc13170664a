"""Settings: one frozen, validated value, made once from flags, TASKER_* variables and `.env`, and passed down.

A flag wins over the environment, the environment over `.env` in the working folder; an empty string is unset.
Constructing `Settings` reads nothing from outside; only `load_settings` does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tasker.config.dotenv import read_dotenv
from tasker.config.prices import ModelPrice, read_prices
from tasker.errors import ConfigError
from tasker.model import MAX_RETENTION, queue_name_pattern
from tasker.rules.urls import UrlRules

MIN_TOKEN_LENGTH = 16
SECRET_VARIABLES = ("TASKER_TOKEN", "TASKER_DATABASE_URL")
"""Tasker's own secrets: child processes do not get them."""

_CLIENT_VARIABLES = {"TASKER_URL"}  # read by the command line and the client, and no fault beside a server's settings
_SPECIAL_VARIABLES = {"gpt_api_key": "OPENAI_API_KEY", "gpt_base_url": "OPENAI_BASE_URL"}
_VISIBLE_ASCII = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Expected:
    """What a setting takes, in words: the second half of "expected ..., got ..."."""

    words: str
    secret: bool = False
    flag: bool = True


def available_cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a server bound to `host`."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _seconds(value: object) -> object:
    """Take plain numbers as seconds; the rest (ISO 8601, H:MM:SS) is pydantic's."""
    try:
        return timedelta(seconds=float(value)) if isinstance(value, int | float | str) else value
    except (ValueError, OverflowError):
        return value


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _strong(token: SecretStr | None) -> SecretStr | None:
    text = token.get_secret_value() if token else None
    if text is not None and (len(text) < MIN_TOKEN_LENGTH or not _VISIBLE_ASCII.fullmatch(text)):
        raise ValueError
    return token


def _http_url(url: str | None) -> str | None:
    if url is not None and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
        raise ValueError
    return url


def _postgres_url(url: SecretStr | None) -> SecretStr | None:
    if url is not None and urlsplit(url.get_secret_value()).scheme not in {"postgresql", "postgres"}:
        raise ValueError
    return url


def _queue_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch(queue_name_pattern, name) for name in names):
        raise ValueError
    return names


def _lasting(value: object) -> object:
    if _lower(value) == "forever":
        return "forever"
    length = _read_duration(_seconds(value))
    if not timedelta(0) < length <= MAX_RETENTION:
        raise ValueError
    return length


_Lower = BeforeValidator(_lower)
_read_duration = TypeAdapter(timedelta).validate_python
_positive_seconds = (BeforeValidator(_seconds), Field(gt=timedelta(0), le=timedelta(days=365)))
Duration = Annotated[timedelta, *_positive_seconds, Expected("more than 0 seconds (30, 0.5, or ISO 8601: PT5M)")]
Lasting = Annotated[
    timedelta | Literal["forever"],
    BeforeValidator(_lasting),
    Expected("more than 0 seconds, at most ten years, or forever (2592000, or ISO 8601: P30D)"),
]
Names = Annotated[tuple[str, ...], BeforeValidator(_split), Expected("names, separated by commas")]
Size = Annotated[ByteSize, Field(ge=1024), Expected("a size of 1 KiB or more (1048576, 1MiB, 512MB)")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)


class GptSettings(_Frozen):
    """Where the `gpt` task type gets its text from. `timeout` is for one call to the provider."""

    provider: Annotated[Literal["auto", "openai", "local"], _Lower, Expected("auto, openai or local")] = Field(
        default="auto",
        description="Who writes the text: `openai` (billed to your key), `local` (the small model on this machine), "
        "or `auto`: OpenAI if there is a key, else local",
    )
    model: Annotated[str | None, Expected("the name of a model")] = Field(
        default=None, description="The model asked for when a task names none"
    )
    api_key: Annotated[SecretStr | None, Expected("a key", secret=True)] = Field(
        default=None, description="The provider's key; without one `gpt` uses the local model"
    )
    base_url: Annotated[str | None, AfterValidator(_http_url), Expected("a URL with http:// or https://")] = Field(
        default=None, description="A server that speaks OpenAI's protocol, instead of OpenAI's own"
    )
    timeout: Duration = Field(default=timedelta(seconds=60), description="Longest silence of the provider, in seconds")
    threads: Annotated[int | None, Field(ge=1, le=1024), Expected("a whole number from 1 to 1024")] = Field(
        default=None, description="Threads of the local model; unset: one less than there are processors"
    )
    prices: Annotated[
        dict[str, ModelPrice] | None,
        BeforeValidator(read_prices),
        Expected('prices as JSON, {"model": {"input": 0.15, "output": 0.6, "cached_input": 0.075}}'),
    ] = Field(
        default=None,
        description="What models cost that no price table knows, as JSON in US dollars for a million tokens: "
        '`{"my-model": {"input": 0.15, "output": 0.6}}`, `"*"` for any other model',
    )


class Settings(_Frozen):
    """How the service runs. Times are timedeltas, sizes are bytes."""

    host: Annotated[str, Field(min_length=1, pattern=r"^[^\s/]+$"), Expected("an address or host name")] = Field(
        default="127.0.0.1", description="Address to listen on; off loopback it needs `TASKER_TOKEN` or `TASKER_AUTH`"
    )
    port: Annotated[int, Field(ge=0, le=65535), Expected("a port from 0 to 65535 (0: any free one)")] = Field(
        default=5000, description="Port to listen on"
    )
    data_dir: Annotated[Path, Expected("a folder")] = Field(
        default=Path("./.tasker"), description="Folder that holds the tasks (`tasker.db`)"
    )
    database_url: Annotated[
        SecretStr | None,
        AfterValidator(_postgres_url),
        Expected("a URL with postgresql:// (postgresql://user:password@host:5432/database)", secret=True),
    ] = Field(
        default=None,
        description="Keeps the tasks in this PostgreSQL database, `postgresql://user:password@host/database`, so that "
        "many processes share them; unset: in a file of `TASKER_DATA_DIR`, for one process",
    )
    pool_size: Annotated[int, Field(ge=3, le=1000), Expected("a whole number from 3 to 1000")] = Field(
        default=8,
        description="Connections of each process to PostgreSQL, beside the one that listens: two store submissions, "
        "one stores ends of attempts, the rest claim and read; 4 do for a worker",
    )
    worker: Annotated[bool, Expected("on or off", flag=False)] = Field(
        default=True,
        description="`off` has `tasker serve` run no tasks (`--no-worker`): `tasker worker` does elsewhere",
    )
    queues: Annotated[Names, AfterValidator(_queue_names), Expected("names of queues, separated by commas")] = Field(
        default=(), description="Queues whose tasks are run here, separated by commas; unset: every queue"
    )
    tasks: Annotated[Names, Expected("files, folders or modules, separated by commas")] = Field(
        default=(), description="Where your own task functions are: files, folders, modules, separated by commas"
    )
    auth: Annotated[Literal["auto", "on", "off"], _Lower, Expected("auto, on or off")] = Field(
        default="auto",
        description="`auto` asks for a key as soon as there is one, `on` also before that; `off` serves without a key "
        "even off loopback",
    )
    token: Annotated[
        SecretStr | None,
        AfterValidator(_strong),
        Expected(f"a token of {MIN_TOKEN_LENGTH} or more visible ASCII characters", secret=True),
    ] = Field(default=None, description="An admin's key: `Authorization: Bearer ...`; `tasker key create` makes others")
    allowed_hosts: Annotated[Names, Expected("host names, separated by commas")] = Field(
        default=("localhost", "127.0.0.1", "[::1]"),
        description="Host names under which the service answers, separated by commas",
    )
    slots: Annotated[int, Field(ge=1, le=100_000), Expected("a whole number from 1 to 100000")] = Field(
        default=100, description="How many `async def` tasks run at a time"
    )
    processes: Annotated[int, Field(ge=1, le=1024), Expected("a whole number from 1 to 1024")] = Field(
        default_factory=lambda: max(2, available_cpus()),
        description="How many `def` tasks run at a time, each in a process; unset: one for each processor, at least 2",
    )
    timeout: Duration = Field(
        default=timedelta(seconds=300), description="Longest time for an attempt, in seconds, unless its type says"
    )
    lease: Duration = Field(
        default=timedelta(seconds=10),
        description="Seconds until an attempt that gives no sign of life is taken away: so long a task waits at most "
        "when its worker's machine is lost",
    )
    heartbeat: Duration = Field(
        default=timedelta(seconds=3),
        description="Seconds between signs of life; at most half of the lease, by default less than a third: two may "
        "fail",
    )
    drain: Duration = Field(
        default=timedelta(seconds=30), description="Seconds that running tasks have to end when the service is stopped"
    )
    cancel_grace: Duration = Field(
        default=timedelta(seconds=5), description="Seconds from asking a task to stop until it is killed"
    )
    retention: Lasting = Field(
        default=timedelta(days=30),
        description="Seconds that a task is kept after its end, unless it or its type says; `forever`: until `DELETE`",
    )
    max_pending: Annotated[int | None, Field(ge=1, le=10**9), Expected("a whole number from 1")] = Field(
        default=None,
        description="Tasks that may be pending; more are answered 503 `queue-full`; unset: any number",
    )
    public_load: Annotated[bool, Expected("on or off")] = Field(
        default=False,
        description="Whether keys without the scope `admin` are told how busy the service is with all owners' tasks "
        "(depths, places in line, `/metrics`), not only with their own",
    )
    max_queues: Annotated[int, Field(ge=1, le=100_000), Expected("a whole number from 1 to 100000")] = Field(
        default=1000,
        description="Queues that an owner may have open tasks in, and queues that may have settings; beyond that: "
        "409 `limit-reached`",
    )
    max_schedules: Annotated[int, Field(ge=1, le=100_000), Expected("a whole number from 1 to 100000")] = Field(
        default=1000, description="Schedules that an owner may have; beyond that: 409 `limit-reached`"
    )
    min_interval: Annotated[
        timedelta, BeforeValidator(_seconds), Field(ge=timedelta(seconds=1), le=timedelta(days=1)),
        Expected("1 to 86400 seconds (60, or ISO 8601: PT1M)"),
    ] = Field(
        default=timedelta(seconds=1),
        description="Seconds between two ticks of a new schedule at the least; those of cron are a minute apart",
    )  # fmt: skip
    daily_budget: Annotated[float | None, Field(ge=0, le=1e9), Expected("US dollars, 0 or more")] = Field(
        default=None,
        description="US dollars that the tasks of one owner may cost on one day (UTC), where the key has no budget "
        "of its own; unset: any amount",
    )
    keep_events: Duration = Field(
        default=timedelta(hours=24),
        description="Seconds for which a reader of `GET /events` may be away and miss nothing",
    )
    keep_events_size: Size = Field(
        default=ByteSize(256 << 20),
        description="About how much of the events' order is kept at most (not what they say): some 100 bytes a task",
    )
    max_body: Size = Field(default=ByteSize(1 << 20), description="Largest request body")
    max_batch: Size = Field(
        default=ByteSize(256 << 20), description="Largest request body of submissions in lines (`POST /batch`)"
    )
    max_result: Size = Field(default=ByteSize(1 << 20), description="Largest result of a task")
    max_output: Size = Field(
        default=ByteSize(16 << 20),
        description="What one attempt may say (output, log, progress, printed lines); what comes after it is dropped",
    )
    max_buffered: Size = Field(
        default=ByteSize(128 << 20),
        description="Large request bodies in memory, and as much again of large replies that are not read yet: "
        "beyond it whoever has taken the longest is cut off",
    )
    spill_over: Size = Field(
        default=ByteSize(256 << 10),
        description="With SQLite a larger result has a file of its own, in `results` beside the database",
    )
    child_max_tasks: Annotated[int, Field(ge=1), Expected("a whole number from 1")] = Field(
        default=1000, description="A child process is replaced after so many tasks"
    )
    child_max_memory: Annotated[Size | None, Expected("a size of 1 KiB or more (1GiB, 512MB)")] = Field(
        default=None, description="A child process is replaced once it holds more memory than this; unset: no limit"
    )
    webhook_insecure: Annotated[bool, Expected("on or off", flag=False)] = Field(
        default=False,
        description="`on` lets webhooks lead to `http://` and to private addresses: for receivers on your own network",
    )
    webhook_hosts: Annotated[Names, Expected("host names, separated by commas")] = Field(
        default=(),
        description="Hosts that webhooks may lead to, separated by commas, `*.example.com` for all below; unset: any",
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _Lower, Expected("debug, info, warning or error")
    ] = Field(default="info", description="The least level that is logged")
    log_format: Annotated[Literal["auto", "text", "json"], _Lower, Expected("auto, text or json")] = Field(
        default="auto", description="`auto` logs text on a terminal, JSON elsewhere"
    )
    access_log: Annotated[bool, Expected("on or off")] = Field(
        default=False, description="`on` logs a line for each request, at the level `info`, once it is answered"
    )
    gpt: GptSettings = GptSettings()

    @property
    def database_file(self) -> Path:
        """Where the tasks are kept."""
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
        if not self.worker and self.database_url is None:
            yield (
                "TASKER_WORKER (--no-worker): expected on, got off without TASKER_DATABASE_URL: one process holds the "
                f"file {self.database_file}, so no other could run its tasks; set TASKER_DATABASE_URL to a PostgreSQL "
                "database, or leave the worker on"
            )
        if self.max_buffered < self.max_body:
            yield f"TASKER_MAX_BUFFERED: expected at least {self.max_body} (TASKER_MAX_BODY), got {self.max_buffered}"
        if self.heartbeat * 2 > self.lease:
            yield (
                f"TASKER_HEARTBEAT: expected at most half of TASKER_LEASE ({self.lease.total_seconds():g} s), "
                f"got {self.heartbeat.total_seconds():g} s"
            )
        if self.auth == "off" and self.token is not None:
            yield "TASKER_AUTH: expected auto or on beside TASKER_TOKEN, got off, which ignores the token; unset one"
        if not is_loopback(self.host) and self.token is None and self.auth == "auto":
            yield (
                f"TASKER_HOST: {self.host} is reachable from other machines; set TASKER_TOKEN to a secret of "
                f"{MIN_TOKEN_LENGTH} or more characters, or TASKER_AUTH=off to serve everyone without a key, or "
                "TASKER_AUTH=on to serve those alone who have a key of `tasker key create`"
            )


@dataclass(frozen=True)
class Setting:
    """One setting as users meet it: its variable, flag, default and meaning."""

    variable: str
    flag: str | None
    default: str
    description: str
    path: tuple[str, ...]
    expected: Expected


def describe_settings() -> list[Setting]:
    """Return every setting in order of declaration; README, `.env.example` and errors speak from this one table."""
    own = [(("gpt", name), field) for name, field in GptSettings.model_fields.items()]
    return [_setting(path, field) for path, field in _paths(Settings.model_fields) + own]


def _paths(fields: Mapping[str, FieldInfo]) -> list[tuple[tuple[str, ...], FieldInfo]]:
    return [((name,), field) for name, field in fields.items() if name != "gpt"]


def _setting(path: tuple[str, ...], field: FieldInfo) -> Setting:
    name = "_".join(path)
    expected = [item for item in field.metadata if isinstance(item, Expected)][-1]
    return Setting(
        variable=_SPECIAL_VARIABLES.get(name, f"TASKER_{name.upper()}"),
        flag=None if expected.secret or not expected.flag else f"--{name.replace('_', '-')}",
        default=_show_default(field.default if field.default_factory is None else None),
        description=field.description or "",
        path=path,
        expected=expected,
    )


def _show_default(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "on" if value else "off"
        case timedelta():
            return f"{value.total_seconds():.10g}"
        case tuple():
            return ",".join(value)
        case ByteSize():
            return value.human_readable().replace(".0", "")
    return str(value)


@dataclass(frozen=True)
class _Given:
    """A value as it came, and the name its giver knows it by."""

    name: str
    value: object


def load_settings(**flags: object) -> Settings:
    """Return the settings of this process; `flags` are fields by name (gpt's as `gpt_model`...), None is not given.

    Raises ConfigError that names every wrong or unknown variable, what was expected and what was got.
    """
    variables = _read_variables()
    table = describe_settings()
    faults = [_unknown(given.name, name, table) for name, given in variables.items() if _is_unknown(name, table)]
    given = {setting.path: found for setting in table if (found := _find_given(setting, flags, variables))}
    try:
        settings = Settings.model_validate(_nest(given))
    except ValidationError as error:
        faults += [line for fault in error.errors() for line in _explain(fault, table, given)]
    if faults:
        count = "A setting is" if len(faults) == 1 else f"{len(faults)} settings are"
        raise ConfigError("\n  ".join([f"{count} wrong:", *faults]))
    return settings


def _read_variables() -> dict[str, _Given]:
    """Return what is set, by variable; the environment wins over `.env`, empty values are unset."""
    from_file = read_dotenv(Path(".env"))
    found = {name: _Given(f"{name} (in .env)", value) for name, value in from_file.items() if value}
    return found | {name: _Given(name, value) for name, value in os.environ.items() if value}


def _find_given(setting: Setting, flags: Mapping[str, object], variables: Mapping[str, _Given]) -> _Given | None:
    value = flags.get("_".join(setting.path))
    if value is not None and value != "":
        return _Given(setting.flag or setting.variable, value)
    return variables.get(setting.variable)


def _nest(given: Mapping[tuple[str, ...], _Given]) -> dict[str, Any]:
    nested: dict[str, Any] = {"gpt": {}}
    for path, found in given.items():
        (nested["gpt"] if len(path) > 1 else nested)[path[-1]] = found.value
    return nested


def _is_unknown(name: str, table: list[Setting]) -> bool:
    return name.startswith("TASKER_") and name not in {setting.variable for setting in table} | _CLIENT_VARIABLES


def _unknown(shown: str, name: str, table: list[Setting]) -> str:
    close = get_close_matches(name, [setting.variable for setting in table], n=1, cutoff=0.0)
    return f"{shown}: expected a setting of Tasker, got an unknown name; the nearest is {close[0]}"


def _explain(fault: ErrorDetails, table: list[Setting], given: Mapping[tuple[str, ...], _Given]) -> list[str]:
    if not fault["loc"]:
        return fault["msg"].removeprefix("Value error, ").split("\n")
    setting = next(entry for entry in table if entry.path == fault["loc"][: len(entry.path)])
    found = given.get(setting.path, _Given(setting.variable, fault["input"]))
    text = str(found.value)
    hidden = setting.expected.secret or "@" in text  # a URL may carry a password
    got = f"a value of {len(text)} characters, not shown" if hidden else f"{text!r:.200}"
    why = "" if hidden or fault["type"] != "value_error" else fault["msg"].removeprefix("Value error, ")
    return [f"{found.name}: expected {setting.expected.words}{why and f' ({why})'}, got {got}"]
