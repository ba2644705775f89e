"""``lilliput compress`` and ``lilliput apply``: a task in, a folder with a report out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lilliput.cli.door import command_line
from lilliput.cli.options import (
    NO_LIMITS,
    NO_MEASURING,
    NO_RUN,
    NO_TASK,
    OUTPUT,
    Json,
    LimitOptions,
    MeasureOptions,
    RunOptions,
    TaskOptions,
    ledger_beside,
)
from lilliput.cli.screen import Screen

if TYPE_CHECKING:
    from lilliput.records import Report
    from lilliput.runs import Settings

Out = Annotated[Path, Parameter(group=OUTPUT)]


def compress(
    target: str,
    /,
    *,
    out: Out,
    task: TaskOptions = NO_TASK,
    limits: LimitOptions = NO_LIMITS,
    run: RunOptions = NO_RUN,
    measuring: MeasureOptions = NO_MEASURING,
    as_json: Json = False,
) -> int:
    """Make a model fit, and prove what that cost.

    Args:
        target: A task file (task.py), a Hugging Face folder, or FILE.py:NAME.
        out: Folder for the files and the report; it may not exist yet.
    """
    screen = Screen(as_json=as_json)
    with screen.working():
        budget = limits.budget()
        screen.progress("load", 0, 1)
        from lilliput.pipeline import compress as run_compress

        settings = _settings(screen, target, task, run=run, measuring=measuring)
        report = run_compress(task.task(target), budget, out=out, settings=settings)
    return show_report(screen, report, out)


def apply(
    plan: Path,
    target: str,
    /,
    *,
    out: Out,
    task: TaskOptions = NO_TASK,
    limits: LimitOptions = NO_LIMITS,
    run: RunOptions = NO_RUN,
    measuring: MeasureOptions = NO_MEASURING,
    as_json: Json = False,
) -> int:
    """Replay a plan on a model of the same architecture: recalibrate, measure and judge anew.

    Args:
        plan: The plan.toml of an earlier run.
        target: A task file (task.py), a Hugging Face folder, or FILE.py:NAME.
        out: Folder for the files and the report; it may not exist yet.
    """
    screen = Screen(as_json=as_json)
    with screen.working():
        budget = limits.budget()
        screen.progress("load", 0, 1)
        from lilliput.pipeline import apply_plan
        from lilliput.plans import read_plan

        settings = _settings(screen, target, task, run=run, measuring=measuring)
        chosen = read_plan(plan)
        report = apply_plan(chosen, task.task(target), budget, out=out, settings=settings)
    return show_report(screen, report, out)


def show_report(screen: Screen, report: "Report", out: Path) -> int:
    """Prints a report; the exit status is that of its verdict."""
    from lilliput.stages.report import report_text
    from lilliput.stages.summary import summary_table
    from lilliput.verdicts import exit_status

    screen.show(summary_table(report, out), json.loads(report_text(report)))
    return exit_status(report.verdict)


def _settings(
    screen: Screen, target: str, task: TaskOptions, *, run: RunOptions, measuring: MeasureOptions
) -> "Settings":
    from lilliput.sources import source_bytes

    return run.settings(
        conditions=measuring.conditions(),
        ledger=ledger_beside(target),
        command=command_line(),
        source_bytes=source_bytes(task.arguments(target)),
        said=screen.said,
        progress=screen.progress,
    )
