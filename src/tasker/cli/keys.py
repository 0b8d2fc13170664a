"""`tasker key`: the API keys of a store.

The commands open the store themselves, with SQLite only while no service has the file; with `--url` they ask a running
service instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import App, Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import DataDir, Json, ProfileName, print_found
from tasker.cli.params import UsageError, read_seconds
from tasker.clock import to_utc

if TYPE_CHECKING:
    from tasker.client import Keys as ServiceKeys
    from tasker.config.settings import Settings
    from tasker.model.keys import Key
    from tasker.service.keys import Keys

_T = TypeVar("_T")
app = App(name="key", help="Make, list and revoke API keys.")


@Parameter(name="*")
@dataclass(frozen=True)
class Target:
    """The options that name the store, or a service that has it."""

    url: Annotated[str | None, Parameter(help="Go through the service there, with an admin's key in TASKER_TOKEN.")] = (
        None
    )
    profile: ProfileName = None
    data_dir: DataDir = None

    def do(
        self,
        in_service: Callable[[ServiceKeys], _T],
        in_store: Callable[[Keys], Awaitable[_T]],
        *,
        action: str | None = None,
        target: str = "",
    ) -> _T:
        """Ask the service, or do the same in the store itself. action: its name in the audit log; None for none."""
        if self.url is None and self.profile is None:
            return _in_store(self.data_dir, in_store, action=action, target=target)
        from tasker.cli.service import connect

        with connect(self.url, self.profile) as service:
            return in_service(service.keys)


DEFAULT_TARGET = Target()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of a new key."""

    scope: Annotated[str, Parameter(help="What it may do: submit, read, control, admin; several with commas.")]
    name: Annotated[str | None, Parameter(help="Its name: what it is for.")] = None
    owner: Annotated[str | None, Parameter(help="Whose tasks it submits and sees; default: its name.")] = None
    expires: Annotated[
        str | None,
        Parameter(help="When it expires: after a duration (12h, 30d, 8w) or at a time (2027-01-31T00:00:00Z)."),
    ] = None
    rate: Annotated[float | None, Parameter(help="Limit of requests a second.")] = None
    burst: Annotated[int | None, Parameter(help="Limit of requests at once; default: those of two seconds.")] = None
    daily_budget: Annotated[
        float | None, Parameter(help="Limit of what its tasks may cost on one day, in US dollars.")
    ] = None

    def read(self) -> dict[str, Any]:
        """Return the fields of the key. Raises UsageError."""
        fields = asdict(self)
        scope, expires = fields.pop("scope"), fields.pop("expires")
        expires_at = None if expires is None else read_moment(expires, datetime.now(UTC))
        given = {"scopes": _read_scopes(scope), "expires_at": expires_at, **fields}
        _check(given)
        return given


@app.command
def create(*, wanted: Wanted, target: Target = DEFAULT_TARGET, json: Json = False) -> int:
    """Make a key and print it: it is shown only this once. Once there is a key, the service asks for one."""
    from tasker.cli.terminal import note, show

    given = wanted.read()
    key, text = target.do(partial(_create_in_service, given), partial(_create_in_store, given), action="create_key")
    if json:
        show(_encode(_fields(key) | {"key": text}))
    else:
        note(f"Key {key.key_id} of {key.owner} may {', '.join(key.scopes)}. It is shown only this once:")
        show(text)
    return Exit.OK


@app.command
def ls(*, target: Target = DEFAULT_TARGET, json: Json = False) -> int:
    """List the keys in order of creation, including revoked and expired keys."""
    from tasker.cli.terminal import show

    found: Sequence[Any] = target.do(lambda keys: keys.find_all(), lambda keys: keys.find_all())
    if json:
        show(_encode([_fields(key) for key in found]))
        return Exit.OK
    header = ("KEY", "NAME", "OWNER", "SCOPES", "STATE", "USED")
    empty = "There are no keys: make one with `tasker key create`."
    return print_found(found, header, partial(_row, now=datetime.now(UTC)), json=False, empty=empty)


@app.command
def revoke(key_id: str, /, *, target: Target = DEFAULT_TARGET) -> int:
    """Revoke a key from now on.

    Parameters
    ----------
    key_id
        Its id: the middle part of the key, and the first column of `tasker key ls`.
    """
    from tasker.cli.terminal import note
    from tasker.errors import NotFound

    try:
        target.do(
            lambda keys: keys.revoke(key_id),
            lambda keys: keys.revoke(key_id),
            action="revoke_key",
            target=key_id,
        )
    except NotFound:
        note(f"tasker: there is no key {key_id!r}; `tasker key ls` lists them")
        return Exit.NOT_FOUND
    note(f"Key {key_id} is revoked.")
    return Exit.OK


def _create_in_service(given: dict[str, Any], keys: ServiceKeys) -> tuple[Any, str]:
    new = keys.create(**given)
    return new, new.key


async def _create_in_store(given: dict[str, Any], keys: Keys) -> tuple[Any, str]:
    from tasker.service.keys import NewKey

    return await keys.create(NewKey(**given | {"scopes": tuple(given["scopes"])}))


def _read_scopes(text: str) -> list[str]:
    from typing import get_args

    from tasker.model.keys import Scope

    names = [part.strip() for part in text.split(",")]
    wrong = next((name for name in names if name not in get_args(Scope)), None)
    if wrong is not None:
        raise UsageError(f"--scope: expected {', '.join(get_args(Scope))}, or several with commas, got {wrong!r}")
    return names


def read_moment(text: str, now: datetime) -> datetime:
    """Return the time that a text stands for: a duration from now, or a time. Raises UsageError."""
    seconds = read_seconds(text)
    if seconds is not None:
        return now + timedelta(seconds=seconds)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageError(f"--expires: expected a duration (12h, 30d, 8w) or a time with a zone, got {text!r}")
    try:
        return to_utc(moment)
    except ValueError as error:
        raise UsageError(f"--expires: {error}, got {text!r}") from None


def _check(given: dict[str, Any]) -> None:
    """Raise UsageError for what the API would refuse."""
    import msgspec

    from tasker.errors import Invalid
    from tasker.requests.body import read_body
    from tasker.requests.keys import KeyBody

    try:
        read_body(msgspec.json.encode(given), KeyBody)
    except Invalid as error:
        faults = "; ".join(
            f"--{fault.pointer.split('/')[1].replace('_', '-')}: {fault.detail}" for fault in error.faults
        )
        raise UsageError(faults.replace("--scopes", "--scope").replace("--expires-at", "--expires")) from None


def _in_store(data_dir: str | None, work: Callable[[Keys], Awaitable[_T]], *, action: str | None, target: str) -> _T:
    """Do work on the keys of the store itself; an action is audited. Raises ConfigError if a service has the store."""
    import uvloop

    from tasker.cli.banner import settings_url
    from tasker.config.loading import load_settings
    from tasker.errors import ConfigError, NotFound, StoreInUse
    from tasker.logs.setup import configure_logs
    from tasker.model.audit import AuditAction
    from tasker.wiring import app as wiring

    settings: Settings = load_settings(data_dir=data_dir)
    configure_logs("warning", settings.log_format)
    if data_dir is not None:
        settings = settings.model_copy(update={"database_url": None})

    async def run() -> _T:
        async with wiring.open_keys(settings) as (keys, audit):
            if action is None:
                return await work(keys)
            sequence = await audit.begin(
                AuditAction(key_id=None, owner="", action=action, target=target[:200], address="command line")
            )
            try:
                result = await work(keys)
            except NotFound:
                await audit.end(sequence, 404)
                raise
            await audit.end(sequence, 200)
            return result

    try:
        return uvloop.run(run())
    except StoreInUse as error:
        raise ConfigError(
            f"{error.holder} has {settings.data_dir}: go through it by `--url {settings_url(settings)}`, where a"
            " service of these settings listens (the first lines of its log say where it does), with an admin's key in"
            " TASKER_TOKEN if it asks for one; or stop it first"
        ) from None


def _state(key: Key, now: datetime) -> str:
    from tasker.cli.terminal import ago

    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "good"
    return f"ends {ago(key.expires_at, now)}" if now < key.expires_at else "ended"


def _row(key: Key, now: datetime) -> tuple[str, ...]:
    from tasker.cli.terminal import ago

    used = ago(key.last_used_at, now) if key.last_used_at else "never"
    return key.key_id, key.name, key.owner, ",".join(key.scopes), _state(key, now), used


def _fields(key: Any) -> dict[str, Any]:
    """Return what a service shows of a key."""
    from tasker.wire.keys import Key as ShownKey

    return {name: getattr(key, name) for name in ShownKey.__struct_fields__}


def _encode(value: Any) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()
