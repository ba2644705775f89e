"""``lilliput grow`` and ``lilliput shrink-to``: a larger or smaller model of the same kind."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from lilliput.cli.app import app
from lilliput.cli.options import NO_TASK, FolderOptions, TaskOptions
from lilliput.cli.screen import Screen

if TYPE_CHECKING:
    from lilliput.reshaping import Output, Written

SHAPE = Group("Shape", sort_key=2)


@Parameter(name="*", group=SHAPE)
@dataclass(frozen=True, kw_only=True)
class GrowthOptions:
    """What grows, and how; what is not given stays."""

    width: float | None = None
    """How many times as many channels, neurons and heads: 1.5."""
    depth: int | None = None
    """How many blocks more."""
    vocabulary: int | None = None
    """How many words more."""
    classes: int | None = None
    """How many classes more."""
    resolution: float | None = None
    """How many times as long the sides of images: 2."""
    widths: str | None = None
    """Names of the widths that grow, e.g. fc1,fc2; by default all that keep the answers."""
    blocks: str | None = None
    """Names of the blocks behind which others are inserted; by default spread evenly."""
    fill: Literal["copy", "zero"] | None = None
    """Copies of a unit share what is read of them (copy), or nothing is read of them yet (zero)."""
    noise: float | None = None
    """Noise that makes copies differ, over the spread of the weights; the answers stay."""
    seed: int | None = None
    """Seed of the noise, and of which units are copied."""
    exact: Annotated[bool | None, Parameter(negative="--inexact", show_default=False)] = None
    """Refuse widths that would change the answers; --inexact grows them too."""

    def growth(self) -> dict[str, Any]:
        """What they ask for."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        named = {name: _names(given[name]) for name in ("widths", "blocks") if name in given}
        return given | named


NO_GROWTH = GrowthOptions()


@app.command
def grow(
    target: str,
    /,
    *,
    folder: FolderOptions,
    task: TaskOptions = NO_TASK,
    growth: GrowthOptions = NO_GROWTH,
) -> None:
    """Make a model larger, with the same answers where that is possible.

    Args:
        target: A task file (task.py), a Hugging Face folder, or FILE.py:NAME.
    """
    screen = Screen(as_json=folder.as_json)
    with screen.working():
        screen.progress("load", 0, 3)
        from lilliput.reshaping import grow_task

        found = grow_task(task.task(target), _output(screen, folder), **growth.growth())
    _show(screen, found, folder.out)


@app.command
def shrink_to(
    target: str,
    /,
    *,
    folder: FolderOptions,
    task: TaskOptions = NO_TASK,
    width: Annotated[float, Parameter(group=SHAPE)] = 0.5,
    depth: Annotated[float, Parameter(group=SHAPE)] = 1.0,
    choice: Annotated[Literal["evenly", "measured"], Parameter(group=SHAPE)] = "evenly",
    criterion: Annotated[str, Parameter(group=SHAPE)] = "magnitude",
) -> None:
    """Build a smaller model that inherits the weights of a larger one, to be trained on.

    Args:
        target: A task file (task.py), a Hugging Face folder, or FILE.py:NAME.
        width: Share of channels, neurons and heads that stay.
        depth: Share of the blocks that stay.
        choice: Drop blocks evenly, or those whose absence changes the outputs least.
        criterion: What decides which units stay: a technique, without its narrow_.
    """
    screen = Screen(as_json=folder.as_json)
    with screen.working():
        screen.progress("load", 0, 3)
        from lilliput.reshaping import shrink_task

        found = shrink_task(
            task.task(target),
            _output(screen, folder),
            width=width,
            depth=depth,
            choice=choice,
            criterion=criterion,
        )
    _show(screen, found, folder.out)


def _output(screen: Screen, folder: FolderOptions) -> "Output":
    from lilliput.reshaping import Output

    return Output(folder.out, folder.force, screen.progress)


def _show(screen: Screen, found: "Written", out: Path) -> None:
    from lilliput.stages.wording import count, number, size

    before, after = found.parameters
    lines = [
        f"{out}: {count(after)} parameters, before {count(before)}",
        *(f"{name}: {size(held)}" for name, held in found.files.items()),
        "answers of model.onnx, largest difference from the original's: "
        + (
            "not comparable"
            if found.difference is None
            else f"{number(found.difference)} of the largest output"
        ),
        *found.notes,
        f'lilliput.load("{out}", model=...) gives your class this shape'
        if found.reloads
        else "your class cannot take this shape: model.onnx runs it",
    ]
    screen.show("\n".join(lines), asdict(found))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
