"""Random examples are the same in each run, whatever the process has done before."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def examples() -> list[tuple[int, str]]:
    """Return the examples that a test gets."""
    found: list[tuple[int, str]] = []

    @given(st.integers(), st.text())
    def collect(number: int, text: str) -> None:
        found.append((number, text))

    collect()
    return found


@pytest.mark.skipif(not settings.default.derandomize, reason="`make fuzz` tries others each time")
def test_modules_that_other_tests_have_loaded_change_no_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = examples()
    file = tmp_path / "constants_of_their_own.py"
    file.write_text("\n".join(f"A{number} = {number * 7919}, 'word {number}'" for number in range(100)))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, file.stem, module)
    spec.loader.exec_module(module)
    assert examples() == before
