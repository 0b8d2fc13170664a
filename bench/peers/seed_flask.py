"""The original Tasker's design: Flask's own server, a thread for each task, everything in a dict in memory.

Run as `python -m bench.peers.seed_flask PORT [--quiet]`. Nothing survives the process. Flask's server logs a
line for each request, its default; `--quiet` turns that off.
"""

from __future__ import annotations

import logging
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, jsonify, request

FUNCTIONS: dict[str, Callable[..., Any]] = {"sum": lambda *numbers: sum(numbers), "noop": lambda: None}


def build_app() -> Flask:
    """Return the app with its own empty store."""
    app = Flask(__name__)
    tasks: dict[str, dict[str, Any]] = {}

    def run(task: dict[str, Any]) -> None:
        task["status"] = "running"
        task["result"] = FUNCTIONS[task["type"]](*task["params"])
        task["status"] = "completed"

    @app.post("/task")
    def submit() -> tuple[Response, int]:
        body = request.get_json()
        task = {"task_id": str(uuid.uuid4()), "type": body["type"], "params": body["params"], "status": "pending"}
        tasks[task["task_id"]] = task
        reply = jsonify(task)
        threading.Thread(target=run, args=(task,), daemon=True).start()
        return reply, 202

    @app.get("/task/<task_id>")
    def get(task_id: str) -> Response:
        return jsonify(tasks[task_id])

    @app.get("/readyz")
    def ready() -> str:
        return "ok"

    return app


if __name__ == "__main__":
    if "--quiet" in sys.argv:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
    build_app().run(port=int(sys.argv[1]), threaded=True)
