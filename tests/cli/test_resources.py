"""Commands that show what a service has besides tasks, on the shared service."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tasker.cli.types import describe, example_of
from tasker.client import Tasker, TaskFailed
from tests.cli.command import Done, on_terminal
from tests.server import Server

Here = Callable[..., Done]


def test_types_are_listed(here: Here) -> None:
    lines = [line.split("\t") for line in here("types").out.splitlines()]
    assert next(line for line in lines if line[0] == "sum")[1] == "a, b, [more...]"
    assert here("types", "-q").out.splitlines() == [line[0] for line in lines]
    assert [one["name"] for one in json.loads(here("types", "--json").out)] == [line[0] for line in lines]


def test_a_type_is_shown_with_params_defaults_and_an_example(here: Here) -> None:
    text = here("type", "show", "sum").out
    assert "Add two or more numbers" in text
    assert "  a     number  required\n" in text
    assert "queue default, priority 0" in text
    assert text.endswith("  tasker run sum 4 2\n")
    assert json.loads(here("type", "show", "sum", "--json").out)["name"] == "sum"
    unknown = here("type", "show", "nothing")
    assert (unknown.code, "tasker types" in unknown.err) == (3, True)


def test_the_examples_of_all_types_can_be_run(here: Here, service: Server) -> None:
    with Tasker(service.url) as client:
        examples = [example_of(one) for one in client.types.find_many()]
    checked = [here(*shlex.split(example)[1:], "--detach", "--delay", "9999") for example in examples]
    assert [done.code for done in checked] == [0] * len(examples)


def test_a_type_with_params_and_no_example_shows_none(service: Server) -> None:
    with Tasker(service.url) as client:
        found = client.types.get("sum")
    assert "Example:" in list(describe(found))
    assert "Example:" not in list(describe(replace(found, example=None)))


def test_workers_are_listed(here: Here) -> None:
    (line,) = here("worker", "ls").out.splitlines()
    assert line.split("\t")[1] == "running"
    assert json.loads(here("worker", "ls", "--json").out)[0]["queues"] is None


def test_failures_are_listed_and_shown(here: Here, service: Server) -> None:
    with Tasker(service.url) as client, pytest.raises(TaskFailed):
        client.run("fail", "no shoes in box 17")
    listed = [line.split("\t") for line in here("failure", "ls", "--type", "fail").out.splitlines()]
    failure_id = next(line[0] for line in listed if line[4].endswith("no shoes in box #"))
    shown = here("failure", "show", failure_id).out
    assert "no shoes in box 17" in shown
    assert f"tasker bulk retry --error {failure_id}" in shown
    missing = here("failure", "show", "nothing")
    assert (missing.code, "tasker failure ls" in missing.err) == (3, True)


def test_statistics_are_shown_by_type_or_in_all(here: Here, service: Server) -> None:
    with Tasker(service.url) as client:
        client.run("sum", 4, 2)
    names = [line.split("\t")[0] for line in here("stats").out.splitlines()]
    assert {"sum", "all"} <= set(names)
    done = here("stats", "--group", "none", "--window", "24h")
    header, line = done.out.splitlines()
    assert header.split("\t")[:2] == ["NAME", "PENDING"]
    assert (len(line.split("\t")), done.err) == (10, "")
    assert json.loads(here("stats", "--json").out)["window"] == "1h"


def test_the_audit_log_is_listed(here: Here) -> None:
    here("queue", "pause", "audited")
    here("queue", "resume", "audited")
    line = here("audit", "ls", "--limit", "1").out.split("\t")
    assert line[3:5] == ["change_queue", "audited"]


def test_a_terminal_gets_tables_and_bars(service: Server) -> None:
    with on_terminal("stats", env={"TASKER_URL": service.url}) as terminal:
        assert terminal.end() == 0
        assert "COMPLETED" in terminal.shown
        assert "in steps of 1 min" in terminal.shown
