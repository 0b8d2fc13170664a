"""Loading users' files, folders, modules and entry points into a Registry."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasker.errors import Invalid, NoSuchTarget
from tasker.tasktypes.registry import Registry, load, load_entry_points

TASK = """
from tasker import task

@task
def {name}(value: int) -> int:
    return value
"""


@pytest.fixture(autouse=True)
def clean_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the import state for each test, and use an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, text: str) -> str:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return path


def loaded(*targets: str) -> Registry:
    registry = Registry()
    load(registry, targets)
    return registry


def refusal(*targets: str) -> str:
    """Return the only fault of the targets, which must be one line."""
    (fault,) = loaded(*targets).faults
    assert "\n" not in fault.detail
    return fault.detail


def missing(*targets: str) -> str:
    with pytest.raises(NoSuchTarget) as caught:
        loaded(*targets)
    return str(caught.value)


def test_a_file() -> None:
    registry = loaded(write("mytasks.py", TASK.format(name="one") + TASK.format(name="two")))
    assert registry.names() == ["one", "two"]
    assert registry.get("one").source == "mytasks.py:4"
    assert registry.get("one").function(3) == 3


def test_a_file_by_its_whole_path_and_twice(tmp_path: Path) -> None:
    write("mytasks.py", TASK.format(name="one"))
    assert loaded("mytasks.py", str(tmp_path / "mytasks.py"), "./mytasks.py").names() == ["one"]


def test_files_of_the_same_name_are_apart() -> None:
    first, second = write("a/mytasks.py", TASK.format(name="one")), write("b/mytasks.py", TASK.format(name="two"))
    assert loaded(first, second).names() == ["one", "two"]


def test_a_folder_is_every_file_in_it_but_those_with_an_underscore() -> None:
    write("tasks/b.py", TASK.format(name="b"))
    write("tasks/a.py", "from _helper import OFFSET\n" + TASK.format(name="a"))
    write("tasks/_helper.py", "OFFSET = 1\n")
    write("tasks/notes.txt", "not Python")
    write("tasks/deeper/c.py", TASK.format(name="c"))
    assert loaded("tasks").names() == ["a", "b"]


def test_a_folder_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    assert len(loaded("tasks")) == 0


def test_a_dotted_module_in_the_working_directory() -> None:
    write("shop/__init__.py", "")
    write("shop/tasks.py", TASK.format(name="sell"))
    assert loaded("shop.tasks").names() == ["sell"]


def test_a_package_may_show_the_tasks_of_its_modules() -> None:
    write("shop/__init__.py", "from shop.tasks import sell")
    write("shop/tasks.py", TASK.format(name="sell"))
    assert loaded("shop", "shop.tasks").names() == ["sell"]


def test_a_package_is_a_folder_when_named_like_one() -> None:
    write("shop/__init__.py", "")
    write("shop/tasks.py", TASK.format(name="sell"))
    assert "no function with @task; import them in it, or name shop.MODULE, or the folder as shop/" in refusal("shop")
    assert loaded("shop/").names() == loaded("./shop").names() == ["sell"]


def test_tasks_imported_from_elsewhere_are_not_registered_again() -> None:
    write("tasks/a.py", TASK.format(name="a"))
    write("tasks/b.py", "from a import a\n" + TASK.format(name="b"))
    assert loaded("tasks").names() == ["a", "b"]


def test_files_next_to_a_task_file_hide_no_other_module() -> None:
    write("mytasks.py", "import colorsys\n" + TASK.format(name="one"))
    write("colorsys.py", "raise RuntimeError")
    assert loaded("mytasks.py").names() == ["one"]


def test_a_file_has_the_same_module_name_in_every_process() -> None:
    write("mytasks.py", TASK.format(name="one"))
    script = (
        "from tasker.tasktypes.registry import *; r = Registry(); load(r, ['./mytasks.py'])\n"
        "print(r.get('one').function.__module__)"
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    name = loaded("mytasks.py").get("one").function.__module__
    assert elsewhere.stdout.strip() == name
    assert re.fullmatch(r"tasker_folder_[0-9a-f]{8}\.mytasks", name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import tasker\n\ndef broken(:\n", r"mytasks\.py:3: SyntaxError: "),
        ("if True:\nx = 1\n", r"mytasks\.py:2: IndentationError: "),
        ("\nimport nothing\n", r"mytasks\.py:2: import failed: ModuleNotFoundError: No module named 'nothing'"),
        ("\n\n1 / 0\n", r"mytasks\.py:3: import failed: ZeroDivisionError: division by zero"),
        ("import json\n\njson.loads('x')\n", r"mytasks\.py:3: import failed: JSONDecodeError: "),
        ("import sys\nsys.exit(3)\n", r"mytasks\.py:2: import failed: SystemExit: 3"),
        ("x = 1\n", r"mytasks\.py: no function with @task"),
        ("from tasker import task\ntask(lambda: 1)\n", r"mytasks\.py: no function with @task"),
        ("from tasker import task\ntask(int)\n", r"only a function can be a task"),
        ("from tasker import task\nf = task(lambda x: 1)\n", r"mytasks\.py:2: <lambda>: a lambda cannot be a task"),
        ("from tasker import task\n@task(tries=3)\ndef f(): ...\n", r"mytasks\.py:2: f: 'tries' is no option of @task"),
        ("from tasker import task\n@task(retry=0)\ndef f(): ...\n", r"mytasks\.py:2: f: retry must allow"),
        ("from tasker import task\n@task\ndef f(x): ...\n", r"mytasks\.py:2: f: parameter 'x' has no annotation"),
    ],
)  # fmt: skip
def test_faults_of_a_file_name_the_place(text: str, says: str) -> None:
    write("mytasks.py", text)
    assert re.search(says, refusal("mytasks.py"))


def test_a_fault_in_a_helper_names_the_helpers_line() -> None:
    write("mytasks.py", "import helper\n" + TASK.format(name="one"))
    write("helper.py", "\n\nundefined_name\n")
    assert re.search(r"helper\.py:3: import failed: NameError", refusal("mytasks.py"))


def test_a_module_that_lacks_another_one_is_not_taken_for_missing() -> None:
    write("shop.py", "\nimport not_installed\n")
    assert re.search(
        r"shop\.py:2: import failed: ModuleNotFoundError: No module named 'not_installed'", refusal("shop")
    )


def test_a_file_that_failed_is_read_again() -> None:
    write("mytasks.py", "1 / 0")
    assert "ZeroDivisionError" in refusal("mytasks.py")
    write("mytasks.py", TASK.format(name="one"))
    assert loaded("mytasks.py").names() == ["one"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = " + "-" * 100_000 + "1\n", "MemoryError"), ("x = 1" + "+1" * 100_000 + "\n", "RecursionError"),
        ("(" * 100_000, "too many nested parentheses"), ("x = '\0'\n", "mytasks.py: SyntaxError: "),
    ],
    ids=["minus", "plus", "parentheses", "NUL"],
)  # fmt: skip
def test_a_file_that_does_not_compile_fails_alone(text: str, why: str) -> None:
    write("mytasks.py", text)
    assert why in refusal("mytasks.py")


def test_a_pipe_in_a_folder_of_tasks_does_not_block(tmp_path: Path) -> None:
    folder = tmp_path / "piped"
    folder.mkdir()
    os.mkfifo(folder / "pipe.py")
    assert "pipe.py: expected a file, got a folder, a pipe or a device" in refusal(f"{folder}/")


def test_an_interrupt_is_no_fault_of_the_file() -> None:
    write("mytasks.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        loaded("mytasks.py")


def test_two_functions_of_one_name_are_both_named() -> None:
    first, second = write("a.py", TASK.format(name="one")), write("b.py", "\n" + TASK.format(name="one"))
    says = "b.py:5: one: the name 'one' is taken by one at a.py:4; choose another with @task(name=...)"
    assert refusal(first, second).startswith(says)
    assert loaded(first, second).get("one").source == "a.py:4", "the first has it"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("missing.py", "missing.py: there is no such file"),
        ("missing/tasks.py", "missing/tasks.py: there is no such file"),
        ("no_such_module", "no_such_module: there is no file, folder or module of this name"),
        ("no_such.module", "no_such.module: there is no file, folder or module of this name"),
        ("tasker.no_such", "tasker.no_such: there is no file, folder or module of this name"),
        ("some/folder", "some/folder: there is no such file or folder, and it is not the name of a module"),
        ("__import__('os')", "it is not the name of a module"),
    ],
)
def test_targets_that_are_not_there(target: str, says: str) -> None:
    assert says in missing(target)
    registry = Registry()
    load(registry, [target, write("mytasks.py", TASK.format(name="one"))], all_there=False)
    assert registry.names() == ["one"], "a child process goes on without what has vanished"
    assert says in registry.faults[0].detail


def test_a_module_without_tasks() -> None:
    assert "no function with @task" in refusal("tasker.model")


def test_a_file_that_is_not_python() -> None:
    write("tasks.txt", "x")
    assert missing("tasks.txt") == "tasks.txt: expected a file that ends in .py"


# What is wrong with one file leaves the others alone


BROKEN = """
import nothing
from tasker import task

@task
def plain(): ...

@other
@task(retry=3)
async def with_options(): ...

@task(
    name="named",
    timeout=3,
)
def not_this_one(): ...

def helper(): ...
"""
NAMES = ("plain", "with_options", "named")


@pytest.mark.parametrize("text", [BROKEN, BROKEN + "\nx = (\n"], ids=["import", "syntax"])
def test_a_broken_file_stops_no_other_and_its_types_are_known(text: str) -> None:
    write("tasks/a.py", TASK.format(name="a"))
    write("tasks/b.py", text)
    write("tasks/c.py", TASK.format(name="c"))
    registry = loaded("tasks")
    assert registry.names() == ["a", "c"]
    (fault,) = registry.faults
    assert (fault.target, fault.types) == ("tasks/b.py", NAMES)
    for name in NAMES:
        with pytest.raises(Invalid, match=re.escape(f"{name!r} could not be loaded: {fault.detail}")) as caught:
            registry.get(name)
        assert (caught.value.kind.name, caught.value.kind.status) == ("type-not-loaded", 503)


def test_a_wrong_function_does_not_stop_the_others() -> None:
    write("mytasks.py", TASK.format(name="one") + "\n@task\ndef two(x): ...\n" + TASK.format(name="three"))
    registry = loaded("mytasks.py")
    assert registry.names() == ["one", "three"]
    assert [(fault.target, fault.types) for fault in registry.faults] == [("mytasks.py", ("two",))]


def test_a_broken_file_takes_no_name_from_another() -> None:
    write("a.py", BROKEN)
    write("b.py", TASK.format(name="plain"))
    assert loaded("a.py", "b.py").get("plain").source == "b.py:4"


def test_a_type_may_be_in_what_could_not_be_loaded() -> None:
    write("mytasks.py", "1 / 0")
    with pytest.raises(Invalid, match=r"may be in what could not be loaded: mytasks\.py") as caught:
        loaded("mytasks.py").get("one")
    assert caught.value.kind.name == "unknown-type"


@pytest.mark.parametrize("error", ["GeneratorExit", "Odd", "SystemExit"])
def test_whatever_a_file_raises_is_its_fault(error: str) -> None:
    odd = "class Odd(BaseException):\n    def __str__(self): raise ValueError\n"
    write("mytasks.py", f"{odd}raise {error}()")
    assert f"mytasks.py:3: import failed: {error}" in refusal("mytasks.py")


# Relative imports


def test_a_file_imports_files_next_to_it() -> None:
    write("tasks/b.py", "from .helpers import OFFSET\nfrom .a import a\n" + TASK.format(name="b"))
    write("tasks/a.py", TASK.format(name="a"))
    write("tasks/helpers.py", "OFFSET = 1\n")
    registry = loaded("tasks/b.py", "tasks/a.py")
    assert registry.names() == ["b", "a"]
    beside = sys.modules[registry.get("b").function.__module__]
    assert beside.a is registry.get("a").function, "a.py is one module"  # type: ignore[attr-defined]


def test_a_file_imports_from_its_package() -> None:
    write("shop/__init__.py", "RATE = 3\n")
    write("shop/tasks.py", "from . import RATE\n" + TASK.format(name="sell"))
    assert loaded("shop/").names() == ["sell"]


def test_a_package_that_no_file_asks_for_is_not_run() -> None:
    write("shop/__init__.py", "1 / 0\n")
    write("shop/a.py", TASK.format(name="a"))
    assert loaded("shop/").names() == ["a"]
    write("shop/b.py", "from . import RATE\n" + TASK.format(name="b"))
    assert re.search(r"shop/__init__\.py:1: import failed: ZeroDivisionError", refusal("shop/"))


def test_an_import_from_above_the_file_says_what_to_do() -> None:
    write("shop/common.py", "RATE = 3\n")
    write("shop/tasks/sell.py", "from ..common import RATE\n" + TASK.format(name="sell"))
    assert re.search(r"sell\.py:1: import failed: .*relative import.*name the module instead", refusal("shop/tasks"))
    assert loaded("shop.tasks.sell").names() == ["sell"]


# Entry points, as an installed package would have them


def install(name: str, value: str) -> None:
    write("site/plugin-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    write("site/plugin-1.0.dist-info/entry_points.txt", f"[tasker.tasks]\n{name} = {value}\n")
    sys.path.insert(0, str(Path("site").absolute()))


def from_entry_points() -> Registry:
    registry = Registry()
    load_entry_points(registry)
    return registry


def test_without_entry_points_nothing_happens() -> None:
    assert len(from_entry_points()) == 0


@pytest.mark.parametrize("value", ["plugin_tasks", "plugin_tasks:one"])
def test_an_entry_point_is_a_module_or_a_function(value: str) -> None:
    write("site/plugin_tasks.py", TASK.format(name="one"))
    install("mine", value)
    assert from_entry_points().names() == ["one"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("plugin_missing", "entry point mine = plugin_missing: import failed: ModuleNotFoundError"),
        ("plugin_tasks:missing", "entry point mine = plugin_tasks:missing: import failed: AttributeError"),
        ("plugin_tasks:plain", "plugin_tasks.py:8: entry point mine = plugin_tasks:plain is no module and no @task"),
        ("plugin_tasks:number", "entry point mine = plugin_tasks:number is no module and no @task"),
    ],
)
def test_a_wrong_entry_point_is_named(value: str, says: str) -> None:
    write("site/plugin_tasks.py", TASK.format(name="one") + "\ndef plain() -> None: ...\nnumber = 3\n")
    install("mine", value)
    (fault,) = from_entry_points().faults
    assert says in fault.detail


def test_a_broken_entry_point_stops_no_other_and_its_type_is_known() -> None:
    write("site/plugin_tasks.py", TASK.format(name="one") + TASK.format(name="two") + "\n1 / 0\n")
    install("mine", "plugin_tasks:two")
    registry = from_entry_points()
    assert [fault.types for fault in registry.faults] == [("two",)]
