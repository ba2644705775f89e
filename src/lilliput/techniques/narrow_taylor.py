"""Removes the units whose loss changes the output least, to first order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lilliput.evaluation import evaluating
from lilliput.model.calls import arguments
from lilliput.model.gradients import Probe, direction, first_float
from lilliput.shapes.readings import Columns
from lilliput.shapes.reshaped import Reshaped
from lilliput.techniques.fields import Family, Fields
from lilliput.techniques.narrowing import (
    DRAWS,
    MULTIPLE,
    REMOVE,
    SEED,
    Output,
    Refit,
    Scope,
    Subject,
    narrowed,
    probe_of,
)


class NarrowTaylor(Fields):
    """Removes the units of the smallest activation times gradient.

    The gradient is that of the output along random directions, so that no labels are needed: the
    mean square over directions is the first-order estimate of how far the output moves.

    Attributes:
        remove: Share of the units to remove, in (0, 1).
        scope: Whether every width loses that share (``uniform``) or all of them together do
            (``global``): widths with many small units then lose more.
        multiple: What is left of a width is a multiple of it, 1 to 64; of heads, key-value groups
            and widths of less than two multiples any number is left.
        refit: How the weights that read what stays make up for what went: by ``least_squares`` on
            the calibration inputs, or not at all (``none``).
        output: What the model gives: ``numbers``, or scores of ``classes`` on the last axis.
        draws: Random directions per batch, 1 to 64.
        seed: Of the directions.
    """

    name: ClassVar[str] = "narrow_taylor"
    family: ClassVar[Family] = "narrow"
    source: ClassVar[str] = "Molchanov et al. 2019, arXiv 1906.10771"
    summary: ClassVar[str] = "remove the units with the smallest activation times gradient"

    remove: float = REMOVE
    scope: Scope = "uniform"
    multiple: int = MULTIPLE
    refit: Refit = "least_squares"
    output: Output = "numbers"
    draws: int = DRAWS
    seed: int = SEED

    def change(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        where: tuple[str, ...] = (),
        batches: Iterable[Any] | None = None,
    ) -> Reshaped:
        """A narrower copy with its proof."""
        subject = Subject.of(model, inputs, where=where, batches=batches)
        return narrowed(self, subject, scores=self._scores(subject))

    def _scores(self, subject: Subject) -> dict[str, Tensor]:
        """Per width the mean squares of the output's first-order changes, (units,)."""
        probe = probe_of(self.output, draws=self.draws, seed=self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        totals = {width.name: torch.zeros(width.units) for width in subject.widths}
        for batch in subject.batches:
            for gradients in _gradients(subject, batch, probe=probe, generator=generator):
                for name, columns in subject.columns.items():
                    totals[name] += _change(subject, columns, gradients).square()
        return totals


def _gradients(
    subject: Subject, batch: Any, *, probe: Probe, generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    """Per direction the gradients of the weights that read the widths, by name."""
    names = list(dict.fromkeys(c.site.name for cs in subject.columns.values() for c in cs))
    weights = {name: subject.weights[name].detach().clone() for name in names}
    args, kwargs = arguments(batch)
    state = {name: one.clone() for name, one in subject.model.named_buffers()}
    with evaluating(subject.model), torch.enable_grad():
        own = {name: weight.requires_grad_() for name, weight in weights.items()}
        raw = torch.func.functional_call(subject.model, state | own, args, kwargs)
        output = first_float(raw)
        for left in reversed(range(probe.draws)):
            way = direction(output, probe, mask=None, generator=generator)
            found = torch.autograd.grad(
                (output.float() * way).sum(),
                list(own.values()),
                retain_graph=left > 0,
                allow_unused=True,
            )
            yield {name: one for name, one in zip(own, found, strict=True) if one is not None}


def _change(
    subject: Subject, columns: Sequence[Columns], gradients: Mapping[str, Tensor]
) -> Tensor:
    """(units,) how far the output moves along a direction when a unit is silenced."""
    total = torch.zeros(len(columns[0].places)) if columns else torch.zeros(1)
    for one in columns:
        if one.site.name in gradients:
            lost = subject.weights[one.site.name].detach() * gradients[one.site.name]
            total += one.site.matrix(lost.float()).sum(0)[one.places].sum(1)
    return total
