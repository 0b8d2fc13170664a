"""Importing users' modules: files, folders, dotted modules and entry points; each fault names the file and the line."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from tasker.errors import RegistrationError

GROUP = "tasker.tasks"
"""The group of entry points by which an installed package offers its tasks."""

_MODULE_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_TASKER = str(Path(__file__).parent)


def import_target(target: str) -> list[ModuleType]:
    """Import what `target` names: a file, every .py file of a folder (but those beginning with _), or a dotted module.

    A file is imported under a name made from its path, the same in every process. A package in the working directory is
    a module when named like one (`shop`), a folder when named like one (`shop/`). Raises RegistrationError.
    """
    path = Path(target)
    is_name = _MODULE_NAME.fullmatch(target) is not None
    if path.is_dir() and not (is_name and (path / "__init__.py").is_file()):
        files = sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))
        return [_import_file(file) for file in files]
    if path.suffix == ".py" or path.is_file():
        return [_import_file(path)]
    if not is_name:
        raise RegistrationError(f"{target}: there is no such file or folder, and it is not the name of a module")
    return [_import_module(target)]


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise RegistrationError(f"{path}: there is no such file")
    resolved = path.resolve()
    name = f"tasker_file_{resolved.stem}_{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise RegistrationError(f"{path}: expected a file that ends in .py")
    _allow_imports_from(resolved.parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        _explain(str(path), error)
    return module


def _import_module(name: str) -> ModuleType:
    _allow_imports_from(Path.cwd())
    try:
        return importlib.import_module(name)
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise RegistrationError(f"{name}: there is no file, folder or module of this name") from None
        _explain(name, error)


def import_entry_points() -> Iterator[tuple[str, Any]]:
    """Yield what installed packages offer, modules or functions, after its description. Raises RegistrationError."""
    from importlib.metadata import entry_points  # here: it takes 20 ms, which a child process can do without

    for entry in entry_points(group=GROUP):
        description = f"entry point {entry.name} = {entry.value}"
        try:
            found = entry.load()
        except BaseException as error:
            _explain(description, error)
        yield description, found


def _allow_imports_from(folder: Path) -> None:
    """Let the module import what lies beside it; last in the path, so that it hides no other module."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _explain(target: str, error: BaseException) -> NoReturn:
    """Raise RegistrationError for what an import raised: anything may come, also SystemExit from a script."""
    if isinstance(error, RegistrationError) or not isinstance(error, Exception | SystemExit):
        raise error
    if isinstance(error, SyntaxError):
        raise RegistrationError(f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}") from error
    raise RegistrationError(f"{_place_in(error, target)}: import failed: {type(error).__name__}: {error}") from error


def _place_in(error: BaseException, target: str) -> str:
    """Return the innermost "file:line" of the traceback that is no library's and not ours."""
    import sysconfig

    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    foreign = ("<", _TASKER, *libraries)
    own = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(foreign)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else target


def functions_in(module: ModuleType, is_task: Callable[[Any], bool]) -> list[Any]:
    """Return the task functions that a module defines, or shows from modules below it, in order.

    Raises RegistrationError if there are none.
    """
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
