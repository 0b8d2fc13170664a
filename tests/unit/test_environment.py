"""Variables that a process removes from its environment are shown nowhere; the rest stays."""

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import os, subprocess
from tasker.config.environment import take_out

take_out(["SECRET_ONE", "SECRET_TWO", "NOT_SET"])
shown = subprocess.run(["cat", f"/proc/{os.getpid()}/environ"], capture_output=True, check=True).stdout
print(sorted(os.environ), b"hush" in shown, b"PLAIN=1\\0" in shown, b"XSECRET_ONE=mine\\0" in shown)
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system has no /proc")
def test_removed_variables_are_in_no_environment_of_the_process() -> None:
    env = {"A": "", "SECRET_ONE": "hush=hush", "PLAIN": "1", "XSECRET_ONE": "mine", "SECRET_TWO": "hush" * 5_000}
    run = subprocess.run([sys.executable, "-c", _PROGRAM], env=env, capture_output=True, text=True, check=True)
    names = sorted({"A", "PLAIN", "XSECRET_ONE", "LC_CTYPE"} & set(run.stdout.split("'")))
    assert run.stdout.strip() == f"{names} False True True"
