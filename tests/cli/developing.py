"""Runs `tasker dev` in a folder, and waits for what it prints."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from tasker.client import Tasker
from tests.server import clean_environment, held_port

LIMIT = 60.0


class Dev:
    """`tasker dev` in a folder: what it has printed, and a client of its service."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], url: str) -> None:
        self.folder = folder
        self.process = process
        self.url = url
        self.client = Tasker(url, timeout=LIMIT)
        self._seen = 0

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)

    def text(self) -> str:
        return (self.folder / "dev.log").read_text(errors="replace")

    def wait_for(self, words: str) -> str:
        """Wait for a line that is new since the last wait and contains `words`; return it."""
        limit = monotonic() + LIMIT
        while True:
            text = self.text()
            for line in text[self._seen :].splitlines(keepends=True):
                if words in line and line.endswith("\n"):
                    self._seen = text.index(line, self._seen) + len(line)
                    return line.strip()
            assert self.process.poll() is None, f"ended without {words!r}:\n{text}"
            assert monotonic() < limit, f"nothing with {words!r}:\n{text}"
            sleep(0.02)


@contextmanager
def developing(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> Iterator[Dev]:
    with held_port() as port, (folder / "dev.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasker", "dev", *args, "--port", str(port)],
            cwd=folder,
            env=clean_environment(**(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        dev = Dev(folder, process, f"http://127.0.0.1:{port}")
        try:
            dev.wait_for("stop: Ctrl-C")
            yield dev
        finally:
            dev.client.close()
            if process.poll() is None:
                process.terminate()
                process.wait(LIMIT)
