"""Draw docs/floorplan.svg: the packages of src/tasker by floor, and who imports whom.

The floors are the layers of import-linter's contracts in pyproject.toml; grimp, which comes with import-linter, reads
the imports. Run `make floorplan` after a change of either; tests/docs compares the committed picture with a fresh one.
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

import grimp

PROJECT = Path(__file__).parents[1]
PICTURE = PROJECT / "docs" / "floorplan.svg"
ROOT = "tasker"

WIDTH, MARGIN, GAP = 1000, 44, 18
ROOM_HEIGHT, FLOOR_HEIGHT = 66, 102
LETTER_WIDTH = 5.9
"""Pixels of an average letter of a docstring, which decide where its lines break."""

STYLE = """
  .paper { fill: #ffffff } .room { fill: #eef2f7; stroke: #7d8ca0 } .name { fill: #14202e; font-weight: bold }
  .what { fill: #3c4a5a; font-size: 11px } .floor { fill: #7d8ca0; font-size: 11px }
  .arrow { fill: none; stroke: #5b7aa3; stroke-opacity: .65; stroke-width: 1.2 } .head { fill: #5b7aa3 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .room { fill: #1b2430; stroke: #56657a } .name { fill: #e8eef6 }
    .what { fill: #b4c0ce } .floor { fill: #8593a5 } .arrow { stroke: #86a8d6 } .head { fill: #86a8d6 }
  }
"""

Floors = list[list[str]]
"""Names of rooms, `engines/sqlite` for a package in a package, the highest floor first."""
Arrows = dict[str, set[str]]


class Place(NamedTuple):
    """Where a room is drawn: its left upper corner and its width."""

    x: float
    y: float
    width: float


def read_floors() -> Floors:
    """Return the rooms of every floor, with the rooms of a package that has layers of its own in its place."""
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {
        contract["containers"][0]: [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]
        for contract in contracts
        if contract["type"] == "layers"
    }
    floors: Floors = []
    for floor in layers.pop(ROOT):
        inner = {room: layers[f"{ROOT}.{room}"] for room in floor if f"{ROOT}.{room}" in layers}
        height = max((len(rows) for rows in inner.values()), default=1)
        rows: Floors = [[] for _ in range(height)]
        for room in floor:
            for row, rooms in zip(rows, inner.get(room, [[room]]), strict=False):
                row += [f"{room}/{name}" for name in rooms] if room in inner else rooms
        floors += rows
    return floors


def read_arrows(rooms: Iterable[str]) -> Arrows:
    """Return for each room those that it imports."""
    graph = grimp.build_graph(ROOT, cache_dir=None)
    known = set(rooms)
    arrows: Arrows = defaultdict(set)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            start, end = _room_of(module, known), _room_of(imported, known)
            if start and end and start != end:
                arrows[start].add(end)
    return arrows


def _room_of(module: str, rooms: set[str]) -> str | None:
    first, *more = module.split(".")[1:] or [""]
    inner = f"{first}/{more[0]}" if more else first
    return next((name for name in (inner, first) if name in rooms), None)


def without_shortcuts(arrows: Arrows) -> Arrows:
    """Return the arrows that no longer way implies: a picture of all would be black."""
    reached: Arrows = {}

    def reach(room: str) -> set[str]:
        if room not in reached:
            reached[room] = set().union(*({end} | reach(end) for end in arrows.get(room, ())))
        return reached[room]

    return {
        room: {end for end in ends if not any(end in reach(other) for other in ends - {end})}
        for room, ends in arrows.items()
    }


def describe(room: str) -> str:
    """Return the first line of the room's docstring."""
    path = PROJECT / "src" / ROOT / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text()))
    return docstring.splitlines()[0].rstrip(":").replace("`", "") if docstring else ""


def draw() -> str:
    """Return the picture as SVG."""
    floors = read_floors()
    arrows = read_arrows(room for floor in floors for room in floor)
    places = {room: place for level, floor in enumerate(floors) for room, place in _place_floor(floor, level)}
    height = MARGIN + FLOOR_HEIGHT * len(floors)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="13">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>',
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        *_draw_arrows(without_shortcuts(arrows), places),
        *(part for room, place in places.items() for part in _draw_room(room, place, arrows.get(room, set()))),
        *(
            f'<text class="floor" x="12" y="{_top(level) + ROOM_HEIGHT / 2:g}">{len(floors) - level}</text>'
            for level in range(len(floors))
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _top(level: int) -> float:
    return GAP + level * FLOOR_HEIGHT


def _place_floor(floor: list[str], level: int) -> list[tuple[str, Place]]:
    """Return the places of a floor's rooms, side by side in the middle."""
    width = min(290.0, (WIDTH - 2 * MARGIN - GAP * (len(floor) - 1)) / len(floor))
    left = (WIDTH - width * len(floor) - GAP * (len(floor) - 1)) / 2
    return [(room, Place(left + place * (width + GAP), _top(level), width)) for place, room in enumerate(floor)]


def _draw_room(room: str, place: Place, uses: set[str]) -> list[str]:
    lines = textwrap.wrap(describe(room), int((place.width - 16) / LETTER_WIDTH), max_lines=3, placeholder=" ...")
    return [
        f"<g><title>{room} imports {', '.join(sorted(uses)) or 'nothing of Tasker'}</title>",
        f'<rect class="room" x="{place.x:g}" y="{place.y:g}" width="{place.width:g}" height="{ROOM_HEIGHT}" rx="5"/>',
        f'<text class="name" x="{place.x + 8:g}" y="{place.y + 17:g}">{room}</text>',
        *(
            f'<text class="what" x="{place.x + 8:g}" y="{place.y + 32 + 13 * line:g}">{escape(text)}</text>'
            for line, text in enumerate(lines)
        ),
        "</g>",
    ]


def _draw_arrows(arrows: Arrows, places: dict[str, Place]) -> list[str]:
    """Return a curve for each arrow; those of a room leave and arrive side by side, in the order of their ends."""
    pairs = [(start, end) for start in places for end in sorted(arrows.get(start, ()))]
    curves = []
    for start, end in pairs:
        leaving = sorted((other for one, other in pairs if one == start), key=lambda room: places[room].x)
        arriving = sorted((one for one, other in pairs if other == end), key=lambda room: places[room].x)
        x1, y1 = _port(places[start], leaving.index(end), len(leaving)), places[start].y + ROOM_HEIGHT
        x2, y2 = _port(places[end], arriving.index(start), len(arriving)), places[end].y
        bend = min((y2 - y1) / 2, 60)
        curve = f"M{x1:.0f} {y1:g} C{x1:.0f} {y1 + bend:g} {x2:.0f} {y2 - bend:g} {x2:.0f} {y2:g}"
        curves.append(f'<path class="arrow" marker-end="url(#head)" d="{curve}"/>')
    return curves


def _port(place: Place, index: int, count: int) -> float:
    return place.x + place.width * (index + 1) / (count + 1)


if __name__ == "__main__":
    PICTURE.write_text(draw())
