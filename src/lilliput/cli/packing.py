"""``lilliput pack`` and ``lilliput unpack``: the packed container, without a model in memory."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lilliput.cli.app import app
from lilliput.cli.options import OUTPUT, Flag, Json, MaxBytes, size_in_bytes
from lilliput.cli.screen import Screen
from lilliput.errors import OutputError


@app.command
def pack(
    onnx: Path,
    out: Path | None = None,
    /,
    *,
    force: Annotated[bool, Flag, Parameter(group=OUTPUT)] = False,
    as_json: Json = False,
) -> None:
    """Pack any ONNX file, without loss.

    Args:
        onnx: The ONNX file; external data may lie in its folder.
        out: The packed file; by default beside it, with the ending .lilliput.
        force: Replace a packed file.
    """
    from lilliput.coding import pack as run_pack
    from lilliput.stages.wording import share, size

    screen = Screen(as_json=as_json)
    target = out or onnx.with_suffix(".lilliput")
    with screen.working():
        _check_replaceable(target, force)
        screen.progress("pack", 0, 1)
        stats = run_pack(onnx, target)
    before = onnx.stat().st_size
    part = stats.total_bytes / before
    screen.show(
        f"{target}: {size(stats.total_bytes)}, {share(part)} of {onnx.name} ({size(before)})",
        {"packed": str(target), "bytes": stats.total_bytes, "original_bytes": before},
    )


@app.command
def unpack(
    packed: Path, out: Path, /, *, max_bytes: MaxBytes = None, as_json: Json = False
) -> None:
    """Unpack a packed file into a new folder, bit for bit.

    Args:
        packed: The .lilliput file; it may come from anywhere.
        out: The folder to be; it may not exist yet.
    """
    from lilliput.coding import unpack as run_unpack
    from lilliput.stages.wording import size

    screen = Screen(as_json=as_json)
    most = {} if max_bytes is None else {"max_bytes": size_in_bytes("--max-bytes", max_bytes)}
    with screen.working():
        screen.progress("unpack", 0, 1)
        written = run_unpack(packed, out, **most)
    sizes = {str(path): path.stat().st_size for path in written}
    screen.show("\n".join(f"{path}: {size(count)}" for path, count in sizes.items()), sizes)


def _check_replaceable(target: Path, force: bool) -> None:
    """Only a packed file is ever replaced, and only when asked to."""
    from lilliput.coding import read_header
    from lilliput.errors import ContainerError

    if not target.exists():
        return
    try:
        read_header(target)
    except ContainerError as error:
        raise OutputError(
            f"{target} exists and is not a packed file", "it is never replaced; name another"
        ) from error
    if not force:
        raise OutputError(f"{target} exists", "--force replaces it")
