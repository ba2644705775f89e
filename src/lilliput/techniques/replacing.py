"""What techniques that replace share: the layers they can take, and the proof of the exchange."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from lilliput.errors import ShapeError
from lilliput.model.moments import Moments
from lilliput.model.observe import observe
from lilliput.shapes.graphmodel import replace_weights
from lilliput.shapes.proof import Reference
from lilliput.shapes.proving import Build, first_proved, with_modules
from lilliput.shapes.reshaped import Reshaped
from lilliput.shapes.resize import Kept
from lilliput.shapes.widths import Shape, shape_of
from lilliput.techniques.answers import Answers

Layer = TypeVar("Layer")
MOST_COLUMNS = 8192  # of a weight whose second moment is collected


@dataclass(frozen=True)
class Original:
    """The model of which layers are replaced, and what it is judged by.

    Attributes:
        model: As the user gave it; it is not changed.
        inputs: One example batch.
        shape: Its capture.
        answers: What it answers on the calibration inputs.
    """

    model: nn.Module
    inputs: Any
    shape: Shape
    answers: Answers

    @classmethod
    def of(cls, model: nn.Module, inputs: Any, *, batches: Iterable[Any] | None) -> Self:
        """Captures the model.

        Raises:
            TaskError: There is no batch of calibration inputs.
        """
        answers = Answers.of(model, inputs, batches=batches)
        shape = shape_of(model, inputs, dynamic=answers.varying(inputs))
        return cls(model, inputs, shape, answers)

    def moments(self, names: Iterable[str]) -> dict[str, Moments]:
        """Second moments of what goes into some layers' weights, by the layers' names."""
        captured = self.shape.captured
        wanted = {f"{name}.weight" for name in names}
        sites = {
            name: site
            for name, site in captured.sites.items()
            if name in wanted and site.columns <= MOST_COLUMNS
        }
        uses = tuple(use for use in captured.uses if use.site in sites)
        if not sites:
            return {}
        part = replace(captured, sites=sites, uses=uses)
        found = observe(part, self.model, self.answers.batches)
        return {name.removesuffix(".weight"): moments for name, moments in found.items()}

    def weighted(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """A copy with other values of some weights."""
        changed = with_modules(self.model, {})
        replace_weights(changed, dict(weights))
        return changed

    def with_modules(
        self, modules: Mapping[str, nn.Module], *, weights: Mapping[str, Tensor], what: str
    ) -> Reshaped:
        """The user's class with other modules, equal to itself with those weights instead."""
        builds: list[Build] = [("class", lambda: with_modules(self.model, modules))]
        return self.proved(builds, equal=self.weighted(weights), what=what)

    def proved(self, builds: Iterable[Build], *, equal: nn.Module, what: str) -> Reshaped:
        """The first of some models that equals another one, with its divergence as a note."""
        with torch.no_grad():
            reference = Reference(equal, Kept(self.shape, {}), self.inputs)
            found = first_proved(builds, reference, what=f"replacing {what}")
        note = self.answers.told(found.model, f"with {what} replaced")
        return replace(found, notes=(note,))


def chosen(
    where: tuple[str, ...],
    layers: Mapping[str, Layer],
    *,
    reasons: Mapping[str, str],
    kind: str,
) -> dict[str, Layer]:
    """The named layers, or all that can be replaced.

    Args:
        where: Names; none: all.
        layers: Those that can.
        reasons: Why others of the kind cannot.
        kind: What they are, for messages.

    Raises:
        ShapeError: A layer does not exist (the nearest is named) or cannot be replaced (why), or
            there is none.
    """
    for name in where:
        if name in reasons:
            raise ShapeError(f"{name} cannot be replaced: {reasons[name]}", _usual(kind))
        if name not in layers:
            close = difflib.get_close_matches(name, [*layers, *reasons], n=1)
            hint = f"did you mean {close[0]}?" if close else _usual(kind)
            raise ShapeError(f"the model has no {kind} {name!r}", hint)
    if not layers:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:3])
        raise ShapeError(f"the model has no {kind} that can be replaced", why or _usual(kind))
    return {name: layers[name] for name in dict.fromkeys(where)} if where else dict(layers)


def listed(names: Iterable[str]) -> str:
    """The first few names."""
    some = list(names)
    return ", ".join(some[:3]) + (f" and {len(some) - 3} more" if len(some) > 3 else "")


def _usual(kind: str) -> str:
    return f"without names every {kind} that can be replaced is"
