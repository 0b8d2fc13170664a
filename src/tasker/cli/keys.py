"""`tasker key`: who may ask the service, and for what.

Works on the store itself; with SQLite only while no service has the file. `--url` goes through a running service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import App, Parameter

from tasker.cli.exits import Exit
from tasker.cli.options import Json
from tasker.cli.params import UsageError, read_seconds
from tasker.clock import to_utc

if TYPE_CHECKING:
    from tasker import client
    from tasker.config.settings import Settings
    from tasker.model.keys import Key
    from tasker.service.keys import Keys

_T = TypeVar("_T")
Url = Annotated[str | None, Parameter(help="Go through the service there, with an admin's key in TASKER_TOKEN.")]
DataDir = Annotated[
    str | None,
    Parameter(show_default=False, help="Folder that holds the tasks, also where TASKER_DATABASE_URL is set."),
]

app = App(name="key", help="Make, list and revoke the keys of those who may ask.")


@app.command
def create(
    *,
    scope: str,
    name: str | None = None,
    owner: str | None = None,
    expires: str | None = None,
    rate: float | None = None,
    burst: int | None = None,
    daily_budget: float | None = None,
    url: Url = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> int:
    """Make a key and print it: it is shown this once. From the first one on, the service asks for a key.

    Parameters
    ----------
    scope
        What it may do: submit, read, control, admin; several with commas.
    name
        What it is for, in a word.
    owner
        Whose tasks it submits and sees; else its name.
    expires
        When it ends: after a time (12h, 30d, 8w) or at one (2027-01-31T00:00:00Z).
    rate
        Requests a second at the most.
    burst
        So many requests at once; else those of two seconds.
    daily_budget
        US dollars that its tasks may cost on one day.
    """
    from tasker.cli.terminal import note, show
    from tasker.requests.keys import KeyBody

    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "scopes": _read_scopes(scope), "name": name, "owner": owner,
        "expires_at": None if expires is None else read_moment(expires, now), "rate": rate, "burst": burst,
        "daily_budget": daily_budget,
    }  # fmt: skip
    _check(KeyBody, given)
    if url is not None:
        with _connect(url) as service:
            new = service.keys.create(**given)
        made: Any = new
        shown = new.key
    else:
        from tasker.service.keys import NewKey

        given["scopes"] = tuple(given["scopes"])
        made, shown = _in_store(data_dir, lambda keys: keys.create(NewKey(**given)), deed="create_key")
    if json:
        show(_to_json([made], key=shown)[1:-1])
    else:
        note(f"Key {made.key_id} of {made.owner} may {', '.join(made.scopes)}. It is shown this once:")
        show(shown)
    return Exit.OK


@app.command
def ls(*, url: Url = None, data_dir: DataDir = None, json: Json = False) -> int:
    """List the keys, in order of creation, also those that open nothing any more."""
    from tasker.cli.terminal import ago, note, print_table, show

    if url is not None:
        with _connect(url) as service:
            found: Sequence[Any] = service.keys.find_all()
    else:
        found = _in_store(data_dir, lambda keys: keys.find_all())
    if json:
        show(_to_json(found))
    elif found:
        now = datetime.now(UTC)
        rows = [
            (key.key_id, key.name, key.owner, ",".join(key.scopes), _state(key, now),
             ago(key.last_used_at, now) if key.last_used_at else "never")
            for key in found
        ]  # fmt: skip
        print_table(("KEY", "NAME", "OWNER", "SCOPES", "STATE", "USED"), rows)
    else:
        note("There are no keys: make one with `tasker key create`.")
    return Exit.OK


@app.command
def revoke(key_id: str, /, *, url: Url = None, data_dir: DataDir = None) -> int:
    """Have a key open nothing from now on.

    Parameters
    ----------
    key_id
        Its id: the middle part of the key, and the first column of `tasker key ls`.
    """
    from tasker.cli.terminal import note
    from tasker.errors import NotFound

    if url is not None:
        with _connect(url) as service:
            service.keys.revoke(key_id)
    else:
        try:
            _in_store(data_dir, lambda keys: keys.revoke(key_id), deed="revoke_key", target=key_id)
        except NotFound:
            note(f"tasker: there is no key {key_id!r}; `tasker key ls` lists them")
            return Exit.NOT_FOUND
    note(f"Key {key_id} is revoked.")
    return Exit.OK


def _read_scopes(text: str) -> list[str]:
    from typing import get_args

    from tasker.model.keys import Scope

    names = [part.strip() for part in text.split(",")]
    wrong = next((name for name in names if name not in get_args(Scope)), None)
    if wrong is not None:
        raise UsageError(f"--scope: expected {', '.join(get_args(Scope))}, or several with commas, got {wrong!r}")
    return names


def read_moment(text: str, now: datetime) -> datetime:
    """Return the moment that a duration from now, or a time, stands for. Raises UsageError."""
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


def _check(form: type[Any], given: dict[str, Any]) -> None:
    """Raise UsageError for what the API would not take either."""
    import msgspec

    from tasker.errors import Invalid
    from tasker.requests.body import read_body

    try:
        read_body(msgspec.json.encode(given), form)
    except Invalid as error:
        faults = "; ".join(
            f"--{fault.pointer.split('/')[1].replace('_', '-')}: {fault.detail}" for fault in error.faults
        )
        raise UsageError(faults.replace("--scopes", "--scope").replace("--expires-at", "--expires")) from None


def _connect(url: str) -> client.Tasker:
    from tasker.cli.service import connect

    return connect(url)


def _in_store(
    data_dir: str | None, work: Callable[[Keys], Awaitable[_T]], *, deed: str | None = None, target: str = ""
) -> _T:
    """Do work on the keys of the store itself, a deed on record. Raises ConfigError where a service has the store."""
    import uvloop

    from tasker.cli.banner import settings_url
    from tasker.config.settings import load_settings
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
            if deed is None:
                return await work(keys)
            done = AuditAction(key_id=None, owner="", action=deed, target=target[:200], address="command line")
            sequence = await audit.begin(done)
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


def _to_json(keys: Sequence[Any], **more: Any) -> str:
    import msgspec

    shown = [
        {
            name: getattr(key, name)
            for name in (
                "key_id", "name", "owner", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at", "rate",
                "burst", "daily_budget",
            )
        }
        | more
        for key in keys
    ]  # fmt: skip
    return msgspec.json.encode(shown).decode()
