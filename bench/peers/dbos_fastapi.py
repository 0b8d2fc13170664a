"""DBOS behind FastAPI: workflows of steps and of children, used as its documentation shows.

Its database is DATABASE_URL, or a SQLite file in the working directory.
"""

from __future__ import annotations

import os
import time

from dbos import DBOS, DBOSConfig
from fastapi import FastAPI

_URL = os.environ.get("DATABASE_URL", "sqlite:///dbos.sqlite")
_config: DBOSConfig = {"name": "bench", "system_database_url": _URL, "log_level": "ERROR"}
app = FastAPI()
DBOS(config=_config)


@DBOS.step()
def step(number: int) -> int:
    return number


@DBOS.workflow()
def steps(count: int) -> int:
    return sum(step(number) for number in range(count))


@DBOS.workflow()
def child(number: int) -> int:
    return number


@DBOS.workflow()
def children(count: int) -> int:
    handles = [DBOS.start_workflow(child, number) for number in range(count)]
    return sum(handle.get_result() for handle in handles)


@app.get("/readyz")
def readyz() -> str:
    return "ok"


@app.get("/run/{name}/{count}")
def run(name: str, count: int) -> float:
    """Run a workflow; return its seconds."""
    begun = time.perf_counter()
    total = {"steps": steps, "children": children}[name](count)
    assert total == sum(range(count))
    return time.perf_counter() - begun


DBOS.launch()
