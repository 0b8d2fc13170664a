"""Run the programs of docs/outside-clients.md against a live service, by the commands that the page shows.

`python -m tests.api.outside_clients FOLDER`: a folder in which openapi_clients.sh has installed the generators.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.model_server import ModelServer
from tests.server import run_server

PAGE = Path(__file__).parents[2] / "docs" / "outside-clients.md"
TOKEN = "the-token-of-outside-clients"
LIMIT = 300
"""Seconds for one command, on a machine that does other things besides."""
OWN_TYPES = '''
from typing import Annotated

from msgspec import Meta, Struct

import tasker


class Basket(Struct):
    """Ends a comment: */ and a text: \\"\\"\\" here."""

    fruit: str
    count: int = 1


@tasker.task
def weigh(basket: Basket, when: Annotated[str, Meta(description="Like `*/5 * * * *`")] = "now */") -> int:
    """Weigh */ process.exit(1) /* what is in it; \\"\\"\\" and C:\\\\temp."""
    return basket.count * len(basket.fruit)
'''
"""Task types whose texts are dangerous in comments and strings of programs."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


async def main(folder: Path) -> None:
    async with ModelServer() as model:
        model.texts = ["Hello from Python", "Hello from TypeScript"]
        await model.run_beside(_with_service, folder, model.url)
        assert [body["input"] for body in model.bodies] == ["Say hello"] * 2, model.bodies


def _with_service(folder: Path, model_url: str) -> None:
    (folder / "own_types.py").write_text(OWN_TYPES)
    env = {
        "TASKER_TOKEN": TOKEN,
        "OPENAI_API_KEY": "sk-none",
        "OPENAI_BASE_URL": model_url,
        "TASKER_TASKS": "own_types.py",
    }
    with run_server(folder, env=env) as server:
        env = {
            **os.environ,
            "TASKER_URL": server.url,
            "TASKER_TOKEN": TOKEN,
            "PATH": f"{folder / 'venv/bin'}:{folder / 'node_modules/.bin'}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "error",
            "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",  # half of the processor time
        }
        blocks = BLOCK.findall(PAGE.read_text())
        for language, text in blocks:
            if language in ("python", "ts"):
                (folder / text.split()[1]).write_text(text)
        printed = "".join(_run(text, folder, env) for language, text in blocks if language == "shell")
        outputs = [text for language, text in blocks if language == "text"]
        assert len(outputs) == 2
        assert all(text in printed for text in outputs), outputs


def _run(command: str, folder: Path, env: dict[str, str]) -> str:
    """Run what a block of the page shows, and return what it prints."""
    done = subprocess.run(["sh", "-euc", command], cwd=folder, env=env, text=True, capture_output=True, timeout=LIMIT)
    print(f"--- {command}{done.stdout[-3000:]}{done.stderr[-3000:]}", flush=True)
    assert done.returncode == 0, f"exit code {done.returncode}"
    assert "] ERROR " not in done.stdout, "the generator could not take something over"
    return done.stdout


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
