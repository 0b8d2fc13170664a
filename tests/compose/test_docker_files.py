"""The Docker files agree with the code; the script `run` next to this file tests them with Docker itself."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasker.config.loading import Setting, describe_settings, load_settings
from tasker.config.settings import Settings

PROJECT = Path(__file__).parents[2]
COMPOSE = (PROJECT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")


OWN = ["tasker", "api-1", "api-2", "worker"]
"""The services that run our image."""
FIXED = {"TASKER_HOST": "0.0.0.0", "TASKER_DATA_DIR": "/data", "TASKER_TASKS": "/tasks"}
"""Settings that must differ between the containers and `.env`; the image or the Compose file sets them."""
VALUES = {"TASKER_DRAIN": "90", "TASKER_LEASE": "20", "TASKER_AUTH": "on", "TASKER_TOKEN": "a-token-of-sixteen"}


def resolve(text: str, variables: dict[str, str]) -> Any:
    """Return the services as Compose reads them: `${NAME:-default}` is the default where NAME is unset or empty."""
    return _fill(yaml.safe_load(text)["services"], variables)


def _fill(node: Any, variables: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _fill(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, variables) for value in node]
    if not isinstance(node, str):
        return node
    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], node)
    assert "$" not in filled, "Compose v1 and v2 agree on ${NAME:-default} alone"
    return filled


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without settings, in a folder without `.env`."""
    for name in [name for name in os.environ if name.startswith(("TASKER_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("setting", describe_settings(), ids=lambda setting: setting.variable)
def test_every_setting_of_env_reaches_every_container(setting: Setting, name: str) -> None:
    """And `.env.example`, where users find it."""
    variable = setting.variable
    assert re.search(rf"^#{variable}=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    environment = resolve(COMPOSE, {variable: "given"})[name]["environment"]
    shared = {"TASKER_DATABASE_URL", "TASKER_LISTEN_URL"}  # these containers have Compose's own database
    fixed = set(FIXED) | {"TASKER_PORT"} | (shared if name != "tasker" else set())
    if variable in fixed:
        assert environment.get(variable) != "given"
    else:
        assert environment[variable] == "given"


@pytest.mark.parametrize("name", OWN)
def test_without_env_a_container_has_the_defaults(name: str, no_settings: pytest.MonkeyPatch) -> None:
    for variable, value in resolve(COMPOSE, {})[name]["environment"].items():
        no_settings.setenv(variable, value)
    database = None if name == "tasker" else "postgresql://tasker:tasker@postgres:5432/tasker"
    url = load_settings().database_url
    assert (None if url is None else url.get_secret_value()) == database
    plain = Settings(database_url=url, host="0.0.0.0", auth="off", tasks=("/tasks",), data_dir=load_settings().data_dir)
    assert load_settings() == plain.model_copy(update={"allowed_hosts": load_settings().allowed_hosts})
    assert set(load_settings().allowed_hosts) > set(plain.allowed_hosts), "and the name within Compose's network"


@pytest.mark.parametrize("name", OWN)
def test_what_env_says_is_what_a_container_gets(name: str, no_settings: pytest.MonkeyPatch) -> None:
    for variable, value in resolve(COMPOSE, VALUES)[name]["environment"].items():
        no_settings.setenv(variable, value)
    got = load_settings()
    assert (got.drain.total_seconds(), got.lease.total_seconds(), got.auth) == (90, 20, "on")
    assert got.token is not None
    assert got.token.get_secret_value() == VALUES["TASKER_TOKEN"]


def test_the_image_sets_what_differs_inside() -> None:
    for variable, value in FIXED.items():
        assert f"{variable}={value}" in DOCKERFILE


@pytest.mark.parametrize("name", ["tasker", "front"])
def test_the_port_of_env_is_the_one_published(name: str) -> None:
    assert resolve(COMPOSE, {})[name]["ports"] == ["127.0.0.1:5000:5000"]
    assert resolve(COMPOSE, {"TASKER_PORT": "7200"})[name]["ports"] == ["127.0.0.1:7200:5000"]


@pytest.mark.parametrize("drain", [None, "600", "1"])
def test_compose_gives_running_tasks_the_time_to_drain(drain: str | None) -> None:
    services = resolve(COMPOSE, {} if drain is None else {"TASKER_DRAIN": drain})
    needed = (timedelta(seconds=float(drain)) if drain else Settings().drain) + Settings().cancel_grace
    for name in OWN:
        assert _duration(services[name]["stop_grace_period"]) > needed
    assert _duration(services["postgres"]["stop_grace_period"]) >= timedelta(seconds=60), "it ends last"


def _duration(text: str) -> timedelta:
    """Read a duration of Compose. Compose v1 takes whole seconds alone."""
    found = re.fullmatch(r"(?:(\d+)m)?(\d+)s", text)
    assert found is not None
    return timedelta(minutes=int(found[1] or 0), seconds=int(found[2]))


SERVICES: dict[str, Any] = resolve(COMPOSE, {})


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_watched_restarted_and_restricted(name: str) -> None:
    service = SERVICES[name]
    assert "healthcheck" in service or "build" in service, "the image of ours has its own"
    assert service["restart"] == "unless-stopped"
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only") is True or name == "postgres"
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []
    assert not service.get("privileged")


def test_the_database_is_healthy_only_once_it_takes_connections() -> None:
    """While its image creates the database, a server answers on the socket only, and is stopped once more."""
    assert "pg_isready -q -h 127.0.0.1 " in SERVICES["postgres"]["healthcheck"]["test"][1]
