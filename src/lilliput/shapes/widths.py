"""The widths of a model: what can be made narrower, what it ties together, what it costs."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import nn

from lilliput.model.capture import Capture, capture
from lilliput.model.exporting import Dynamic
from lilliput.shapes.atoms import Axis, Settled
from lilliput.shapes.flow import Flow, flat, follow, module_of, operator_name
from lilliput.shapes.rules import RULES

Kind = Literal["channels", "neurons", "heads", "key-value groups", "hidden", "embedding"]
_ONE_UNIT = "its positions can only go all together"


@dataclass(frozen=True)
class Tie:
    """One axis of one weight that a width runs along.

    Attributes:
        weight: Qualified name of the parameter or buffer.
        axis: Which of its axes.
        positions: (units, positions per unit) indices along that axis.
    """

    weight: str
    axis: int
    positions: Axis


@dataclass(frozen=True)
class Width:
    """Positions over several weights that can only change together.

    Attributes:
        name: The module whose result it is; with ``#2`` where a module has several.
        kind: What a unit is.
        units: How many there are.
        ties: All axes it runs along.
        parameters: Weights that go with one unit.
        frozen: Why it has to stay; empty if it is free.
        norms: Operators that mix its units (norms, means, products of two activations): cutting it
            changes what they compute from the rest, so it is judged on the score.
    """

    name: str
    kind: Kind
    units: int
    ties: tuple[Tie, ...]
    parameters: int
    frozen: str
    norms: tuple[str, ...]

    @property
    def free(self) -> bool:
        """Whether units of it can be cut."""
        return not self.frozen

    def __str__(self) -> str:
        tied = ", ".join(f"{tie.weight}[{tie.axis}]" for tie in self.ties)
        state = f"frozen: {self.frozen}" if self.frozen else f"{self.parameters:,} weights each"
        mixed = f"; mixed by {', '.join(self.norms)}" if self.norms else ""
        return f"{self.name}: {self.units} {self.kind} ({state}{mixed}); ties {tied}"


@dataclass(frozen=True)
class Shape:
    """A captured model with its widths.

    Attributes:
        captured: The graph and the sites.
        flow: Where each position goes.
        settled: Which positions are one unit.
        widths: By name, in the order of the graph.
        units: Name of a width -> (units,) its numbers in `settled`.
    """

    captured: Capture
    flow: Flow
    settled: Settled
    widths: dict[str, Width]
    units: dict[str, Axis]

    @property
    def unknown(self) -> dict[str, list[str]]:
        """Operators without a rule, with the nodes that keep what they touch as it is."""
        return self.flow.unknown


def shape_of(model: nn.Module, inputs: Any, *, dynamic: Dynamic | None = None) -> Shape:
    """Captures a model and finds its widths. The model is left as it was.

    Args:
        model: Any module that `torch.export` can capture.
        inputs: One example batch: tensor, tuple or mapping.
        dynamic: Axes beside the batch that vary, as in `lilliput.model.capture.capture`.

    Raises:
        CaptureError: The graph cannot be captured.
        TaskError: The model does not run on `inputs`.
    """
    return shape_of_capture(capture(model, inputs, dynamic=dynamic, smallest=1))


def shape_of_capture(captured: Capture) -> Shape:
    """The widths of a model that was captured before."""
    flow, settled = follow(captured.graph, RULES)
    widths: dict[str, Width] = {}
    units: dict[str, Axis] = {}
    made = _units_of(flow.makers, settled)
    for members, ties in _spaces(flow, settled):
        if not made & set(members.tolist()):
            continue  # the size of a kernel, rows of a table, what the model is given
        width = _width(flow, settled, members, ties, taken=widths)
        widths[width.name] = width
        units[width.name] = members
    return Shape(captured, flow, settled, widths, units)


def _spaces(flow: Flow, settled: Settled) -> list[tuple[Axis, tuple[Tie, ...]]]:
    """Units with the same places in the same weights, as one width, in the order of the graph."""
    places: dict[int, dict[tuple[str, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for source in flow.sources.values():
        for number, axis in enumerate(source.axes):
            units = settled.units(axis)
            for index in np.flatnonzero(units >= 0).tolist():
                places[int(units[index])][source.name, number].append(index)
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for unit, found in places.items():
        alike[tuple((place, len(where)) for place, where in found.items())].append(unit)
    result = []
    for members in alike.values():
        keys = places[members[0]]
        ties = tuple(
            Tie(weight, axis, np.array([places[unit][weight, axis] for unit in members]))
            for weight, axis in keys
        )
        result.append((np.array(members, dtype=np.int64), ties))
    return result


def _width(
    flow: Flow,
    settled: Settled,
    members: Axis,
    ties: tuple[Tie, ...],
    *,
    taken: dict[str, Width],
) -> Width:
    reasons = [settled.frozen[unit] for unit in members.tolist() if unit in settled.frozen]
    reason = reasons[0] if reasons else ""
    if not reason and len(members) == 1:
        reason = _ONE_UNIT
    mixing = [node for node, axis in flow.mixers if set(settled.units(axis)) & set(members)]
    return Width(
        name=_free_name(_maker(flow, ties), taken),
        kind=_kind(flow, settled, members, ties),
        units=len(members),
        ties=ties,
        parameters=_cost(flow, ties),
        frozen=reason,
        norms=tuple(dict.fromkeys(f"{operator_name(n)} in {module_of(n)}" for n in mixing)),
    )


def _units_of(axes: list[Axis], settled: Settled) -> set[int]:
    return {int(unit) for axis in axes for unit in np.unique(settled.units(axis))}


def _maker(flow: Flow, ties: tuple[Tie, ...]) -> str:
    """The module whose weight lays the width out: the first one, in the order of the graph."""
    made = {int(atom) for axis in flow.makers for atom in axis}
    for tie in ties:
        atoms = flow.sources[tie.weight].axes[tie.axis]
        if int(atoms[tie.positions[0, 0]]) in made:
            return tie.weight.rpartition(".")[0] or tie.weight
    return ties[0].weight.rpartition(".")[0] or ties[0].weight


def _free_name(name: str, taken: dict[str, Width]) -> str:
    number, wanted = 1, name
    while name in taken:
        number += 1
        name = f"{wanted}#{number}"
    return name


def _cost(flow: Flow, ties: tuple[Tie, ...]) -> int:
    """Weights that go with one unit; where two axes of a weight go, their crossing counts once."""
    total = 0
    for weight in dict.fromkeys(tie.weight for tie in ties):
        if not flow.sources[weight].parameter or flow.sources[weight].name != weight:
            continue
        size = [len(axis) for axis in flow.sources[weight].axes]
        left = list(size)
        for tie in ties:
            if tie.weight == weight:
                left[tie.axis] -= tie.positions.shape[1]
        total += int(np.prod(size) - np.prod(left))
    return total


def _kind(flow: Flow, settled: Settled, members: Axis, ties: tuple[Tie, ...]) -> Kind:
    """What a unit is, told by the operators that its positions go through."""
    inside = set(members.tolist())
    through = {
        operator_name(node)
        for node, axes in flow.axes.items()
        if node.op == "call_function"
        for axis in flat(axes)
        if inside & set(settled.units(axis).tolist())
    }
    several = max(tie.positions.shape[1] for tie in ties) > 1
    if through & {"lstm", "gru", "rnn_tanh", "rnn_relu"}:
        return "hidden"
    if "embedding" in through:
        return "embedding"
    if several and through & {"softmax", "scaled_dot_product_attention"}:
        counts = {tie.positions.shape[1] for tie in ties if tie.axis == 0}
        return "key-value groups" if len(counts) > 1 else "heads"
    convolved = any(name.startswith("conv") for name in through)
    return "channels" if convolved else "neurons"
