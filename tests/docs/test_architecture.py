"""docs/architecture.md and CONTRIBUTING.md are true: the picture is the code's, and whatever they name exists."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FLOORPLAN = runpy.run_path(str(PROJECT / "docs" / "floorplan.py"))
PAGE = PROJECT / "docs" / "architecture.md"
ROOTS = (PROJECT, PROJECT / "src" / "tasker")
"""Where the paths of these pages begin."""

_QUOTED = re.compile(r"`([^`\s]+)`")
_PATH = re.compile(r"[\w.{},/-]*(/|\.(md|py|sql|toml|yaml))")
"""How a path in backticks begins or, without a folder, ends. A URL's path begins with `/`."""
_IN_COMMAND = re.compile(r"\b(?:bench|docs|src|tests)/[\w/]+\.py")


def named_paths(page: Path) -> Iterator[str]:
    """Yield the paths that a page names, with `{a,b}` written out."""
    text = page.read_text()
    for name in _QUOTED.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if not name.startswith("/") and _PATH.match(name):
            yield from expand(name)
    for block in re.findall(r"```.*?```", text, flags=re.DOTALL):
        yield from _IN_COMMAND.findall(block)


def expand(path: str) -> list[str]:
    """Return the paths that a path with `{a,b}` stands for."""
    before, brace, rest = path.partition("{")
    if not brace:
        return [path]
    choices, _, after = rest.partition("}")
    return [before + choice + end for choice in choices.split(",") for end in expand(after)]


def test_the_picture_is_up_to_date() -> None:
    assert FLOORPLAN["PICTURE"].read_text() == FLOORPLAN["draw"](), "run `make floorplan` and commit docs/floorplan.svg"


def test_every_room_has_a_row() -> None:
    table = PAGE.read_text().partition("| Room |")[2].partition("\n\n")[0]
    rooms = {room for floor in FLOORPLAN["read_floors"]() for room in floor} - {"__main__"}
    assert set(re.findall(r"^\| `([\w/]+)` \|", table, re.MULTILINE)) == rooms


@pytest.mark.parametrize("page", [PAGE, PROJECT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_path_named_exists(page: Path) -> None:
    named = set(named_paths(page))
    assert named
    assert sorted(path for path in named if not any((root / path).exists() for root in ROOTS)) == []


@pytest.mark.parametrize(
    "page", [*sorted(PROJECT.glob("docs/*.md")), PROJECT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        if link.startswith("http"):
            continue
        if not target.exists() or (heading and heading not in headings(target)):
            missing.append(link)
    assert missing == []


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
