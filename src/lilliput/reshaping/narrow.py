"""`widths` and `narrow`: what can be cut from a model, and the model without it."""

import difflib
from collections.abc import Iterable
from typing import Any

from torch import nn

from lilliput.errors import PlanError
from lilliput.records import Step
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.widths import Width, shape_of
from lilliput.techniques import TABLE, structural_from_step

_PREFIX = "narrow_"


def widths(model: nn.Module, inputs: Any) -> tuple[Width, ...]:
    """The widths of a model: what units there are, what they tie together, why some are frozen.

    Args:
        model: Any module that `torch.export` can capture. It is left as it was.
        inputs: One example batch: tensor, tuple or mapping.

    Raises:
        CaptureError: The model cannot be captured.
        TaskError: The model does not run on `inputs`.
    """
    return tuple(shape_of(model, inputs).widths.values())


def narrow(model: nn.Module, inputs: Any, remove: float = 0.5, **options: Any) -> nn.Module:
    """A narrower copy of a model: `narrowed` without its proof. Takes the same arguments."""
    return narrowed(model, inputs, remove, **options).model


def narrowed(
    model: nn.Module,
    inputs: Any,
    remove: float = 0.5,
    *,
    widths: Iterable[str] = (),
    criterion: str = "second_order",
    calibration: Iterable[Any] | None = None,
    **settings: Any,
) -> Reshaped:
    """A narrower copy of a model, with the proof of the cut. The model is left as it was.

    Args:
        model: Any module that can be captured.
        inputs: One example batch: tensor, tuple or mapping.
        remove: Share of each width's units to remove, in (0, 1).
        widths: Names of widths, as `lilliput.widths` lists them; by default all that are free,
            those that norms mix among them (their cut is noted).
        criterion: What decides which units go: a technique of the family ``narrow``, without its
            prefix; the default removes them one by one, the others absorbing each loss.
        calibration: Batches of inputs to judge by; by default `inputs` alone.
        **settings: The technique's other fields: ``scope``, ``multiple``, ``refit``, ...

    Raises:
        CaptureError: The model cannot be captured.
        PlanError: The criterion or a setting is unknown, or a value is out of range.
        ShapeError: A width does not exist or is frozen, or the cut could not be proved.
        TaskError: There are no calibration inputs, or the model does not run on them.
    """
    known = [kind.name.removeprefix(_PREFIX) for kind in TABLE if kind.family == "narrow"]
    if criterion not in known:
        close = difflib.get_close_matches(criterion, known, n=1)
        raise PlanError(
            f"unknown criterion {criterion!r}",
            f"{f'did you mean {close[0]}? ' if close else ''}known are {', '.join(known)}",
        )
    where = (widths,) if isinstance(widths, str) else tuple(widths)
    step = Step(technique=_PREFIX + criterion, where=where, settings={"remove": remove, **settings})
    technique = structural_from_step(step)
    return technique.change(model, inputs, where=where, batches=calibration)
