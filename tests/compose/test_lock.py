"""What the image installs is pinned and hashed, agrees with pyproject.toml, and is whole."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tasker.builtin.gpt.local_install import MODEL_REQUIREMENT

PROJECT = Path(__file__).parents[2]
LOCKS = ("image", "build", "model")
IMAGE = {"python_version": "3.13", "python_full_version": "3.13.0", "sys_platform": "linux", "platform_system": "Linux"}
"""The environment for markers: the Python of the image."""
PYPROJECT: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
WANTED = {
    "image": [*PYPROJECT["project"]["dependencies"], *EXTRAS["local"], *EXTRAS["postgres"]],
    "build": PYPROJECT["build-system"]["requires"],
    "model": [MODEL_REQUIREMENT],
}

OLDER_HERE = {"python-dateutil"}
"""Celery asks for an older release than the image has."""


def text_of(lock: str) -> str:
    return (PROJECT / "requirements" / f"{lock}.txt").read_text()


def entries(lock: str) -> list[str]:
    """Return each requirement of a lock with its options, on one line."""
    lines = text_of(lock).replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pins(lock: str) -> dict[str, Requirement]:
    found = [Requirement(entry.partition(" --hash")[0]) for entry in entries(lock)]
    return {canonicalize_name(one.name): one for one in found}


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.mark.parametrize("lock", LOCKS)
def test_every_file_is_known_by_its_hash_and_comes_from_where_pip_asks(lock: str) -> None:
    for entry in entries(lock):
        assert re.fullmatch(r"[\w.-]+==[\w.]+(?: ; [^\\]+?)?(?:\s+--hash=sha256:[0-9a-f]{64})+", entry.strip()), entry
    assert "://" not in text_of(lock)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_what_is_asked_for(lock: str) -> None:
    """After a change of pyproject.toml: make lock."""
    pinned = pins(lock)
    for wanted in map(Requirement, WANTED[lock]):
        assert wanted.specifier.contains(version_of(pinned[canonicalize_name(wanted.name)])), wanted


def needed(requirement: Requirement, pin: Requirement) -> Iterator[Requirement]:
    """Yield the requirements, in the image, of a package that is installed here.

    A package of the tests may ask for an older release of it, whose requirements say nothing of the pinned one.
    """
    try:
        installed = distribution(requirement.name)
    except PackageNotFoundError:
        return
    if canonicalize_name(requirement.name) in OLDER_HERE and installed.version != version_of(pin):
        return
    for one in map(Requirement, installed.requires or []):
        extras = requirement.extras or {""}
        if one.marker is None or any(one.marker.evaluate({**IMAGE, "extra": extra}) for extra in extras):
            yield one


def test_the_lock_is_whole() -> None:
    """All requirements of packages are in it too: pip refuses to install a package without a hash."""
    pinned, seen = pins("image"), set()
    ahead = list(map(Requirement, WANTED["image"]))
    while ahead:
        one = ahead.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        assert canonicalize_name(one.name) in pinned, one
        ahead += needed(one, pinned[canonicalize_name(one.name)])
    assert len(seen) > 30


def test_the_image_installs_nothing_without_a_hash() -> None:
    commands = re.findall(r"pip (?:install|wheel) [^&\n]*", (PROJECT / "Dockerfile").read_text().replace("\\\n", " "))
    known = ("--require-hashes --only-binary :all:", "--no-index --no-deps")
    assert len(commands) == 5
    assert [command for command in commands if not any(option in command for option in known)] == []
    installed = {lock for lock in LOCKS if any(f"-r requirements/{lock}.txt" in command for command in commands)}
    assert installed == set(LOCKS)
    assert "!requirements\n" in (PROJECT / ".dockerignore").read_text()
