"""Paths of requests: which route they find, and with which parameters."""

from __future__ import annotations

import pytest

from tasker.api.routes import Routes

PATHS = (
    "/",
    "/task",
    "/task/bulk",
    "/task/{task_id}",
    "/task/{task_id}/events",
    "/hook/{hook_id}/run/{run_id}/again",
    "/hook/{hook_id}/run",
)
ROUTES = Routes({path: path for path in PATHS})


@pytest.mark.parametrize(
    ("path", "template", "parameters"),
    [
        ("/", "/", {}),
        ("/task", "/task", {}),
        ("/task/bulk", "/task/bulk", {}),
        ("/task/7", "/task/{task_id}", {"task_id": "7"}),
        ("/task/{task_id}", "/task/{task_id}", {"task_id": "{task_id}"}),
        ("/task/bulk/events", "/task/{task_id}/events", {"task_id": "bulk"}),
        ("/hook/a/run/b/again", "/hook/{hook_id}/run/{run_id}/again", {"hook_id": "a", "run_id": "b"}),
        ("/hook/run/run", "/hook/{hook_id}/run", {"hook_id": "run"}),
    ],
)
def test_a_path_finds_its_route(path: str, template: str, parameters: dict[str, str]) -> None:
    assert ROUTES.find(path) == (template, parameters)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "task",
        "task/7",
        "x/task/7",
        "//task",
        "/task/",
        "/task//events",
        "/task/7/",
        "/task/7/event",
        "/task/7/events/",
        "/task/7/events/8",
        "/Task/7",
        "/tasks",
        "/hook/a/run/",
        "/hook/a/run/b",
        "/hook//run//again",
        "/hook/a/runs/b/again",
    ],
)
def test_other_paths_find_none(path: str) -> None:
    assert ROUTES.find(path) is None
