"""The sidecar's program: serves one model file on a random loopback port until its parent closes stdin or dies.

It runs as a script and imports nothing of Tasker. It reads its settings from stdin, one line of JSON. Once the model is
loaded, it answers on stdout with one line: `{"url": ...}`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
CONTEXT_TOKENS = 4096
"""Longest prompt and text together. Their memory is reserved at the start: 23 KB a token."""
PING_SECONDS = 10
"""Interval of comments in a silent stream, so that a longer silence means that the server hangs."""


def main() -> None:
    _die_with_parent()
    answers = _take_stdout()
    order = json.loads(sys.stdin.readline())
    server = _serve(order)
    os.write(answers, json.dumps({"url": server.listening_address}).encode() + b"\n")
    sys.stdin.read()
    os._exit(0)  # no orderly end: nothing has to be kept, and the library's threads may be writing a text


def _die_with_parent() -> None:
    """Have the kernel kill us with the thread that started us (Linux). Elsewhere the end of stdin has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _take_stdout() -> int:
    """Return a descriptor of stdout for our answers, and send what the library prints to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _serve(order: dict[str, Any]) -> Any:
    xllamacpp: Any = importlib.import_module("xllamacpp")  # has no type hints, and is an extra

    params = xllamacpp.CommonParams()
    params.model.path = order["model"]
    params.model_alias = {order["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order["key"]]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    params.n_parallel = 1
    params.n_ctx = CONTEXT_TOKENS
    params.cache_ram_mib = 0  # its default lets the cache of prompts grow to 8 GB
    params.sse_ping_interval = PING_SECONDS
    params.ui = params.endpoint_slots = params.endpoint_metrics = params.endpoint_props = False
    params.verbosity = 1  # errors
    params.sampling.temp = 0.4
    params.sampling.top_p = 0.9
    params.sampling.penalty_repeat = 1.1
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
