"""`shrink_to`: a smaller model of the same kind that inherits the original's weights."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from torch import nn

from lilliput.errors import PlanError, ShapeError
from lilliput.records import Step
from lilliput.shapes.blocks import Block, blocks_of, outermost
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import shape_of
from lilliput.techniques import structural_from_step

Choice = Literal["evenly", "measured"]


def shrink_to(model: nn.Module, inputs: Any, width: float = 0.5, **options: Any) -> nn.Module:
    """A smaller copy of a model to be trained: `shrunk_to` without its proof; same arguments."""
    return shrunk_to(model, inputs, width, **options).model


def shrunk_to(
    model: nn.Module,
    inputs: Any,
    width: float = 0.5,
    *,
    depth: float = 1.0,
    choice: Choice = "evenly",
    **options: Any,
) -> Reshaped:
    """A student: fewer blocks and narrower ones, with the weights it inherits, for distillation.

    First whole blocks go, then units of each width that is free (as `narrow` chooses them). Its
    answers are not the original's until it was trained. The model is left as it was.

    Args:
        model: Any module that can be captured.
        inputs: One example batch: tensor, tuple or mapping.
        width: Share of the units that stay, in (0, 1].
        depth: Share of the blocks that stay, in (0, 1]; at least one stays.
        choice: Which blocks go: every second, third, ... of those that repeat (``evenly``), or
            those whose absence changes the outputs least (``measured``).
        **options: ``calibration``: batches of inputs to judge by; ``criterion``: of the units, a
            technique of the family ``narrow`` without its prefix; its other fields.

    Raises:
        CaptureError: The model cannot be captured.
        PlanError: A share is out of range, nothing would change, or an option or choice is unknown.
        ShapeError: There are no blocks or widths that can go.
        TaskError: The model does not run on `inputs`.
    """
    calibration = options.pop("calibration", None)
    batches = None if calibration is None else tuple(calibration)
    steps = shrink_steps(model, inputs, width, depth=depth, choice=choice, **options)
    return taken(model, inputs, steps=steps, batches=batches)


def taken(
    model: nn.Module, inputs: Any, *, steps: Sequence[Step], batches: Sequence[Any] | None
) -> Reshaped:
    """A model after several structural steps, with what was said on the way.

    Args:
        model: It is left as it was.
        inputs: One example batch.
        steps: At least one.
        batches: Calibration inputs; None for `inputs` alone.

    Raises:
        PlanError: There is no step.
    """
    found: Reshaped | None = None
    notes: list[str] = []
    for step in steps:
        last = found.model if found else model
        after = structural_from_step(step).change(last, inputs, where=step.where, batches=batches)
        how = "graph" if found and found.how == "graph" else after.how
        found = replace(after, how=how)
        notes += after.notes
    if found is None:
        raise PlanError("nothing is to shrink", "give a width or a depth below 1")
    return replace(found, notes=tuple(dict.fromkeys(notes)))


def shrink_steps(
    model: nn.Module,
    inputs: Any,
    width: float,
    *,
    depth: float,
    choice: Choice,
    **options: Any,
) -> tuple[Step, ...]:
    """The same as entries of a plan, in the order in which they are done."""
    for name, share in (("width", width), ("depth", depth)):
        if not 0 < share <= 1:
            raise PlanError(f"{name} = {share:g} is out of range", "the share that stays, (0, 1]")
    if choice not in get_args(Choice):
        raise PlanError(f"choice = {choice!r} is unknown", f"one of {', '.join(get_args(Choice))}")
    steps = []
    if depth < 1:
        steps.append(_dropped(model, inputs, depth, choice))
    if width < 1:
        criterion = options.pop("criterion", "magnitude")
        settings = {"remove": round(1 - width, 9), **options}
        steps.append(Step(technique=f"narrow_{criterion}", where=(), settings=settings))
    return tuple(steps)


def _dropped(model: nn.Module, inputs: Any, depth: float, choice: Choice) -> Step:
    blocks = outermost(blocks_of(shape_of(model, inputs).captured))
    if len(blocks) < 2:
        raise ShapeError("the model has no repeated blocks that could go")
    count = min(len(blocks) - 1, round(len(blocks) * (1 - depth)))
    if not count:
        raise PlanError(f"a depth of {depth:g} drops none of {len(blocks)} blocks")
    where = _evenly(blocks, count) if choice == "evenly" else ()
    return Step(technique="shorten_drop", where=where, settings={"blocks": count})


def _evenly(blocks: Sequence[Block], count: int) -> tuple[str, ...]:
    """Blocks that go, as far from each other and from the ends as possible."""
    places = [int((number + 0.5) * len(blocks) / count) for number in range(count)]
    return tuple(blocks[place].name for place in places)
