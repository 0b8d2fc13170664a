"""Checks of the running service: it answers, takes the key, is of this version, and is ready."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tasker.cli.doctor.findings import Finding, ok, problem, warning
from tasker.cli.doctor.store import check_skew
from tasker.cli.options import Output
from tasker.config.settings import Settings

if TYPE_CHECKING:
    from httpx2 import Client, Response

_WITHIN = 5.0
_READ = {"/readyz": "ready"}


def check_service(output: Output, settings: Settings | None) -> Iterator[Finding]:
    """Ask the service that commands would use here."""
    from httpx2 import Client, HTTPError, InvalidURL

    from tasker.cli.targets import find_target

    target = find_target(output.url, output.profile)
    headers = {} if target.token is None else {"Authorization": f"Bearer {target.token}"}
    where = f"{target.url}{f' ({target.origin})' if target.origin else ''}"
    try:
        with Client(base_url=target.url, headers=headers, timeout=_WITHIN) as client:
            ready = client.get("/readyz")
            yield from _check_ready(ready, where)
            yield from _check_calls(client, has_token=target.token is not None)
    except (HTTPError, InvalidURL, OSError) as error:
        yield warning("service", f"none answers at {where}: {error}", "start one: `tasker serve`; or set TASKER_URL")
        if settings is not None:
            yield from _check_port(settings)


def _check_ready(ready: Response, where: str) -> Iterator[Finding]:
    try:
        checks: Any = ready.json()
    except ValueError:
        yield problem("service", f"what answers at {where} is not Tasker", "set TASKER_URL: another program is there")
        return
    if ready.status_code == 200:
        yield ok("service", f"ready at {where}")
    else:
        yield problem("service", f"not ready at {where}: {_describe(checks)}", "see its log")
    date = ready.headers.get("date")
    if date is not None:  # to the second
        skew = parsedate_to_datetime(date) - datetime.now(UTC) + timedelta(seconds=0.5)
        if abs(skew) > timedelta(seconds=2):
            yield from check_skew(skew, "the service's clock")


def _describe(checks: Any) -> str:
    found = checks.get("checks", checks) if isinstance(checks, dict) else checks
    return ", ".join(f"{name}: {value}" for name, value in found.items() if value != "ok") or "it gives no reason"


def _check_calls(client: Client, *, has_token: bool) -> Iterator[Finding]:
    read = client.get("/task", params={"limit": 1})
    if read.status_code == 401:
        advice = (
            "the key is not one of this service" if has_token else "set TASKER_TOKEN: `tasker key create` makes a key"
        )
        yield problem("key", "the service asks for a key", advice)
        return
    yield _judge("reads", read, "tasks can be read")
    body = {"type": "sum", "params": [1, 2]}
    yield _judge("submissions", client.post("/task", json=body, headers={"Prefer": "handling=validate"}), "are taken")
    yield from _check_version(client)


def _judge(name: str, reply: Response, well: str) -> Finding:
    if reply.is_success:
        return ok(name, well)
    if reply.status_code == 403:
        return warning(name, "the key has no right to it", "use a key with that scope (`tasker key create`)")
    return problem(name, f"answered {reply.status_code}: {reply.text[:200]}", "see the service's log")


def _check_version(client: Client) -> Iterator[Finding]:
    from tasker.release import release

    reply = client.get("/openapi.json")
    theirs = reply.json().get("info", {}).get("version") if reply.is_success else None
    ours = release()
    if theirs is None or theirs == ours:
        yield ok("version", ours)
    elif theirs.partition("+")[0] == ours.partition("+")[0]:
        yield ok("version", f"{ours}; the service is another build, {theirs}")
    else:
        yield warning("version", f"the service is {theirs}, this command {ours}", "upgrade the older one")


def _check_port(settings: Settings) -> Iterator[Finding]:
    from tasker.cli import ports
    from tasker.errors import ConfigError

    try:
        claim = ports.claim(ports.resolve(settings.host), settings.port)
    except ConfigError as error:
        yield problem("port", str(error), "see TASKER_HOST and TASKER_PORT")
        return
    if claim is None:
        holder = ports.describe_holder(settings.port)
        yield problem("port", f"{settings.port} is taken{holder}", "free it, or set TASKER_PORT")
        return
    claim.close()
    yield ok("port", f"{settings.port} is free for `tasker serve`")
