"""``lilliput profile``: what each site weighs, computes and is worth."""

import json
from typing import TYPE_CHECKING

from lilliput.cli.app import app
from lilliput.cli.options import NO_RUN, NO_TASK, Json, RunOptions, TaskOptions
from lilliput.cli.screen import Screen

if TYPE_CHECKING:
    from rich.table import Table

    from lilliput.records import SiteReport


@app.command
def profile(
    target: str,
    /,
    *,
    task: TaskOptions = NO_TASK,
    run: RunOptions = NO_RUN,
    as_json: Json = False,
) -> None:
    """Show every weight that can change: its bytes, multiply-adds and sensitivity.

    Args:
        target: A task file (task.py), a Hugging Face folder, FILE.py:NAME, or an ONNX file.
    """
    screen = Screen(as_json=as_json)
    with screen.working():
        screen.progress("load", 0, 1)
        from lilliput.surveying import survey

        settings = run.settings(said=screen.said, progress=screen.progress)
        sites = survey(task.task(target), settings=settings)
    screen.show(_table(sites), {"sites": [json.loads(site.model_dump_json()) for site in sites]})


def _table(sites: "tuple[SiteReport, ...]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from lilliput.stages.wording import clean, count, number, size

    table = Table(
        "site", "kind", "shape", "bytes", "multiply-adds", "sensitivity", box=None, pad_edge=False
    )
    for column in table.columns[3:]:
        column.justify = "right"
    for site in sites:
        table.add_row(
            Text(clean(site.name)),
            site.kind,
            " x ".join(map(str, site.shape)),
            size(site.original_bytes),
            count(site.macs),
            number(site.sensitivity),
        )
    return table
