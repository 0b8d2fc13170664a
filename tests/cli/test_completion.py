"""Words that are completed at TAB, in real shells."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasker.cli import main
from tasker.client import SubmitOptions, Tasker
from tests.cli.command import Terminal
from tests.server import Server, clean_environment

BEGUN = "\n\x1fbegin\n"
Find = Callable[..., list[str]]
ODD = "odd $(echo gone); name"


@pytest.fixture
def find(service: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Find:
    """Return what may stand in the place of the last word, without descriptions."""
    monkeypatch.setenv("TASKER_URL", service.url)

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("CYCLOPTS_COMPLETION_WORDS", "".join(f"{word}\x1f" for word in words))
        assert main(["__complete"]) == 0
        out = capsys.readouterr().out
        assert out.startswith(BEGUN)
        return [line.partition("\t")[0] for line in out.removeprefix(BEGUN).splitlines()]

    return ask


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ru"], ["run"]),
        (["run", "su"], ["sum"]),
        (["run", "reverse", "su"], []),
        (["type", "show", "su"], ["sum"]),
        (["ls", "--type", "su"], ["sum"]),
        (["ls", "--type=su"], ["\x1fprefix", "sum"]),
        (["ls", "--ty"], ["--type"]),
        (["ls", "--status", "c"], ["completed", "cancelled"]),
        (["bulk", "retry", "--status", "failed,ca"], ["failed,cancelled"]),
        (["bulk", "retry", "--status", "failed,fa"], []),
        (["ls", "--status=fa"], ["\x1fprefix", "failed"]),
        (["run", "wait_for_file", "--fi"], ["--file"]),
        (["queue", "pau"], ["pause"]),
        (["stats", "--window", "1"], ["15m", "1h"]),
        (["batch", "rows"], ["\x1ffiles"]),
        (["batch", "rows.csv", "--format", "c"], ["csv"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["nothing", ""], []),
        (["run", "--url", "http://127.0.0.1:1", "su"], []),
        (["run", "--profile", "nobody", "su"], []),
    ],
)
def test_what_may_stand_there(words: list[str], expected: list[str], find: Find) -> None:
    assert find(*words) == expected


def test_names_of_a_service_are_offered(find: Find, service: Server) -> None:
    with Tasker(service.url) as client:
        client.submit("sum", 1, 2, options=SubmitOptions(queue="completed-here", delay=3600, group="completed-group"))
        task = {"type": "sum", "params": [1, 2]}
        made = [client.schedules.create(f"completed {name}", task, interval=3600) for name in ("schedule", "\x9b31m")]
        client.submit("sum", 1, 2, options=SubmitOptions(queue="completed-there", delay=3600))
        try:
            assert find("queue", "pause", "completed-h") == ["completed-here"]
            assert find("run", "sum", "--queue", "completed-") == ["completed-here", "completed-there"]
            assert find("group", "show", "completed-g") == ["completed-group"]
            assert find("schedule", "show", "completed") == ["completed schedule"], "none that steers a terminal"
        finally:
            for schedule in made:
                client.schedules.delete(schedule.schedule_id)


@contextmanager
def shell(*command: str, folder: Path, service: Server) -> Iterator[Terminal]:
    """Run an interactive shell on a terminal; `tasker` is this one."""
    screen, inner = pty.openpty()
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = clean_environment(TASKER_URL=service.url, PATH=paths, HOME=str(folder), TERM="xterm", COLUMNS="120")
    process = subprocess.Popen(
        command, env=env, cwd=folder, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    os.close(inner)
    terminal = Terminal(process, screen)
    try:
        yield terminal
    finally:
        process.kill()
        process.wait()
        terminal.close()


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(tasker completion bash)"; PS1=""'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -D -u; eval "$(tasker completion zsh)"; PS1=""'),
}
CLEAR = "\x15"
PRESSED = [
    ("tasker batc\t", "tasker batch"),
    ("rows\t", r"rows\ of\ mine.csv"),
    (f"{CLEAR}tasker stats --window=2\t", "--window=24h"),
    (f"{CLEAR}tasker schedule show odd\t", r"odd\ \$\(echo\ gone\)\;\ name"),
]


@pytest.fixture
def odd_name(service: Server) -> Iterator[None]:
    """A schedule whose name a shell would run."""
    with Tasker(service.url) as client:
        made = client.schedules.create(ODD, {"type": "sum", "params": [1, 2]}, interval=3600)
        yield
        client.schedules.delete(made.schedule_id)


@pytest.mark.usefixtures("odd_name")
@pytest.mark.parametrize("name", SHELLS)
def test_a_shell_completes_at_tab(name: str, service: Server, tmp_path: Path) -> None:
    command, begin = SHELLS[name]
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    (tmp_path / "rows of mine.csv").write_text("")
    with shell(*command, folder=tmp_path, service=service) as terminal:
        terminal.press(f"{begin}; echo re''ady\n")
        terminal.wait_for("ready")
        for keys, shown in PRESSED:
            terminal.press(keys)
            terminal.wait_for(shown)


@pytest.mark.usefixtures("odd_name")
def test_fish_completes(service: Server, tmp_path: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    (tmp_path / "rows.csv").write_text("")
    asked = ["tasker batc", "tasker batch ro", "tasker stats --window=2", "tasker schedule show odd"]
    script = "tasker completion fish | source; " + "; ".join(f"complete -C '{line}'" for line in asked)
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = clean_environment(TASKER_URL=service.url, PATH=paths, HOME=str(tmp_path), TERM="xterm")
    done = subprocess.run(["fish", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert lines == ["batch", "rows.csv", "--window=24h", ODD]
