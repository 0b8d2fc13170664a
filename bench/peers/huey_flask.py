"""A common small stack: Flask behind gunicorn, huey on SQLite, and a consumer process.

As durable as Tasker: write-ahead log and an fsync for each commit, with results kept. The file's path comes in
HUEY_FILE. Web: `gunicorn bench.peers.huey_flask:app`; consumer: `huey_consumer bench.peers.huey_flask.huey`.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, Response, jsonify, request
from huey import SqliteHuey  # type: ignore[import-untyped]

huey = SqliteHuey("bench", filename=os.environ["HUEY_FILE"], fsync=True, journal_mode="wal", timeout=30)


@huey.task()  # type: ignore[untyped-decorator]
def sum_numbers(*numbers: float) -> float:
    return sum(numbers)


@huey.task()  # type: ignore[untyped-decorator]
def noop() -> bool:
    return True  # huey keeps no result for None


TASKS = {"sum": sum_numbers, "noop": noop}
app = Flask(__name__)


@app.post("/task")
def submit() -> tuple[Response, int]:
    body = request.get_json()
    handle = TASKS[body["type"]](*body["params"])
    return jsonify(task_id=handle.id, type=body["type"], params=body["params"], status="pending"), 202


@app.get("/task/<task_id>")
def get(task_id: str) -> Response:
    result: Any = huey.result(task_id, preserve=True)
    return jsonify(task_id=task_id, status="pending" if result is None else "completed", result=result)


@app.get("/readyz")
def ready() -> str:
    return "ok"
