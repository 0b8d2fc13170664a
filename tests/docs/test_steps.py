"""The examples of docs/steps.md run as its text says, on a real service that is killed on the way."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docs.kills import OTHER_SIDE
from tests.docs.model_server import ModelServer
from tests.server import Server, clean_environment, run_server
from tests.steps.house import Home

PAGE = (Path(__file__).parents[2] / "docs" / "steps.md").read_text()
NAMED = re.compile(r"# (\w+\.py)\n")
EXAMPLES = ["agent.py", "first.py", "nightly.py", "order.py", "pages.py", "saga.py"]
LIMIT = 60.0

pytestmark = [pytest.mark.crash, pytest.mark.timeout(150)]


def modules() -> dict[str, str]:
    """Return the page's Python by file: an example has its own, what comes before the examples shares one."""
    found: dict[str, str] = {}
    for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        named = NAMED.match(text)
        name = named[1] if named else "first.py"
        found[name] = found[name] + "\n\n" + text if name in found else text
    return found


class Reader:
    """A reader of the page who saves its examples in a folder and starts a service with one of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def serve(self, name: str, **env: str) -> Iterator[tuple[Home, Server]]:
        """Start the service with an example; what it calls on the other side are files of this folder."""
        text = modules()[name] + OTHER_SIDE.get(name, "")
        (self.folder / name).write_text(text)
        with run_server(self.folder, name, env=env) as server, Home(server) as home:
            (self.folder / "service.pid").write_text(str(server.process.pid))
            yield home, server

    def kill_at(self, point: str) -> None:
        """Let the service be killed once, when it comes to this point."""
        (self.folder / f"{point}.kill").touch()

    def done(self) -> list[str]:
        """Return what reached the other side, in order."""
        file = self.folder / "done.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as model:
        yield model


def wait_for_death(server: Server) -> None:
    assert server.process.wait(LIMIT) == -9


def keys_of(task: dict[str, Any]) -> list[str]:
    return [step["key"] for step in task["steps"]]


def test_these_are_all_the_examples() -> None:
    assert sorted(modules()) == EXAMPLES


@pytest.mark.long
@pytest.mark.timeout(120)
def test_types_of_the_examples(tmp_path: Path) -> None:
    for name, text in modules().items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *EXAMPLES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_order_is_charged_once(reader: Reader) -> None:
    """Killed after the card is charged and before that is stored, and once more while it cools off."""
    reader.kill_at("charged")
    with reader.serve("order.py") as (home, server):
        task_id = home.submit("order", "shoes", 4200, "ada@example.com")
        wait_for_death(server)
    with reader.serve("order.py") as (home, server):
        home.until(task_id, lambda task: task["reason"] == "sleeping")
        server.kill()
    with reader.serve("order.py") as (home, _):
        done = home.end(task_id)
    assert done["result"] == {
        "payment": "paid 4200 cents",
        "mail": "mailed ada@example.com: shoes: paid 4200 cents",
    }
    assert reader.done() == [f"{task_id} charge"] * 2, "the provider was asked again with the same key"
    assert keys_of(done) == ["charge", "cool off", "send_mail"]
    assert done["children"]["completed"] == 1


@pytest.mark.long
def test_a_thousand_pages_with_a_damaged_one(reader: Reader) -> None:
    with reader.serve("pages.py") as (home, _):
        task_id = home.submit("book", 1000)
        home.until(task_id, lambda task: task["status"] == "running")
        done = home.end(task_id)
    assert done["status"] == "completed", done
    assert done["result"] == {"pages": 999, "bytes": 1000 * (sum(range(1000)) - 13), "damaged": 1}
    counts = {"pending": 0, "running": 0, "completed": 999, "failed": 1, "cancelled": 0}
    assert done["children"] == counts


@pytest.mark.long
async def test_an_agent_pays_for_no_answer_twice(reader: Reader, model: ModelServer) -> None:
    says = [("look_up", "order 7"), ("refund", "42 dollars"), ("answer", "It is refunded.")]
    model.texts = [json.dumps({"tool": tool, "text": text}) for tool, text in says]
    done = await model.run_beside(_ask_the_agent, reader, model)
    assert (done["status"], done["result"]) == ("completed", "It is refunded."), done
    assert len(model.bodies) == 3
    assert "refunded" in json.dumps(model.bodies[-1])
    assert "delivered broken" in json.dumps(model.bodies[1])


def _ask_the_agent(reader: Reader, model: ModelServer) -> dict[str, Any]:
    """Kill the service while a person is asked, and answer after that."""
    env = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": model.url}
    with reader.serve("agent.py", **env) as (home, server):
        task_id = home.submit("support", "My order 7 came broken")
        asks = home.until(task_id, lambda task: task["reason"] == "input_required")
        assert asks["input"]["message"] == "Refund 42 dollars?"
        server.kill()
    with reader.serve("agent.py", **env) as (home, _):
        home.answer(task_id, "refund", "yes")
        return home.end(task_id)


@pytest.mark.long
def test_an_import_goes_on_where_it_was(reader: Reader) -> None:
    reader.kill_at("rows from 500")
    with reader.serve("nightly.py") as (home, server):
        task_id = home.submit("nightly", 10)
        wait_for_death(server)
    with reader.serve("nightly.py") as (home, _):
        done = home.end(task_id)
    assert (done["status"], done["result"]) == ("completed", 1000), done
    twice = {what for what, times in Counter(reader.done()).items() if times > 1}
    assert twice == {"rows from 500"}
    assert len(reader.done()) == 102, "100 chunks, the one after the last, and the one that was read again"
    assert done["progress"]["current"] == 1000


@pytest.mark.parametrize("dies", [False, True], ids=["", "killed while it undoes"])
def test_a_saga_undoes_in_reverse_order(reader: Reader, dies: bool) -> None:
    if dies:
        reader.kill_at("cancelled car in Atlantis")
        with reader.serve("saga.py") as (home, server):
            task_id = home.submit("trip", "Atlantis")
            wait_for_death(server)
    with reader.serve("saga.py") as (home, _):
        good = home.end(home.submit("trip", "Rome"))
        failed = home.end(task_id if dies else home.submit("trip", "Atlantis"))
    assert good["result"] == ["flight to Rome", "car in Rome", "hotel in Rome"]
    assert failed["status"] == "failed"
    undone = "cancelled car in Atlantis, cancelled flight to Atlantis"
    assert failed["error"]["detail"] == f"no trip to Atlantis: there is no hotel; {undone}"
    assert keys_of(failed)[3:] == ["undo car in Atlantis", "undo flight to Atlantis"]
    undos = [what for what in reader.done() if "Atlantis" in what]
    assert undos == ["cancelled car in Atlantis"] * (1 + dies) + ["cancelled flight to Atlantis"]


def test_the_first_task_goes_on_after_a_kill(tmp_path: Path, unused_tcp_port: int) -> None:
    [commands] = re.findall(r"```bash\n(tasker serve first.py.*?)```", PAGE, re.DOTALL)
    (tmp_path / "first.py").write_text(modules()["first.py"])
    port = str(unused_tcp_port)
    patient = commands.replace(" &\n", " >>log 2>&1 &\nuntil tasker healthcheck; do kill -0 $!; done\n")
    env = {"TASKER_PORT": port, "TASKER_URL": f"http://127.0.0.1:{port}"}
    printed = _type(f"trap 'kill $!' EXIT\n{patient}", tmp_path, **env)
    assert printed.splitlines()[-1] == "receipt of shoes: 4200 cents"


def test_the_first_steps_and_both_ways_to_answer(reader: Reader) -> None:
    [curl] = re.findall(r"^curl .*?input.*?\n(?:  .*\n)*", PAGE, re.MULTILINE)
    [command] = re.findall(r"`(tasker input .*?)`", PAGE)
    with reader.serve("first.py") as (home, server):
        first = home.submit("first_steps", "shoes", 4200)
        asking = [home.submit("ship", order) for order in ("shoes", "hats")]
        for task_id, answer in zip(asking, (curl, command), strict=True):
            asks = home.until(task_id, lambda task: task.get("input"))
            assert asks["input"]["message"].startswith("Ship ")
            _type(
                answer.replace("http://localhost:5000", server.url),
                reader.folder,
                TASK_ID=task_id,
                TASKER_URL=server.url,
            )
        assert [home.end(task_id)["result"] for task_id in asking] == ["shipped, says Ada"] * 2
        same, other = ({"name": "approve", "value": {"approved": True, "by": who}} for who in ("Ada", "Bob"))
        codes = [home.post(f"/task/{asking[0]}/input", body).status_code for body in (same, other)]
        done = home.end(first)
    assert codes == [200, 409]
    assert done["result"] == "receipt of shoes: 4200 cents"


def _type(command: str, folder: Path, **env: str) -> str:
    """Type a command of the page into a shell; return what it prints."""
    bin_ = Path(sys.executable).parent
    environment = clean_environment(**env)
    environment["PATH"] = f"{bin_}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", command.replace("curl ", "curl -sS --fail-with-body ")],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout
