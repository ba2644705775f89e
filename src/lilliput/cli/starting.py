"""``lilliput init``: writes a task file by asking, or from options."""

import sys
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from cyclopts import Parameter

from lilliput.cli.app import app
from lilliput.cli.options import NO_TASK, TASK, Flag, Json, TaskOptions
from lilliput.cli.screen import Screen
from lilliput.errors import InputError, OutputError

FILE = Path("task.py")
INSTEAD = "lilliput init task.py --target net.py:Net --weights net.pt --images photos/"


@app.command
def init(
    file: Path = FILE,
    /,
    *,
    target: Annotated[str | None, Parameter(group=TASK)] = None,
    task: TaskOptions = NO_TASK,
    yes: Annotated[bool, Flag] = False,
    as_json: Json = False,
) -> None:
    """Write a task file, by asking for what the options do not say.

    Args:
        file: The file to be; an existing one is never replaced.
        target: A Hugging Face folder, FILE.py:NAME, or an ONNX file.
        yes: Do not ask; what is not given is left to its default.
    """
    screen = Screen(as_json=as_json)
    if file.exists():
        raise OutputError(f"{file} exists", "init never replaces a file; name another")
    if not (yes or as_json) and (target is None or task == NO_TASK):
        target, task = _asked(target, task)
    if target is None:
        raise InputError("there is nothing to compress", INSTEAD)
    from lilliput.sources import draft_task

    text = draft_task(task.arguments(target), file)
    _write(file, text)
    following = f"lilliput compress {quote(str(file))} --out out/"
    screen.show(f"wrote {file}\nnext: {following}", {"file": str(file), "next": following})


def _asked(target: str | None, task: TaskOptions) -> tuple[str, TaskOptions]:
    target = target or _ask("Your model: FILE.py:NAME, a Hugging Face folder, or an ONNX file")
    answers: dict[str, Any] = {}
    if Path(target).is_dir():
        answers["texts"] = task.texts or _ask("File of texts, one a line (none: press Enter)")
    else:
        if Path(target).suffix.lower() != ".onnx":
            answers["weights"] = task.weights or _ask("File of its weights (none: press Enter)")
        data = _ask("Examples: a folder of images or an .npz of arrays (none: press Enter)")
        if not data:
            answers["shape"] = _ask("Shape of one input, e.g. 3x224x224")
        else:
            answers["images" if Path(data).is_dir() else "data"] = data
    answers["metric"] = task.metric or _ask("Metric (press Enter: the one that fits)")
    return target, replace(task, **{name: value or None for name, value in answers.items()})


def _ask(question: str) -> str:
    """One answer; questions go to standard error, so that output can be piped."""
    print(f"{question}: ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise InputError("there is nobody to ask", f"e.g. {INSTEAD}")
    return line.strip()


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror}") from error
