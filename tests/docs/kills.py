"""What stands for the other side of the examples in docs/steps.md: files, and a kill at a point.

The text of an example comes after its own code, and replaces the names that stand for a provider there.
"""

from __future__ import annotations

_COMMON = '''

import json as _json
import os as _os
import signal as _signal
from pathlib import Path as _Path


def _note(what):
    """Append a line; then die with the whole service, if a file asks for it."""
    with open("done.jsonl", "a") as file:
        file.write(_json.dumps(what) + "\\n")
    try:
        _os.unlink(f"{what}.kill")
    except FileNotFoundError:
        return
    _os.kill(int(_Path("service.pid").read_text()), _signal.SIGKILL)
    _signal.pause()

'''
_PROVIDER = '''
class _Ledger(dict):
    """Keeps what it did under the caller's key; a kill of the service does not reach it."""

    def setdefault(self, key, cents):
        with open("done.jsonl", "a") as file:
            file.write(_json.dumps(key) + "\\n")
        file = _Path(f"{key}.paid")
        if not file.exists():
            file.write_text(str(cents))
        self[key] = int(file.read_text())
        try:
            _os.unlink("charged.kill")
        except FileNotFoundError:
            return
        _os.kill(int(_Path("service.pid").read_text()), _signal.SIGKILL)
        _signal.pause()


LEDGER = _Ledger()
'''
_ROWS = """
_rows = ROWS


class _Rows(list):
    def __getitem__(self, part):
        _note(f"rows from {part.start}")
        return _rows[part]


ROWS = _Rows(_rows)
"""
_UNDO = """
_undo = undo


def undo(booking):
    _note(f"cancelled {booking}")
    return _undo(booking)
"""
OTHER_SIDE = {"order.py": _COMMON + _PROVIDER, "nightly.py": _COMMON + _ROWS, "saga.py": _COMMON + _UNDO}
"""By example, the code that comes after its own."""
