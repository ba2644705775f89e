"""``lilliput simplify``: an ONNX file without what it can do without."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lilliput.cli.app import app
from lilliput.cli.options import OUTPUT, TASK, Flag, Json
from lilliput.cli.screen import Screen

if TYPE_CHECKING:
    from lilliput.runtime.onnx_simplify import Simplified


@app.command
def simplify(
    onnx: Path,
    out: Path,
    /,
    *,
    data: Annotated[str | None, Parameter(group=TASK)] = None,
    force: Annotated[bool, Flag, Parameter(group=OUTPUT)] = False,
    as_json: Json = False,
) -> None:
    """Fold, merge and remove what an ONNX file can do without, and compare what both answer.

    Args:
        onnx: The ONNX file; external data may lie in its folder.
        out: The file to be.
        data: Inputs (.npz) on which the two are compared; made up where not given.
        force: Replace a file.
    """
    screen = Screen(as_json=as_json)
    with screen.working():
        screen.progress("simplify", 0, 1)
        from lilliput.onnxtask import simplify_file
        from lilliput.sources import arrays

        examples = None if data is None else arrays(data)
        done = simplify_file(onnx, out, examples=examples, force=force)
    told = {name: value for name, value in vars(done).items() if name != "model"}
    screen.show("\n".join(_lines(done, onnx, out)), told)


def _lines(done: "Simplified", before: Path, after: Path) -> list[str]:
    from lilliput.stages.wording import number, size

    lines = [
        f"{name}: {count} nodes fewer" if count > 0 else name
        for name, count in done.removed.items()
    ]
    lines += [f"{name}: undone, it failed or changed the answers" for name in done.undone]
    lines += [
        f"{after}: {size(after.stat().st_size)}, before {size(before.stat().st_size)}",
        f"largest difference of any output: {number(done.largest_difference)}",
    ]
    return lines
