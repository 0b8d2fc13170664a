"""The pages that a browser looks at: all of the table of pages, each with examples for the parameters of its path."""

from __future__ import annotations

from unittest.mock import MagicMock

from tasker.api.operation import HTML
from tasker.web.app import make_pages

NOT_LOOKED_AT = {"/signin"}
"""Looked at where a key is needed."""


def paths_of(ids: dict[str, str]) -> dict[str, str]:
    """Return the paths below /ui/ to look at, by a name for each."""
    pages = [page for page in make_pages(MagicMock(), MagicMock(), MagicMock(), MagicMock()) if page.method == "GET"]
    shown = [page.path for page in pages if page.media == HTML and page.path not in NOT_LOOKED_AT]
    names = ("failed", "running", "waiting", "story", "asks", "album", "invite")
    examples = {
        **_EXAMPLES,
        "/task/{task_id}": [ids[name] for name in names],
        "/task/{task_id}/tree": [ids["album"]],
        "/task/{task_id}/steps": [ids["album"]],
    }
    found: dict[str, str] = {}
    for path in shown:
        if "{" not in path:
            found[path.strip("/") or "overview"] = path.lstrip("/")
            continue
        head, _, rest = path.partition("{")
        for number, value in enumerate(examples.get(path) or ids[path].split()):
            tail = rest.partition("}")[2]
            found[f"{head.strip('/').replace('/', '-')}-{number}{tail.replace('/', '-')}"] = (
                head.lstrip("/") + value + tail
            )
    return found


_EXAMPLES = {
    "/type/{name}": ["sum", "report", "gpt"],
    "/queue/{name}": ["llm", "reports"],
    "/group/{name}": ["import-7"],
}
