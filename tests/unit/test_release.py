"""The build: the same for the same sources, another one for any change of them."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tasker.release import LEVEL, LIMITS, _digest, release


def make(folder: Path, **files: str) -> str:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return _digest(str(folder))


def test_a_release_is_a_version_and_a_build() -> None:
    assert re.fullmatch(re.escape(version("taskerd")) + r"\+[0-9a-f]{12}", release())
    assert LEVEL >= LIMITS > 0
    assert LEVEL < 256, "worker_level has no room for more"


def test_the_same_sources_are_the_same_build_wherever_they_are(tmp_path: Path) -> None:
    files = {"a_dot_py": "1", "engines__b_dot_sql": "2"}
    first = make(tmp_path / "one", **files)
    assert make(tmp_path / "two", **dict(reversed(files.items()))) == first
    assert make(tmp_path / "two", a_dot_pyc="compiled", notes_dot_txt="x") == first


@pytest.mark.parametrize(
    "files",
    [{"a_dot_py": "11"}, {"engines__b_dot_sql": "3"}, {"c_dot_py": ""}, {"engines__a_dot_py": "1"}],
    ids=["changed", "sql", "added", "deeper"],
)
def test_any_change_is_another_build(files: dict[str, str], tmp_path: Path) -> None:
    before = make(tmp_path, a_dot_py="1", engines__b_dot_sql="2")
    assert make(tmp_path, **files) != before


def test_a_moved_file_or_moved_text_is_another_build(tmp_path: Path) -> None:
    assert make(tmp_path / "1", a_dot_py="1", b_dot_py="2") != make(tmp_path / "2", a_dot_py="2", b_dot_py="1")
    assert make(tmp_path / "3", a_dot_py="12", b_dot_py="") != make(tmp_path / "4", a_dot_py="1", b_dot_py="2")
