"""The proof of a cut: what is left answers as the original that is deaf to what went."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lilliput.evaluation import evaluating
from lilliput.model.calls import Arguments, arguments
from lilliput.model.exporting import FAILURES, doubled
from lilliput.model.graph import run_graph
from lilliput.model.sizes import symbol
from lilliput.shapes.deaf import Deaf, Mixing
from lilliput.shapes.graphmodel import weights_of
from lilliput.shapes.resize import Kept

ROUNDING = 2e-5  # of the largest output, in float32
EXACT = 1e-5  # the same where what was there is not taken apart: growth
_SMALLER = (0.75, 0.5)


@dataclass(frozen=True)
class Check:
    """One comparison of a cut model with the original deaf to what went.

    Attributes:
        shapes: Shapes of the inputs.
        difference: Largest difference over the largest output.
    """

    shapes: tuple[tuple[int, ...], ...]
    difference: float

    @property
    def equal(self) -> bool:
        """Whether only rounding is left; a NaN is not."""
        return self.difference <= ROUNDING


class Reference:
    """Outputs of the original, deaf to what goes, on inputs of several sizes.

    Where a norm mixes what goes with what stays, the norm is taken over what stays.
    """

    def __init__(self, model: nn.Module, kept: Kept, inputs: Any) -> None:
        self._model = model
        self._kept = kept
        self._deaf = kept.deaf(weights_of(model))
        self._mixing = Mixing(kept)
        self.answers = [(one, self._answer(one)) for one in _sizes(kept, inputs, self._runs)]

    def compare(self, changed: nn.Module, *, longer: bool = False) -> list[Check]:
        """The differences of a changed model, one per size of the inputs.

        Args:
            changed: The model.
            longer: Its outputs may be longer at their ends: what the original has too counts.
        """
        checks = []
        for inputs, wanted in self.answers:
            found = _called(changed, inputs)
            if longer:
                pairs = zip(found, wanted, strict=True)
                found = [one[tuple(map(slice, other.shape))] for one, other in pairs]
            checks.append(Check(_shapes(inputs), _difference(found, wanted)))
        return checks

    def answered_by(self, model: nn.Module) -> "Reference":
        """The same inputs with the answers of another model."""
        other = copy.copy(self)
        other.answers = [(inputs, _called(model, inputs)) for inputs, _ in self.answers]
        return other

    def _runs(self, inputs: Any) -> bool:
        try:
            self._answer(inputs)
        except FAILURES:
            return False
        return True

    def _answer(self, inputs: Any) -> list[Tensor]:
        call = arguments(inputs)
        with evaluating(self._model):
            if self._mixing.at:
                outputs = self._through_graph(call)
            else:
                args, kwargs = pytree.tree_map_only(Tensor, torch.clone, call)
                state = {name: one.clone() for name, one in self._model.named_buffers()}
                outputs = torch.func.functional_call(self._model, state | self._deaf, args, kwargs)
        return _tensors(outputs)

    def _through_graph(self, call: Arguments) -> Any:
        program = self._kept.shape.captured.graph
        deaf, mixing = Deaf(self._model, self._deaf), self._mixing
        return run_graph(program, deaf, call, visit=mixing, at=mixing.at)


def _sizes(kept: Kept, inputs: Any, runs: Any) -> Iterator[Any]:
    """The inputs; a batch of another size; and the first smaller input that the model takes."""
    first = doubled(inputs)
    yield first
    batch = pytree.tree_map_only(
        Tensor, lambda one: torch.cat([one, one[:1]]) if one.ndim else one, first
    )
    if runs(batch):
        yield batch
    for share in _SMALLER:
        less = _cropped(kept, first, share)
        if less is not None and runs(less):
            yield less
            return


def _cropped(kept: Kept, inputs: Any, share: float) -> Any | None:
    """Inputs with every open axis but the batch cut to a share; None where there is none."""
    program = kept.shape.captured.graph
    names = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.name in names]
    leaves, spec = pytree.tree_flatten(inputs)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if len(nodes) != len(tensors):
        return None
    cropped, changed = [], False
    for leaf, node in zip(tensors, nodes, strict=True):
        for axis, size in enumerate(node.meta["val"].shape):
            if axis and symbol(size) is not None and leaf.shape[axis] > 1:
                leaf = leaf.narrow(axis, 0, max(int(leaf.shape[axis] * share), 1))
                changed = True
        cropped.append(leaf)
    return pytree.tree_unflatten(cropped, spec) if changed else None


def _called(model: nn.Module, inputs: Any) -> list[Tensor]:
    args, kwargs = pytree.tree_map_only(Tensor, torch.clone, arguments(inputs))
    with evaluating(model):
        state = {name: one.clone() for name, one in model.named_buffers()}
        return _tensors(torch.func.functional_call(model, state, args, kwargs))


def _tensors(outputs: Any) -> list[Tensor]:
    return [one for one in pytree.tree_leaves(outputs) if isinstance(one, Tensor)]


def _shapes(inputs: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(one.shape) for one in _tensors(inputs))


def _difference(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Largest difference over the largest wanted value; infinite where shapes differ."""
    if [one.shape for one in found] != [one.shape for one in wanted]:
        return float("inf")
    worst = 0.0
    for one, other in zip(found, wanted, strict=True):
        if not one.numel():
            continue
        one, other = one.double(), other.double()
        scale = float(other.abs().max()) or 1.0
        difference = float((one - other).abs().max()) / scale
        worst = max(worst, difference) if difference == difference else float("nan")
        if worst != worst:
            return worst
    return worst
