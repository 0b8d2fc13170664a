"""The code blocks of pages: which of them are run, by whom, and how.

A page may say in one comment what its blocks need:

    <!-- snippets: serve shop.py -->                    a service of its own with these files, which are blocks of it
    <!-- snippets: no service -->                       nothing
    <!-- snippets: tested by tests/docs/test_x.py -->   another module runs them

Without it they run beside the service of README.md, with its task files. ` long` before the end of the comment leaves a
page to `make test-all`. The blocks of a page run in order, in one folder; their language says what becomes of them:

    bash                a shell runs it; it must end well, and no reply may be a problem
    python              a program; if its first line names a file (`# shop.py`), it is saved as that file instead
    json, jsonl, text, http
                        directly below one of these: what it prints (of replies the last); `...` for more members
    json, jsonl, py     by itself: must be JSON; on each line; must compile
    all in SHOWN        never run
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.docs import readme
from tests.docs.readme import Block
from tests.server import Server, clean_environment

SHOWN = {"diff", "ini", "js", "nginx", "shell", "sql", "toml", "ts", "yaml", "text", "http", "dockerfile"}
"""Languages of blocks that are not run. `shell`: what needs another machine, a server to install, somebody's keys."""
_NAMED = re.compile(r"# ([\w/]+\.(?:py|toml|ini|cfg))\n")
_NEEDS = re.compile(r"<!-- snippets: (.*?) -->")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME_LIMIT = 90


class Needs(NamedTuple):
    """What a page's comment says. serve: files of its own service; None: that of README.md."""

    serve: tuple[str, ...] | None = None
    has_service: bool = True
    tested_by: str | None = None
    is_long: bool = False


class Page:
    """A page of docs/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        text = path.read_text(encoding="utf-8")
        self.blocks = list(readme.blocks(text))
        self.examples = readme.examples(self.blocks)
        said = _NEEDS.findall(text)
        assert len(said) <= 1, f"{self.name}: expected one comment about snippets, got {said}"
        self.needs = _read_needs(said[0]) if said else Needs()

    @property
    def files(self) -> dict[str, str]:
        """The blocks that name a file, by its name; several of one file belong together."""
        found: dict[str, str] = {}
        for block in self.blocks:
            if named := _named(block):
                found[named] = f"{found[named]}\n\n{block.text}" if named in found else block.text
        return found

    @property
    def programs(self) -> list[readme.Example]:
        """The examples that are run, in order."""
        return [one for one in self.examples if _NAMED.match(one.text) is None]

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with blocks that are not run: an unknown language, no JSON, no Python."""
        outputs = [example.output for example in self.examples if example.output is not None]
        for block in self.blocks:
            fault = None if block in outputs else _fault_of(block)
            if fault is not None:
                yield f"{self.name}: {fault}: {block.text[:60]!r}"


class Reader:
    """Somebody who types the examples of a page in order, in one folder, with one service."""

    def __init__(self, folder: Path, server: Server | None) -> None:
        self.server = server
        self.folder = folder
        self._ids: dict[str, str] = {}
        (folder / ".venv").symlink_to(sys.prefix)

    def faults_of(self, example: readme.Example, *, inside: bool = False) -> list[str]:
        """Run an example and return the differences between its output and the page.

        inside: run a Python program in this process, which takes a fraction of the time.
        """
        printed = self._exec(example) if inside and example.language == "python" else self._run(example)
        if example.output is None:
            return [f"refused: {reply}" for reply in _replies(printed) if "/problems/" in str(reply.get("type"))]
        match example.output.language:
            case "json":
                return self._compare(readme.read_json(example.output.text), list(_replies(printed))[-1])
            case "jsonl":
                shown, real = (
                    [readme.read_json(line) for line in _UUID.sub("UUID", text).splitlines()]
                    for text in (example.output.text, printed)
                )
                return readme.differences(shown, real)
            case "http":
                last = _UUID.sub("UUID", printed[printed.rindex("HTTP/1.1") :]).splitlines()
                return [line for line in _UUID.sub("UUID", example.output.text).splitlines() if line not in last]
        return [] if _mask(printed) == _mask(example.output.text) else [printed]

    def environment(self) -> dict[str, str]:
        """Return the environment of the commands."""
        tools = Path(sys.executable).parent
        home = str(self.folder)
        found = clean_environment(PATH=f"{tools}{os.pathsep}{os.environ['PATH']}", HOME=home, XDG_CONFIG_HOME=home)
        return found if self.server is None else found | {"TASKER_URL": self.server.url}

    def _run(self, example: readme.Example) -> str:
        text = self._real(example.text)
        command = [sys.executable, "-c", text] if example.language == "python" else ["bash", "-euc", _patient(text)]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=_TIME_LIMIT,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{example.name}\n{done.stdout}\n{done.stderr}"
        return self._shown(done.stdout)

    def _exec(self, example: readme.Example) -> str:
        printed = io.StringIO()
        code = compile(self._real(example.text), example.name, "exec")
        own = {path.stem for path in self.folder.iterdir()}
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in own}
        before = set(sys.modules)  # other tests have modules of the same names
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            patch.chdir(self.folder)
            patch.syspath_prepend(str(self.folder))
            for name, value in self.environment().items():
                patch.setenv(name, value)
            try:
                exec(code, {"__name__": "__main__"})
            finally:
                for name in set(sys.modules) - before:
                    if str(getattr(sys.modules[name], "__file__", "")).startswith(str(self.folder)):
                        del sys.modules[name]
                sys.modules.update(hidden)
        return self._shown(printed.getvalue())

    def _shown(self, printed: str) -> str:
        return printed if self.server is None else printed.replace(f"localhost:{self.server.port}", "localhost:5000")

    def _real(self, text: str) -> str:
        """Replace the page's address and ids by those of the real service."""
        text = self._with_ids(text)
        return text if self.server is None else text.replace("localhost:5000", f"localhost:{self.server.port}")

    def _with_ids(self, text: str) -> str:
        for shown, real in self._ids.items():
            text = text.replace(shown, real)
        return text

    def _compare(self, shown: Any, real: Any) -> list[str]:
        if isinstance(shown, dict) and "task_id" in shown and shown["task_id"] not in self._ids:
            self._ids[shown["task_id"]] = real["task_id"]
        return readme.differences(json.loads(self._with_ids(json.dumps(shown))), real)


def pages() -> list[Page]:
    """Return every page of docs/."""
    return [Page(path) for path in sorted((readme.PROJECT / "docs").glob("*.md"))]


def _read_needs(said: str) -> Needs:
    is_long = said.endswith(" long")
    words = said.removesuffix(" long").split()
    match words:
        case ["serve", *files] if files:
            return Needs(serve=tuple(files), is_long=is_long)
        case ["no", "service"]:
            return Needs(has_service=False, is_long=is_long)
        case ["tested", "by", module]:
            return Needs(tested_by=module, is_long=is_long)
        case [] | ["long"]:
            return Needs(is_long=True)
    raise AssertionError(f"expected a comment as tests/docs/snippets.py has it, got {said!r}")


def _named(block: Block) -> str | None:
    found = _NAMED.match(block.text) if block.language in {"python", "toml", "ini"} else None
    return None if found is None else found[1]


def _fault_of(block: Block) -> str | None:
    try:
        if block.language == "json":
            readme.read_json(block.text)
        elif block.language == "jsonl":
            [readme.read_json(line) for line in block.text.splitlines()]
        elif block.language in {"python", "py"}:
            compile(block.text, "block", "exec", dont_inherit=True)
        elif block.language not in SHOWN | {"bash"}:
            return f"expected a language of tests/docs/snippets.py, got {block.language or 'none'}"
    except ValueError as error:
        return f"no {block.language} ({error})"
    except SyntaxError as error:
        return f"no Python ({error})"
    return None


def _patient(commands: str) -> str:
    """Let reads wait for the task's end: a person types slower than this."""
    return re.sub(r"^curl -X GET (\S+)$", r"curl -X GET '\1?wait=60'", commands, flags=re.MULTILINE)


def _replies(printed: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that several commands printed one after the other."""
    decoder, rest = json.JSONDecoder(), printed
    while rest.startswith("{"):
        reply, end = decoder.raw_decode(rest)
        yield reply
        rest = rest[end:].lstrip()


def _mask(text: str) -> list[str]:
    """Return the lines of the text, with the parts that vary from run to run replaced."""
    lines = re.sub(r"\b(now|\d+s ago)\b", "now", _UUID.sub("UUID", text)).splitlines()
    return [line.rstrip() for line in lines]
