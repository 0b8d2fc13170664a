"""`tasker serve`: its flags, its banner, and how it refuses to start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

import httpx2
import pytest

from tasker.cli import ports
from tasker.config.loading import describe_settings
from tasker.errors import ConfigError
from tests.cli.command import on_terminal, tasker
from tests.postgres import Cluster
from tests.server import clean_environment, held_port, run_server

OWN_TASK = "from tasker import task\n@task\ndef own() -> int:\n    return 1\n"


@pytest.fixture(params=["127.0.0.1", "::1"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that is taken on one of the addresses of localhost."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as holder:
        yield holder.getsockname()[1]


def test_the_banner_names_address_tasks_data_and_access(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_TASK)
    with run_server(tmp_path, "own.py", env={"OPENAI_API_KEY": "sk-not-to-be-shown"}) as server:
        later = ["run", "sum", "4", "2", "--delay", "3600", "--detach", "--url", server.url]
        assert tasker(*later).code == 0
        shown = server.text().splitlines()
        assert shown[0].startswith("Tasker ")
        assert f"runs at {server.url} (try it at {server.url}/docs)" in shown[0]
        assert "  tasks: sum, reverse, gpt (built in); own (own.py)" in shown
        assert any(line.startswith("  gpt: OpenAI, ") and "billed to your key" in line for line in shown)
        assert f"  data: {server.data_dir}/tasker.db (no open tasks)" in shown
        assert "  access: from this machine only, without a key" in shown
    with run_server(tmp_path, env={"TASKER_TOKEN": "a-token-not-to-be-shown"}) as server:
        assert f"  data: {server.data_dir}/tasker.db (1 scheduled)" in server.text()
        assert "  access: with the token of TASKER_TOKEN" in server.text()
        assert "not-to-be-shown" not in server.text()


WITHOUT_A_FLAG = {"TASKER_WORKER", "TASKER_WEBHOOK_INSECURE"}
"""The flag of the first is --no-worker; the second has none, for safety."""


def test_every_setting_but_the_secret_ones_has_a_flag() -> None:
    help = tasker("serve", "--help").out
    assert " --no-worker " in help
    for setting in describe_settings():
        assert (setting.flag is None) == (setting.expected.secret or setting.variable in WITHOUT_A_FLAG)
        assert setting.flag is None or f" {setting.flag} " in help


def test_flags_and_targets_reach_the_service(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_TASK)
    (tmp_path / "more.py").write_text(OWN_TASK.replace("own", "more"))
    (tmp_path / "left_out.py").write_text(OWN_TASK.replace("own", "left_out"))
    args = ["own.py", "--tasks", "more.py", "--log-format", "text"]
    with run_server(tmp_path, *args, host="localhost", env={"TASKER_TASKS": "left_out.py"}) as server:
        assert tasker("run", "more", "--url", server.url).out == "1\n"
        assert "own (own.py); more (more.py)" in server.text()
        assert "left_out" not in server.text()


@pytest.mark.parametrize(
    ("args", "env", "said"),
    [
        (["--port", "abc"], {}, "--port: expected a port from 0 to 65535 (0: any free one), got 'abc'"),
        ([], {"TASKER_PORTS": "1"}, "TASKER_PORTS: expected a setting of Tasker, got an unknown name"),
        (["--host", "0.0.0.0"], {}, "set TASKER_TOKEN to a secret of 16 or more characters, or TASKER_AUTH=off"),
        (["--host", "no-such-host.invalid"], {"TASKER_AUTH": "off"}, "TASKER_HOST: expected an address or host name"),
        (["--no-such-flag"], {}, "--no-such-flag"),
        (["no_such_file.py"], {}, "no_such_file.py: there is no such file"),
    ],
)
def test_a_wrong_start_is_refused_with_the_reason(
    args: list[str], env: dict[str, str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN_TASK)
    port = [] if "--port" in args else ["--port", "0"]
    done = tasker("serve", *port, *args, env=env, folder=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert said in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err


def _file_as_folder(folder: Path) -> None:
    folder.write_text("")


def _folder_as(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).mkdir(parents=True)


def _file_as(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / name).write_text("These are my notes.")

    return write


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_file_as_folder, "TASKER_DATA_DIR: expected a folder that can be made"),
        (_file_as("tasker.db"), "expected a Tasker database that can be read and written, got file is not a database"),
        (_folder_as("tasker.db"), "tasker.db: expected a Tasker database that can be read and written"),
        (_folder_as("tasker.db-wal"), "tasker.db: expected a Tasker database that can be read and written"),
        (_folder_as("tasker.lock"), "tasker.lock: expected a plain file, got a link, a folder or the like"),
        (_file_as("results"), "Not a directory"),
    ],
)
def test_a_data_folder_that_cannot_be_used_is_one_line(make: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    make(folder)
    for command in (["serve", "--port", "0"], ["migrate"]):
        done = tasker(*command, "--data-dir", str(folder), folder=tmp_path)
        assert (done.code, done.out) == (2, ""), done.err
        assert said in done.err
        assert done.err.count("\n") == 1, done.err


def test_only_the_owner_may_read_what_a_service_writes(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(
        "from tasker import task\n@task\ndef large(size: int) -> str:\n    print('said')\n    return 'x' * size\n"
    )
    open_to_all = ("sh", "-c", 'umask 0; exec "$@"', "sh")
    with run_server(tmp_path, "tasks.py", under=open_to_all) as server:
        assert tasker("run", "large", "300000", "--url", server.url).out == "x" * 300_000 + "\n"
        found = {path.relative_to(tmp_path): path.stat().st_mode & 0o777 for path in server.data_dir.rglob("*")}
        found[Path("data")] = server.data_dir.stat().st_mode & 0o777
    assert any(path.parts[:2] == ("data", "results") and len(path.parts) == 3 for path in found), (
        "no result was spilled"
    )
    is_folder = {Path("data"), Path("data/results")}
    assert {path: mode for path, mode in found.items() if mode != (0o700 if path in is_folder else 0o600)} == {}


def test_a_broken_file_stops_nothing_and_is_named_everywhere(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "own.py").write_text(OWN_TASK)
    (tasks / "same.py").write_text(OWN_TASK)
    (tasks / "broken.py").write_text("import no_such_module\n" + OWN_TASK.replace("own", "broken"))
    with run_server(tmp_path, "tasks", "--log-format", "text") as server:
        assert tasker("run", "own", "--url", server.url).out == "1\n"
        refused = httpx2.post(f"{server.url}/task", json={"type": "broken"})
        ready = httpx2.get(f"{server.url}/readyz")
        text = server.text()
    fault = "tasks/broken.py:1: import failed: ModuleNotFoundError: No module named 'no_such_module'"
    taken = "same.py:2: own: the name 'own' is taken by own at tasks/own.py:2"
    assert (refused.status_code, refused.json()["type"]) == (503, "/problems/type-not-loaded")
    assert fault in refused.json()["detail"]
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert fault in ready.json()["checks"]["tasks"]
    assert taken in ready.json()["checks"]["tasks"]
    assert "NOT LOADED: " in text
    assert fault in text
    assert text.count("tasks.not_loaded") == 2
    assert "Traceback" not in text


def test_stored_tasks_wait_until_their_file_is_repaired(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(OWN_TASK.replace("own", "good"))
    (tmp_path / "own.py").write_text(OWN_TASK)
    with run_server(tmp_path, "own.py") as server:
        assert httpx2.patch(f"{server.url}/queue/default", json={"paused": True}).status_code == 200
        task_id = httpx2.post(f"{server.url}/task", json={"type": "own"}).json()["task_id"]
    (tmp_path / "own.py").write_text("import nothing\n" + OWN_TASK)
    with run_server(tmp_path, "own.py", "good.py") as server:
        assert httpx2.patch(f"{server.url}/queue/default", json={"paused": False}).status_code == 200
        assert httpx2.post(f"{server.url}/task?wait=20", json={"type": "good"}).json()["status"] == "completed"
        assert httpx2.get(f"{server.url}/task/{task_id}").json()["status"] == "pending"
    (tmp_path / "own.py").write_text(OWN_TASK)
    with run_server(tmp_path, "own.py") as server:
        assert httpx2.get(f"{server.url}/task/{task_id}?wait=20").json()["result"] == 1


def test_a_second_service_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with run_server(tmp_path) as server:
        done = tasker("serve", "--port", "0", "--data-dir", str(server.data_dir))
    assert done.code == 2
    assert str(server.process.pid) in done.err
    assert "Traceback" not in done.err


def test_another_port_is_offered_if_one_is_taken(taken: int, tmp_path: Path) -> None:
    done = tasker("serve", "own.py", f"--port={taken}", "--slots", "4", folder=tmp_path)
    assert (done.code, done.out) == (6, "")
    assert f"Port {taken} is taken" in done.err
    other = done.err.split()[-1]
    assert done.err.rstrip().endswith(f"tasker serve own.py --slots 4 --port {other}")
    assert int(other) != taken


@pytest.mark.parametrize(("answer", "starts"), [("y", True), ("", True), ("n", False)])
def test_on_a_terminal_one_key_accepts_the_other_port(answer: str, starts: bool, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        args = ["serve", "--port", str(holder.getsockname()[1])]
        with on_terminal(*args, env={"TASKER_LOG_FORMAT": "text"}, folder=tmp_path) as terminal:
            other = terminal.wait_for("instead? [Y/n] ").split("Use port ")[1].split()[0]
            terminal.press(f"{answer}\n")
            if starts:
                terminal.wait_for(f"runs at http://127.0.0.1:{other} ")
                terminal.wait_for("stop: Ctrl-C")
                terminal.press("\x03")
            assert terminal.end() == (0 if starts else 6)


def test_ports_of_either_localhost_count(taken: int) -> None:
    for host in ("127.0.0.1", "::1", "0.0.0.0", "::"):
        assert ports.claim(host, taken) is None
        with ports.claim_after(host, taken) as other:
            assert other.port != taken


def test_a_port_that_is_bound_and_does_not_answer_counts() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        assert ports.claim("127.0.0.1", holder.getsockname()[1]) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_a_port_is_claimed_once_before_anything_listens_there(host: str) -> None:
    with held_port() as port:
        with claimed(host, port):
            assert ports.claim(host, port) is None
            with ports.claim_after(host, port) as other:
                assert other.port != port
        claimed(host, port).close()
    with claimed(host, 0) as first, claimed(host, 0) as second:
        assert 0 != first.port != second.port != 0


def test_a_server_can_claim_its_port_again_at_once() -> None:
    """Connections that a server leaves in TIME_WAIT do not block the next one."""
    with held_port() as port:
        with claimed("127.0.0.1", port) as claim:
            claim.socket.listen()
            with socket.create_connection(("127.0.0.1", port)) as caller:
                claim.socket.accept()[0].close()
                assert caller.recv(1) == b""
        claimed("127.0.0.1", port).close()


def claimed(host: str, port: int) -> ports.Claim:
    claim = ports.claim(host, port)
    assert claim is not None
    return claim


CLAIM = """
import sys, time
from tasker.cli import ports
print("ready", flush=True)
sys.stdin.readline()
claim = ports.claim("127.0.0.1", int(sys.argv[1]))
print("mine" if claim else "taken", flush=True)
sys.stdin.readline()
"""


@pytest.mark.long
def test_of_twenty_processes_that_claim_a_port_at_once_one_gets_it() -> None:
    with held_port() as port, ExitStack() as stack:
        command = [sys.executable, "-c", CLAIM, str(port)]
        racers = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(20)
        ]
        assert {_line(racer) for racer in racers} == {"ready\n"}
        for racer in racers:
            _go(racer)
        said = Counter(_line(racer) for racer in racers)
        for racer in racers:
            _go(racer)
    assert said == {"mine\n": 1, "taken\n": 19}


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_services_that_start_at_once_on_one_port_one_runs(tmp_path: Path) -> None:
    with held_port() as port, ExitStack() as stack:
        racers = [_start(stack, tmp_path / str(number), "serve", "--port", str(port)) for number in range(4)]
        limit = monotonic() + 60
        while sum(racer.poll() is None for racer in racers) > 1:
            assert monotonic() < limit, "more than one goes on"
            sleep(0.05)
        [winner] = [racer for racer in racers if racer.poll() is None]
        said = [(racer.returncode, racer.communicate()[1]) for racer in racers if racer is not winner]
        assert winner.stderr is not None
        assert f"runs at http://127.0.0.1:{port} " in winner.stderr.readline()
        winner.terminate()
        assert winner.wait(60) == 0
    for code, text in said:
        assert (code, text.count(f"Port {port} is taken"), "Traceback" in text) == (6, 1, False)
        assert "Free it, or use another: tasker serve --port " in text


def _start(stack: ExitStack, folder: Path, *args: str, **env: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "tasker", *args],
            cwd=folder, env=clean_environment(**env), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
    )  # fmt: skip
    stack.callback(process.kill)
    return process


LISTENS = f"""
import contextlib, os, socket
with contextlib.suppress(OSError):  # a child that runs tasks finds the port taken
    held = socket.create_server(("127.0.0.1", int(os.environ["TAKEN"])))
{OWN_TASK}"""


def test_a_port_that_is_taken_while_the_service_starts_is_reported_too(tmp_path: Path) -> None:
    """The task file listens there: it is loaded after the claim, and before the service listens."""
    (tmp_path / "listens.py").write_text(LISTENS)
    with held_port() as port:
        done = tasker("serve", "listens.py", "--port", str(port), env={"TAKEN": str(port)}, folder=tmp_path)
    assert (done.code, done.out) == (6, "")
    assert f"Port {port} is taken" in done.err
    assert "Free it, or use another: tasker serve listens.py --port " in done.err
    assert "Traceback" not in done.err


def test_the_banner_names_a_port_chosen_by_the_system(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = _start(stack, tmp_path, "serve", "--port", "0")
        assert server.stderr is not None
        port = server.stderr.readline().partition("runs at http://127.0.0.1:")[2].split()[0]
        assert json.loads(tasker("healthcheck", env={"TASKER_PORT": port}).out)["ready"]
        server.terminate()
        assert server.wait(60) == 0


GATED = """
from pathlib import Path
from time import sleep
from tasker import task
@task
def gated(gate: str) -> str:
    print("begun")
    while not Path(gate).exists():
        sleep(0.02)
    print("ends")
    return "through"
"""


def test_a_closed_terminal_drains_the_service(tmp_path: Path) -> None:
    """Running tasks may end; log lines are dropped meanwhile."""
    (tmp_path / "gated.py").write_text(GATED)
    gate, settings = tmp_path / "gate", {"TASKER_LOG_LEVEL": "debug", "TASKER_LOG_FORMAT": "text"}
    with held_port() as port:
        service = {"TASKER_URL": f"http://127.0.0.1:{port}"}
        serve = ["serve", "gated.py", "--port", str(port), "--data-dir", "data"]
        with on_terminal(*serve, env=settings, folder=tmp_path) as terminal:
            terminal.wait_for("stop: Ctrl-C")
            task_id = tasker("run", "gated", str(gate), "--detach", env=service).out.strip()
            _until(lambda: '"running"' in tasker("get", task_id, "--json", env=service).out)
            terminal.hang_up()
            _until(lambda: tasker("healthcheck", env={"TASKER_PORT": str(port)}).code != 0)
            os.kill(
                terminal.process.pid, signal.SIGHUP
            )  # the shell sends it too when it ends; it must not count as a second signal
            gate.touch()
            assert terminal.process.wait(60) == 0
    with run_server(tmp_path, "gated.py") as server:
        task = json.loads(tasker("get", task_id, "--json", "--url", server.url).out)
    assert (task["status"], task["result"], task["attempt"]) == ("completed", "through", 1)


def test_a_closed_terminal_does_not_stop_a_service_under_nohup(tmp_path: Path) -> None:
    with held_port() as port:
        with on_terminal("serve", "--port", str(port), folder=tmp_path, under=("nohup",)) as terminal:
            health = {"TASKER_PORT": str(port)}
            _until(lambda: tasker("healthcheck", env=health).code == 0)
            terminal.hang_up()
            os.kill(terminal.process.pid, signal.SIGHUP)
            assert [tasker("healthcheck", env=health).code for _ in range(3)] == [0, 0, 0]
            terminal.process.terminate()
            assert terminal.process.wait(60) == 0


def _until(is_so: Callable[[], bool]) -> None:
    limit = monotonic() + 60
    while not is_so():
        assert monotonic() < limit
        sleep(0.02)


def test_a_worker_prints_where_its_probes_are(tmp_path: Path, cluster: Cluster) -> None:
    with ExitStack() as stack:
        database = {"TASKER_DATABASE_URL": cluster.fresh_database()}
        worker = _start(stack, tmp_path, "worker", "--port", "0", **database)
        assert worker.stderr is not None
        probes = next(line for line in worker.stderr if line.startswith("  probes: "))
        port = probes.removesuffix("/readyz\n").rpartition(":")[2]
        assert json.loads(tasker("healthcheck", env={"TASKER_PORT": port}).out)["ready"]
        worker.terminate()
        assert worker.wait(60) == 0


def test_the_holder_of_a_port_is_named_if_it_can_be_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        assert f"(process {os.getpid()})" in ports.describe_holder(holder.getsockname()[1])
    with held_port() as nobody:
        assert ports.describe_holder(nobody) == ""


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1 at port 5000"):
        ports.claim("192.0.2.1", 5000)


def test_names_are_resolved_to_addresses() -> None:
    assert ports.resolve("localhost") == "127.0.0.1"
    assert ports.resolve("[::1]") == "::1"
    with pytest.raises(ConfigError, match="no-such-host"):
        ports.resolve("no-such-host.invalid")
