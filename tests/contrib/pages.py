"""The examples of a page of docs: the Python blocks that begin with a file's name, as files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```python\n# (?P<name>\S+\.py)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def write_files(page: str, folder: Path, names: Mapping[str, str] | None = None) -> None:
    """Write the files of a page into a folder; `names` are replaced in them."""
    for block in _BLOCK.finditer((DOCS / page).read_text()):
        text = block["text"]
        for old, new in (names or {}).items():
            text = text.replace(old, new)
        path = folder / block["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
