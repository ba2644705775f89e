"""A task file, written from what a command line says: `lilliput init`."""

import ast
import os
from dataclasses import fields
from pathlib import Path

from lilliput.errors import TaskError
from lilliput.sources.arguments import TaskArguments

_HEAD = '''"""What must keep working; read by `lilliput compress {name}`."""

from pathlib import Path

{imports}
HERE = Path(__file__).parent

{task}
'''
_PATHS = ("target", "texts", "images", "data", "weights")


def draft_task(arguments: TaskArguments, file: Path) -> str:
    """The text of a task file that says the same as the arguments do.

    Paths are written relative to the folder of the task file, so all of it can be moved. Code of
    the user's is read, not run.

    Args:
        arguments: As for `task_from_arguments`; the target is a folder, ``FILE.py:NAME`` or an
            ONNX file.
        file: Where the text is going to be written.

    Raises:
        TaskError: A file or name that does not exist, no data for a model from code or an ONNX
            file, or a metric that is code.
    """
    folder = file.resolve().parent
    if ".py:" in (arguments.metric or ""):
        raise TaskError(
            f"a task file imports its metric: {arguments.metric}",
            "leave --metric out, then write metric=... in the file",
        )
    if Path(arguments.target).suffix.lower() == ".onnx":
        imports, task = _onnx(arguments, folder)
    elif Path(arguments.target).is_dir():
        imports, task = _hugging_face(arguments, folder)
    else:
        imports, task = _from_code(arguments, folder)
    return _HEAD.format(name=file.name, imports=imports, task=task)


def _hugging_face(arguments: TaskArguments, folder: Path) -> tuple[str, str]:
    if not (Path(arguments.target) / "config.json").is_file():
        raise TaskError(f"{arguments.target} is no Hugging Face folder: it has no config.json")
    given = {f.name: getattr(arguments, f.name) for f in fields(arguments)}
    lines = [
        f"        {name}={f'str({_path(value, folder)})' if name in _PATHS else _value(value)},\n"
        for name, value in given.items()
        if value is not None
    ]
    task = f"task = task_from_arguments(\n    TaskArguments(\n{''.join(lines)}    )\n)"
    return "from lilliput.sources import TaskArguments, task_from_arguments\n", task


def _onnx(arguments: TaskArguments, folder: Path) -> tuple[str, str]:
    if any(part is not None for part in (arguments.shape, arguments.weights, arguments.texts)):
        raise TaskError(
            "an ONNX file has its weights and needs examples",
            "--data INPUTS.npz or --images FOLDER",
        )
    _, data = _data(arguments, folder)
    lines = [f"    {_path(arguments.target, folder)},\n", f"    {data},\n"]
    if arguments.metric is not None:
        lines.append(f"    metric={_value(arguments.metric)},\n")
    return "import lilliput\n", f"task = lilliput.onnx_task(\n{''.join(lines)})"


def _from_code(arguments: TaskArguments, folder: Path) -> tuple[str, str]:
    model_from, own, model = _model(arguments, folder)
    data_from, data = _data(arguments, folder)
    ours = ", ".join(name for name in (data_from, model_from) if name)
    imports = "import lilliput\n" + (f"from lilliput.sources import {ours}\n" if ours else "")
    metric = "" if arguments.metric is None else f"    metric={_value(arguments.metric)},\n"
    return imports + own, f"task = lilliput.Task(\n    model={model},\n    {data},\n{metric})"


def _model(arguments: TaskArguments, folder: Path) -> tuple[str, str, str]:
    """What to import from us, the import of the user's code, and the expression of the model."""
    spec, _, name = arguments.target.rpartition(":")
    file = Path(spec)
    if not spec or file.suffix != ".py" or not name.isidentifier():
        raise TaskError(
            f"{arguments.target!r} is not FILE.py:NAME", "e.g. net.py:Net, or a Hugging Face folder"
        )
    place = _path(spec, folder)
    called = name + _call(file, name)
    weights = None if arguments.weights is None else _path(arguments.weights, folder)
    if file.resolve().parent == folder and file.stem.isidentifier():
        loaded = called if weights is None else f"lilliput.load_weights({called}, {weights})"
        return "", f"from {file.stem} import {name}\n", loaded
    more = "" if weights is None else f", weights={weights}"
    return "model_from_spec", "", f'model_from_spec(str({place}) + ":{name}"{more})'


def _data(arguments: TaskArguments, folder: Path) -> tuple[str, str]:
    """What to import, and the field that holds the examples or inputs."""
    if arguments.images is not None:
        given = {name: getattr(arguments, name) for name in ("size", "mean", "std")}
        more = "".join(f", {n}={_value(v)}" for n, v in given.items() if v is not None)
        return "", f"examples=lilliput.images({_path(arguments.images, folder)}{more})"
    if arguments.data is not None:
        return "", f"examples=lilliput.arrays({_path(arguments.data, folder)})"
    if arguments.shape is not None:
        return "inputs_of_shape", f"example_inputs=inputs_of_shape({_value(arguments.shape)})"
    raise TaskError("a model from code needs data", "images, arrays (.npz), or a shape")


def _call(file: Path, name: str) -> str:
    """``()`` where the name is a class or a function, "" where it is a module already."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise TaskError(f"{file} is not valid Python: {error}") from error
    made = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            made[node.name] = "()"
        elif isinstance(node, ast.ImportFrom | ast.Import):
            made |= {alias.asname or alias.name: "()" for alias in node.names}
        elif isinstance(node, ast.Assign):
            made |= {target.id: "" for target in node.targets if isinstance(target, ast.Name)}
    if name not in made:
        raise TaskError(f"{file} has no {name}", f"it defines {', '.join(made) or 'nothing'}")
    return made[name]


def _path(text: str, folder: Path) -> str:
    """An expression for a file or folder that exists."""
    place = Path(text)
    if not place.exists():
        raise TaskError(f"there is no {place}", "paths are relative to where you are now")
    return f"HERE / {_value(os.path.relpath(place.resolve(), folder).replace(os.sep, '/'))}"


def _value(value: object) -> str:
    """A literal, text in double quotes."""
    shown = repr(value)
    plain = isinstance(value, str) and '"' not in value and shown.startswith("'")
    return f'"{shown[1:-1]}"' if plain else shown
