"""``lilliput verify`` and ``lilliput report``: an output folder, checked or shown again."""

import json
from pathlib import Path

from lilliput.cli.app import app
from lilliput.cli.compressing import show_report
from lilliput.cli.line import command_line
from lilliput.cli.options import (
    NO_MEASURING,
    NO_NEW_TASK,
    Json,
    MaxBytes,
    MeasureOptions,
    NewTaskOptions,
    ledger_beside,
    size_in_bytes,
)
from lilliput.cli.screen import Screen
from lilliput.errors import InputError


@app.command
def verify(
    out: Path,
    target: str | None = None,
    /,
    *,
    task: NewTaskOptions = NO_NEW_TASK,
    measuring: MeasureOptions = NO_MEASURING,
    max_bytes: MaxBytes = None,
    as_json: Json = False,
) -> int:
    """Check an output folder: hashes, sizes, packed against runnable; with a task, the limits too.

    Beside a task file, --data or --images are new examples, which all prove.

    Args:
        out: Folder that compress wrote.
        target: A task file (task.py), a Hugging Face folder, FILE.py:NAME, or an ONNX file.
    """
    if target is None and task != NO_NEW_TASK:
        raise InputError("options of a task need a task", "lilliput verify OUT TARGET --data NEW")
    screen = Screen(as_json=as_json)
    most = {} if max_bytes is None else {"max_bytes": size_in_bytes("--max-bytes", max_bytes)}
    if target is None:
        return _check_files(screen, out, **most)
    with screen.working():
        screen.progress("load", 0, 1)
        from lilliput.runs import Settings
        from lilliput.verification import verify as run_verify

        settings = Settings(
            conditions=measuring.conditions(),
            ledger=ledger_beside(target),
            command=command_line(),
            said=screen.said,
            progress=screen.progress,
        )
        known, new = task.task_to_verify(target)
        report = run_verify(out, known, fresh=task.fresh or new, settings=settings, **most)
    return show_report(screen, report, out=out)


@app.command
def report(out: Path, /, *, as_json: Json = False) -> int:
    """Write report.html again from report.json, and show the verdict.

    Args:
        out: Folder that compress wrote.
    """
    from lilliput.stages.report import read_report
    from lilliput.stages.report import report as write_report

    screen = Screen(as_json=as_json)
    with screen.working():
        found = read_report(out)
        write_report(found, out)
    return show_report(screen, found, out=out)


def _check_files(screen: Screen, out: Path, **most: int) -> int:
    from lilliput.stages.verify import verify_files
    from lilliput.stages.wording import size

    with screen.working():
        screen.progress("check the files", 0, 1)
        manifest = verify_files(out, **most)
    lines = [f"{name}: {size(entry.bytes)}, as shipped" for name, entry in manifest.files.items()]
    screen.show(
        "\n".join([*lines, "The packed file unpacks to the runnable one, bit for bit."]),
        json.loads(manifest.model_dump_json()),
    )
    return 0
