"""FastAPI with Procrastinate, on PostgreSQL: the status is read from its own table of jobs, and no result is kept.

The database comes in DATABASE_URL. Set-up: `python -m bench.peers.procrastinate_fastapi install`; web:
`uvicorn bench.peers.procrastinate_fastapi:app`; worker: `python -m bench.peers.procrastinate_fastapi work`.
A task's id is its job's number as a UUID, which saves the peer an index.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import procrastinate
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel

POOL_SIZE = 8  # as Tasker's
CONCURRENCY = 30  # its default is 1, which is slower
queue = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=os.environ["DATABASE_URL"], min_size=POOL_SIZE, max_size=POOL_SIZE
    )
)


@queue.task(name="sum")
async def sum_numbers(params: list[float]) -> float:
    return sum(params)


@queue.task(name="noop")
async def noop(params: list[float]) -> None:
    pass


TASKS = {"sum": sum_numbers, "noop": noop}


class Submission(BaseModel):
    type: str
    params: list[Any]


@asynccontextmanager
async def _connect(_app: FastAPI) -> AsyncIterator[None]:
    async with queue.open_async():
        yield


app = FastAPI(lifespan=_connect)


@app.post("/task", status_code=202)
async def submit(task: Submission) -> dict[str, Any]:
    job_id = await TASKS[task.type].defer_async(params=task.params)
    return {"task_id": str(UUID(int=job_id)), "type": task.type, "params": task.params, "status": "pending"}


@app.get("/task/{task_id}")
async def get(task_id: UUID) -> dict[str, Any]:
    status = await queue.job_manager.get_job_status_async(task_id.int)
    return {"task_id": str(task_id), "status": "completed" if status.value == "succeeded" else "pending"}


@app.get("/readyz")
async def ready() -> str:
    return "ok"


async def install() -> None:
    async with queue.open_async():
        await queue.schema_manager.apply_schema_async()


async def work() -> None:
    async with queue.open_async():
        await queue.run_worker_async(concurrency=CONCURRENCY)


if __name__ == "__main__":
    uvloop.run({"install": install, "work": work}[sys.argv[1]]())
