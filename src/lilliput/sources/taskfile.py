"""Python files of the user's: a task file, or a file that builds the model."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import nn

from lilliput.errors import TaskError
from lilliput.metrics import Metric
from lilliput.scoring import check_metric
from lilliput.sources.checkpoints import load_weights
from lilliput.task import Task
from lilliput.usercode import users_code


def load_task_file(path: str | Path) -> Task:
    """The Task of a Python file: a module-level ``task`` or what a function ``task()`` returns.

    The file is code and runs as such, with its folder importable.

    Raises:
        TaskError: No such file, no `task` in it, or its code failed (with the line).
    """
    file = _python_file(path)
    with _importable(file.parent), users_code(file.name):
        module = _run(file)
        if not hasattr(module, "task"):
            raise TaskError(
                f"{file} defines no task", "define task = lilliput.Task(...), or def task()"
            )
        found = module.task
        if callable(found) and not isinstance(found, Task):
            found = found()
    if not isinstance(found, Task):
        raise TaskError(f"task in {file} is a {type(found).__name__}, not a lilliput.Task")
    return found


def model_from_spec(spec: str, *, weights: str | Path | None = None) -> nn.Module:
    """The model that ``FILE.py:NAME`` builds, with weights from a file.

    Args:
        spec: NAME is a class or function called without arguments, or a module.
        weights: As for `load_weights`.

    Raises:
        TaskError: No such file or name, or the code failed (with the line).
        CheckpointError: The weights do not fit.
    """
    name = spec.rpartition(":")[2]
    if ":" not in spec or not name.isidentifier():
        raise TaskError(f"{spec!r} is not FILE.py:NAME", "e.g. net.py:Net or model.py:build")
    file = _python_file(spec.rpartition(":")[0])
    with _importable(file.parent), users_code(f"{file.name}:{name}"):
        module = _run(file)
        built = _named(module, name, file)
        if not isinstance(built, nn.Module):
            if not callable(built):
                raise TaskError(f"{name} in {file} is a {type(built).__name__}, not a model")
            built = built()
    if not isinstance(built, nn.Module):
        raise TaskError(f"{name}() in {file} returned {type(built).__name__}, not an nn.Module")
    return built if weights is None else load_weights(built, weights)


def metric_from_spec(spec: str) -> Metric:
    """The metric that ``FILE.py:NAME`` is: a Metric, or a class or function that makes one.

    Raises:
        TaskError: No such file or name, the code failed (with the line), or it is no metric.
    """
    name = spec.rpartition(":")[2]
    file = _python_file(spec.rpartition(":")[0])
    with _importable(file.parent), users_code(f"{file.name}:{name}"):
        found = _named(_run(file), name, file)
        if isinstance(found, type) or not hasattr(found, "rows"):
            found = found()
    check_metric(found)
    return cast(Metric, found)


def _named(module: ModuleType, name: str, file: Path) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    raise TaskError(f"{file} has no {name}", f"it defines {', '.join(own) or 'nothing'}")


def _python_file(path: str | Path) -> Path:
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        raise TaskError(
            f"{file} is not a Python file" if file.exists() else f"{file} is missing",
            "give a task file, or FILE.py:NAME; `lilliput init` writes a task file",
        )
    return file.resolve()


def _run(file: Path) -> ModuleType:
    """The file as a module of its own, registered so that its classes can be found again."""
    name = f"lilliput_user_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise TaskError(f"{file} cannot be loaded")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    complete = False
    try:
        specification.loader.exec_module(module)
        complete = True
    finally:
        if not complete:
            del sys.modules[name]
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """`folder` first on the module path, as when the file is run as a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
