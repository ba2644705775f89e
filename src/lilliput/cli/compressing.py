"""``lilliput compress`` and ``lilliput apply``: a task in, a folder with a report out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lilliput.cli.app import app
from lilliput.cli.line import command_line
from lilliput.cli.options import (
    NO_BUILD,
    NO_LIMITS,
    NO_REPLAY,
    NO_TASK,
    BuildOptions,
    FolderOptions,
    LimitOptions,
    ReplayOptions,
    Sweep,
    TaskOptions,
    amounts,
    ledger_beside,
)
from lilliput.cli.screen import Screen

if TYPE_CHECKING:
    from lilliput.records import Report
    from lilliput.runs import Settings
    from lilliput.sources import TaskArguments


@app.command
def compress(
    target: str,
    /,
    *,
    folder: FolderOptions,
    task: TaskOptions = NO_TASK,
    limits: LimitOptions = NO_LIMITS,
    run: BuildOptions = NO_BUILD,
    sweep: Sweep = None,
) -> int:
    """Make a model fit, and prove what that cost.

    Args:
        target: A task file (task.py), a Hugging Face folder, FILE.py:NAME, or an ONNX file.
    """
    screen = Screen(as_json=folder.as_json)
    with screen.working():
        screen.progress("load", 0, 1)
        from lilliput.pipeline import compress as run_compress

        budget = limits.budget()
        settings = _settings(screen, task.arguments(target), run, folder)
        report = run_compress(
            task.task(target), budget, out=folder.out, settings=settings, sweep=amounts(sweep)
        )
    return show_report(screen, report, out=folder.out)


@app.command
def apply(
    plan: Path,
    target: str,
    /,
    *,
    folder: FolderOptions,
    task: TaskOptions = NO_TASK,
    limits: LimitOptions = NO_LIMITS,
    run: ReplayOptions = NO_REPLAY,
) -> int:
    """Replay a plan on a model of the same architecture: recalibrate, measure and judge anew.

    Args:
        plan: The plan.toml of an earlier run.
        target: A task file (task.py), a Hugging Face folder, FILE.py:NAME, or an ONNX file.
    """
    screen = Screen(as_json=folder.as_json)
    with screen.working():
        screen.progress("load", 0, 1)
        from lilliput.pipeline import apply_plan
        from lilliput.plans import read_plan

        budget = limits.budget()
        chosen = read_plan(plan)
        settings = _settings(screen, task.arguments(target), run, folder)
        report = apply_plan(chosen, task.task(target), budget, out=folder.out, settings=settings)
    return show_report(screen, report, out=folder.out)


def show_report(screen: Screen, report: "Report", *, out: Path) -> int:
    """Prints a report; the exit status is that of its verdict."""
    from lilliput.stages.report import report_text
    from lilliput.stages.summary import summary_table
    from lilliput.verdicts import exit_status

    screen.show(summary_table(report, out), json.loads(report_text(report)))
    return exit_status(report.verdict)


def _settings(
    screen: Screen,
    arguments: "TaskArguments",
    run: BuildOptions | ReplayOptions,
    folder: FolderOptions,
) -> "Settings":
    from lilliput.sources import source_bytes

    return run.settings(
        conditions=run.measuring.conditions(),
        ledger=ledger_beside(arguments.target),
        force=folder.force,
        command=command_line(),
        source_bytes=source_bytes(arguments),
        said=screen.said,
        progress=screen.progress,
    )
