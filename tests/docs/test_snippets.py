"""The snippets of docs/ are true: commands and programs run as their pages say, and print what is shown."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs import readme
from tests.docs.snippets import Page, Reader, pages
from tests.server import Server, run_server

PAGES = [page for page in pages() if page.needs.tested_by is None and (page.programs or page.needs.serve)]
SHARED = [page for page in PAGES if page.needs.serve is None and page.needs.has_service]
OTHERS = [page for page in PAGES if page not in SHARED]


def marked(page: Page) -> object:
    return pytest.param(page, id=page.name, marks=[pytest.mark.long] if page.needs.is_long else [])


def read(page: Page, folder: Path, server: Server | None) -> list[str]:
    """Run the examples of a page; return the faults."""
    folder.mkdir(exist_ok=True)
    save(page, folder)
    reader = Reader(folder, server)
    faults = []
    for example in page.programs:
        try:
            found = reader.faults_of(example, inside=True)
        except Exception as error:  # whatever a program raises, its page is named
            found = [f"{type(error).__name__}: {error}"]
        faults += [f"{page.name}: {example.name}\n    {fault}" for fault in found]
    return faults


def save(page: Page, folder: Path) -> None:
    for name, text in page.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@contextmanager
def readme_service(folder: Path) -> Iterator[Server]:
    (folder / "mytasks.py").write_text(readme.find_block("python", "def page_size"))
    (folder / "more.py").write_text(readme.find_block("python", "def import_rows"))
    with run_server(folder, "mytasks.py", "more.py") as server:
        yield server


def test_pages_beside_the_service_of_the_readme(tmp_path: Path) -> None:
    with readme_service(tmp_path) as server:
        usual = [page for page in SHARED if not page.needs.is_long]
        faults = [fault for page in usual for fault in read(page, tmp_path / page.path.stem, server)]
    assert not faults, "\n".join(faults)


@pytest.mark.long
@pytest.mark.parametrize("page", [marked(page) for page in SHARED if page.needs.is_long])
def test_long_pages_beside_that_service(page: Page, tmp_path: Path) -> None:
    with readme_service(tmp_path) as server:
        faults = read(page, tmp_path / page.path.stem, server)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", [marked(page) for page in OTHERS])
def test_pages_with_a_service_of_their_own_or_none(page: Page, tmp_path: Path) -> None:
    save(page, tmp_path)
    if page.needs.serve is None:
        faults = read(page, tmp_path, None)
    else:
        with run_server(tmp_path, *page.needs.serve) as server:
            faults = read(page, tmp_path, server)
    assert not faults, "\n".join(faults)


def test_what_is_not_run_is_at_least_well_formed() -> None:
    faults = [fault for page in pages() for fault in page.faults()]
    assert not faults, "\n".join(faults)


def test_other_modules_run_what_pages_leave_to_them() -> None:
    for page in pages():
        if page.needs.tested_by is not None:
            module = readme.PROJECT / page.needs.tested_by
            assert module.is_file(), f"{page.name}: there is no {page.needs.tested_by}"
            assert page.name in module.read_text(), f"{page.needs.tested_by} does not name {page.name}"


def test_contexts_come_first() -> None:
    """Type checkers can leave out the first parameter of a task, and no later one."""
    blocks = [*readme.blocks(readme.TEXT), *(block for page in pages() for block in page.blocks)]
    trees = [ast.parse(block.text) for block in blocks if block.language == "python"]
    functions = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    params = {node: [one.arg for one in (*node.args.args, *node.args.kwonlyargs)] for node in functions}
    taking = [node for node in functions if "context" in params[node]]
    assert len(taking) > 10
    assert [node.name for node in taking if params[node][0] != "context"] == []
