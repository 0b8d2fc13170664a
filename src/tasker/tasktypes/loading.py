"""Import users' modules: files, folders, dotted modules and entry points. Each fault names the file and the line."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from tasker.errors import NoSuchTarget, RegistrationError

GROUP = "tasker.tasks"
"""The entry point group in which installed packages offer their tasks."""

_MODULE_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_TASKER = str(Path(__file__).parent.parent)
_RELATIVE = re.compile(r"^\s*from\s+\.", re.MULTILINE)
_DECORATED = re.compile(
    r"^@(?:\w+\.)?task\b(?P<options>[^\n]*(?:\n(?!(?:async\s+)?def\b)[^\n]*)*?)\n(?:async\s+)?def\s+(?P<function>\w+)",
    re.MULTILINE,
)
_NAME_OPTION = re.compile(r"""\bname\s*=\s*["']([^"'\n]+)["']""")


class Source(NamedTuple):
    """One module to import: the file `name`, or the dotted module `name` if `file` is None."""

    name: str
    file: Path | None


def find_sources(target: str) -> list[Source]:
    """Return the sources that `target` names: a file, the .py files of a folder (except _*.py), or a dotted module.

    A package in the working directory counts as a module if written `shop`, as a folder if written `shop/`.
    Raises NoSuchTarget.
    """
    path = Path(target)
    is_name = _MODULE_NAME.fullmatch(target) is not None
    if path.is_dir() and not (is_name and (path / "__init__.py").is_file()):
        files = sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))
        return [Source(str(file), file) for file in files]
    if path.suffix == ".py" or path.is_file():
        if not path.is_file():
            raise NoSuchTarget(f"{path}: there is no such file")
        if path.suffix != ".py":
            raise NoSuchTarget(f"{path}: expected a file that ends in .py")
        return [Source(str(path), path)]
    if not is_name:
        raise NoSuchTarget(f"{target}: there is no such file or folder, and it is not the name of a module")
    return [Source(target, None)]


def import_source(source: Source) -> ModuleType:
    """Import a module. The name of a file in `sys.modules` comes from its path, so every process has the same one.

    Raises RegistrationError; NoSuchTarget if there is no such module.
    """
    return _import_module(source.name) if source.file is None else _import_file(source.file)


def _import_file(path: Path) -> ModuleType:
    resolved = path.resolve()
    folder = f"tasker_folder_{hashlib.sha256(str(resolved.parent).encode()).hexdigest()[:8]}"
    name = f"{folder}.{resolved.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if resolved.exists() and not resolved.is_file():  # reading a pipe would block until something is written to it
        raise RegistrationError(f"{path}: expected a file, got a folder, a pipe or a device; begin its name with _")
    _allow_imports_from(resolved.parent)
    try:
        _import_folder(folder, resolved)
        return _import_as(name, resolved)
    except BaseException as error:
        _explain(str(path), error)


def _import_folder(name: str, file: Path) -> None:
    """Make the folder of a file a package, so that its relative imports work.

    Its own __init__.py runs only for files with relative imports: the others do not expect it.
    """
    package = sys.modules.get(name)
    if package is None:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(file.parent)]
        package = sys.modules[name] = importlib.util.module_from_spec(spec)
        package.__file__ = None
    start = file.parent / "__init__.py"
    if package.__file__ is None and start.is_file() and _RELATIVE.search(_read(file)):
        package.__file__ = str(start)
        try:
            exec(compile(start.read_bytes(), str(start), "exec"), vars(package))  # noqa: S102  as an import does
        except BaseException:
            package.__file__ = None
            raise


def _import_as(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    _allow_imports_from(Path.cwd())
    try:
        return importlib.import_module(name)
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise NoSuchTarget(f"{name}: there is no file, folder or module of this name") from None
        _explain(name, error)


def declared_names(source: Source) -> list[str]:
    """Return the names of the task types of a module that cannot be imported, as far as its source shows them."""
    file = source.file or _file_of(source.name)
    if file is None:
        return []
    text = _read(file)
    try:
        return _names_in(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deeply
        found = _DECORATED.finditer(text)
        return [name[1] if (name := _NAME_OPTION.search(one["options"])) else one["function"] for one in found]


def _names_in(tree: ast.Module) -> list[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [
        _name_of(mark, function.name) for function in functions for mark in function.decorator_list if _is_mark(mark)
    ]


def _is_mark(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)) == "task"


def _name_of(decorator: ast.expr, function: str) -> str:
    options = {one.arg: one.value for one in decorator.keywords} if isinstance(decorator, ast.Call) else {}
    name = options.get("name")
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else function


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace") if file.is_file() else ""
    except OSError:
        return ""


def _file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # its package cannot be imported
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


class EntryPoint(NamedTuple):
    """An entry point of an installed package: `load` returns a module or a function, or raises RegistrationError."""

    description: str
    source: Source
    attribute: str
    load: Callable[[], Any]


def find_entry_points() -> Iterator[EntryPoint]:
    """Yield the entry points of installed packages."""
    from importlib.metadata import entry_points  # imported here: it takes 20 ms, and child processes do not need it

    for entry in entry_points(group=GROUP):
        description = f"entry point {entry.name} = {entry.value}"

        def load(entry: Any = entry, description: str = description) -> Any:
            try:
                return entry.load()
            except BaseException as error:
                _explain(description, error)

        module, _, attribute = entry.value.partition(":")
        yield EntryPoint(description, Source(module.strip(), None), attribute.strip(), load)


def _allow_imports_from(folder: Path) -> None:
    """Let the module import other files of its folder, which comes last in the path so that it hides no module."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _explain(target: str, error: BaseException) -> NoReturn:
    """Raise RegistrationError for an import's exception, which may be anything, such as SystemExit from a script."""
    if isinstance(error, RegistrationError | KeyboardInterrupt):
        raise error
    if isinstance(error, SyntaxError):
        place = target if error.filename is None else f"{error.filename}:{error.lineno}"
        raise RegistrationError(f"{place}: {type(error).__name__}: {error.msg}") from error
    place = _place_in(error, target)
    if isinstance(error, ImportError) and "relative import" in str(error):
        advice = "one `.` is the folder of the file; for what lies above it, name the module instead: package.module"
        raise RegistrationError(f"{place}: import failed: {error}: {advice}") from error
    raise RegistrationError(f"{place}: import failed: {type(error).__name__}: {_message(error)}") from error


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # __str__ of a user's exception may raise
        return "(its message cannot be shown)"


def _place_in(error: BaseException, target: str) -> str:
    """Return the innermost "file:line" of the traceback that is neither a library's nor Tasker's own."""
    import sysconfig

    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    foreign = ("<", _TASKER, *libraries)
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(foreign)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else target


def functions_in(module: ModuleType, is_task: Callable[[Any], bool]) -> list[Any]:
    """Return the task functions that a module defines or imports from modules below it, in order.

    A module that gathers them from elsewhere lists them in `__tasks__`. Raises RegistrationError if there are none.
    """
    listed = getattr(module, "__tasks__", None)
    if listed is not None:
        return [member for member in listed if is_task(member)]
    found = {
        id(member): member
        for member in vars(module).values()
        if is_task(member) and f"{member.__module__}.".startswith(f"{module.__name__}.")
    }
    if not found:
        advice = "in a folder of tasks, begin the name of a file that has none with _"
        if hasattr(module, "__path__"):
            advice = f"import them in it, or name {module.__name__}.MODULE, or the folder as {module.__name__}/"
        raise RegistrationError(f"{module.__file__ or module.__name__}: no function with @task; {advice}")
    return list(found.values())
