"""What a model answers on calibration inputs, and how far a changed one is from that."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from lilliput.batches import as_inputs, flatten_tensors
from lilliput.errors import TaskError
from lilliput.evaluation import evaluating
from lilliput.model.calls import arguments
from lilliput.model.exporting import run_once
from lilliput.tensor.divergence import divergence


@dataclass(frozen=True)
class Answers:
    """The original's outputs on calibration inputs.

    Attributes:
        batches: The inputs, at least one batch.
        wanted: Per batch the floating-point outputs.
        classes: Whether the outputs' last axis holds class scores.
    """

    batches: tuple[Any, ...]
    wanted: tuple[list[Tensor], ...]
    classes: bool = False

    @classmethod
    def of(
        cls,
        model: nn.Module,
        inputs: Any,
        *,
        batches: Iterable[Any] | None,
        classes: bool = False,
    ) -> Self:
        """Runs the model on `batches`, by default on `inputs` alone.

        Raises:
            TaskError: There is no batch, or the model does not run on one.
        """
        given = (inputs,) if batches is None else tuple(batches)
        if not given:
            raise TaskError("there are no calibration examples", "give at least one batch")
        return cls(given, tuple(_outputs(model, batch) for batch in given), classes)

    def divergence(self, changed: nn.Module) -> float:
        """Mean over batches and outputs, as `lilliput.tensor.divergence.divergence`."""
        found = []
        for batch, wanted in zip(self.batches, self.wanted, strict=True):
            pairs = zip(_outputs(changed, batch), wanted, strict=True)
            found += [divergence(one, other, classes=self.classes) for one, other in pairs]
        return sum(found) / len(found)

    def varying(self, inputs: Any) -> list[tuple[int, ...]]:
        """Per tensor of the inputs the axes beside the batch along which the batches differ."""
        batches = [flatten_tensors(as_inputs(one)) for one in (inputs, *self.batches)]
        shapes = [[one.shape for one in leaves] for leaves in zip(*batches, strict=True)]
        return [
            tuple(n for n in range(1, len(each[0])) if len({shape[n] for shape in each}) > 1)
            for each in shapes
        ]

    def told(self, changed: nn.Module, what: str) -> str:
        """The divergence in a sentence about what was done."""
        how = "nats" if self.classes else "relative squared error"
        return f"{what} the outputs diverge by {self.divergence(changed):.3g} ({how})"


def _outputs(model: nn.Module, batch: Any) -> list[Tensor]:
    with evaluating(model):
        found = flatten_tensors(run_once(model, arguments(batch)))
    return [one.detach() for one in found if one.is_floating_point()]
