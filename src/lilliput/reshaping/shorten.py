"""`blocks` and `shorten`: what can go from a model's depth, and the model without it."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from lilliput.errors import PlanError
from lilliput.model.capture import capture
from lilliput.records import Step
from lilliput.shapes.blocks import Block, blocks_of
from lilliput.shapes.reshaped import Reshaped
from lilliput.techniques import structural_from_step

_PREFIX = "shorten_"


def blocks(model: nn.Module, inputs: Any) -> tuple[Block, ...]:
    """The blocks of a model: residual parts, what they cost, why some have to stay.

    Args:
        model: Any module that `torch.export` can capture. It is left as it was.
        inputs: One example batch: tensor, tuple or mapping.

    Raises:
        CaptureError: The model cannot be captured.
        TaskError: The model does not run on `inputs`.
    """
    return tuple(blocks_of(capture(model, inputs, smallest=1)).values())


def shorten(model: nn.Module, inputs: Any, **options: Any) -> nn.Module:
    """A shorter copy of a model: `shortened` without its proof. Takes the same arguments."""
    return shortened(model, inputs, **options).model


def shortened(
    model: nn.Module,
    inputs: Any,
    *,
    blocks: int | float | None = None,
    names: Iterable[str] = (),
    by: str = "drop",
    **settings: Any,
) -> Reshaped:
    """A shorter copy of a model, with its proof. The model is left as it was.

    Args:
        model: Any module that can be captured.
        inputs: One example batch: tensor, tuple or mapping.
        blocks: How many blocks go, or which share of them, in (0, 1); by default all that are
            named, or one.
        names: Blocks among which to choose, as `lilliput.blocks` lists them; by default all that
            can go and are no part of another one.
        by: What takes their place: ``drop`` (nothing) or ``linear`` (the best linear map).
        **settings: The technique's other fields: ``classes``, ``rank``; and ``calibration``,
            batches of inputs to judge by, by default `inputs` alone.

    Raises:
        CaptureError: The model cannot be captured.
        PlanError: A setting is unknown, or a value is out of range.
        ShapeError: A block does not exist or has to stay, all would go, or the change could not be
            proved.
        TaskError: There are no calibration inputs, or the model does not run on them.
    """
    calibration = settings.pop("calibration", None)
    where = (names,) if isinstance(names, str) else tuple(names)
    if blocks is None:
        blocks = max(1, len(where))
    if isinstance(blocks, bool) or not isinstance(blocks, int | float):
        raise PlanError(f"blocks = {blocks!r}", "a number of blocks, or a share in (0, 1)")
    if isinstance(blocks, float) and not 0 < blocks < 1:
        raise PlanError(f"blocks = {blocks!r}", "a share lies in (0, 1); a number is whole")
    amount = {"blocks": blocks} if isinstance(blocks, int) else {"remove": blocks}
    step = Step(technique=_PREFIX + by, where=where, settings={**amount, **settings})
    technique = structural_from_step(step)
    return technique.change(model, inputs, where=where, batches=calibration)
