"""`tasker model`: the small language model that `gpt` uses without a key."""

from __future__ import annotations

import subprocess
import sys

from cyclopts import App

from tasker.cli.exits import Exit
from tasker.cli.terminal import note, show

app = App(name="model", help="The local language model: install it, or show whether it is.")


@app.command
def install() -> int:
    """Fetch the model (93 MB) and what runs it into this Python's environment, and check its SHA-256."""
    from tasker.builtin.gpt.local_install import ModelInstallError
    from tasker.builtin.gpt.local_install import install as install_model
    from tasker.builtin.gpt.local_model import SERVER_MODULE

    try:
        show(str(install_model()))
    except ModelInstallError as error:
        note(f"tasker: {error}")
        return Exit.TASK_FAILED
    return _check_loading(SERVER_MODULE)


def _check_loading(module: str) -> int:
    """Load the model's runtime in a process of its own: the system libraries that it needs may be missing."""
    command = [sys.executable, "-c", f"import {module}"]
    loading = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if loading.returncode == 0:
        return Exit.OK
    last_line = (loading.stderr.strip().splitlines() or [f"exit code {loading.returncode}"])[-1]
    note(f"tasker: the model is installed, but its runtime cannot be loaded: {last_line}")
    if "libgomp" in last_line:
        note("Install the library (Debian, Ubuntu: apt install libgomp1).")
    return Exit.TASK_FAILED


@app.command
def status() -> int:
    """Tell whether the local model is installed, and where (exit code 3 if it is not)."""
    from tasker.builtin.gpt.local_model import find_model, is_installed

    model = find_model()
    if model is None or not is_installed():
        note("The local model is not installed: run `tasker model install`.")
        return Exit.NOT_FOUND
    show(str(model))
    return Exit.OK
