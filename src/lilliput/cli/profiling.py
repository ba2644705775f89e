"""``lilliput profile``: what each site weighs, computes, takes and is worth."""

import json
from typing import TYPE_CHECKING

from lilliput.cli.app import app
from lilliput.cli.options import (
    NO_MEASURING,
    NO_RUN,
    NO_TASK,
    Json,
    MeasureOptions,
    RunOptions,
    TaskOptions,
)
from lilliput.cli.screen import Screen

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from lilliput.surveying import Survey


@app.command
def profile(
    target: str,
    /,
    *,
    task: TaskOptions = NO_TASK,
    run: RunOptions = NO_RUN,
    measuring: MeasureOptions = NO_MEASURING,
    as_json: Json = False,
) -> None:
    """Show every weight that can change: its bytes, multiply-adds, time and sensitivity.

    Then say where bytes and time are, and what can get faster on this machine.

    Args:
        target: A task file (task.py), a Hugging Face folder, FILE.py:NAME, or an ONNX file.
    """
    screen = Screen(as_json=as_json)
    with screen.working():
        screen.progress("load", 0, 1)
        from lilliput.surveying import survey

        settings = run.settings(
            conditions=measuring.conditions(), said=screen.said, progress=screen.progress
        )
        found = survey(task.task(target), settings=settings)
    screen.show(_shown(found), json.loads(found.model_dump_json()))


def _shown(found: "Survey") -> "Group":
    from rich.console import Group
    from rich.text import Text

    return Group(_table(found), *(Text(f"\n{sentence}") for sentence in found.answers))


def _table(found: "Survey") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from lilliput.stages.wording import clean, count, number, size

    table = Table(
        *("site", "kind", "shape", "bytes", "multiply-adds", "ms", "sensitivity"),
        box=None,
        pad_edge=False,
    )
    for column in table.columns[3:]:
        column.justify = "right"
    for site in found.sites:
        table.add_row(
            Text(clean(site.name)),
            site.kind,
            " x ".join(map(str, site.shape)),
            size(site.original_bytes),
            count(site.macs),
            number(None if found.site_ms is None else found.site_ms.get(site.name)),
            number(site.sensitivity),
        )
    return table
