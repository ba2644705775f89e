"""The widths of a model: what can be made narrower, what it ties together, what it costs."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from torch import fx, nn

from lilliput.model.capture import Capture, capture
from lilliput.model.exporting import Dynamic
from lilliput.model.hashes import values_hash
from lilliput.shapes.atoms import FIXED, Axis, Settled
from lilliput.shapes.flow import Flow, flat, follow, module_of, named_arguments, operator_name
from lilliput.shapes.rules import RULES

Kind = Literal["channels", "neurons", "heads", "key-value groups", "hidden", "embedding"]
_RECURRENT = {
    f"{layer}{cell}" for layer in ("lstm", "gru", "rnn_tanh", "rnn_relu") for cell in ("", "_cell")
}
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
        values: Hash of the weights it was made of; empty if they are not known.
    """

    captured: Capture
    flow: Flow
    settled: Settled
    widths: dict[str, Width]
    units: dict[str, Axis]
    values: str = ""

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
    shape = shape_of_capture(capture(model, inputs, dynamic=dynamic, smallest=1))
    return replace(shape, values=values_hash(model))


def shape_of_capture(captured: Capture) -> Shape:
    """The widths of a model that was captured before."""
    flow, settled = follow(captured.graph, RULES)
    made = _units_of(flow.makers, settled)
    # what no product lays out is the size of a kernel, rows of a table, what the model is given
    spaces = [space for space in _spaces(flow, settled) if made & set(space.units.tolist())]
    spaces = _described(flow, settled, spaces)
    names = _names(flow, spaces)
    return Shape(
        captured,
        flow,
        settled,
        {name: _width(flow, space, name) for name, space in zip(names, spaces, strict=True)},
        {name: space.units for name, space in zip(names, spaces, strict=True)},
    )


@dataclass(frozen=True)
class _Space:
    """Units with the same places in the same weights, and the operators they go through."""

    units: Axis
    ties: tuple[Tie, ...]
    reason: str = ""
    operators: frozenset[str] = frozenset()
    norms: tuple[str, ...] = ()
    most_beside_scores: int = 0


def _spaces(flow: Flow, settled: Settled) -> list[_Space]:
    """Units with the same places in the same weights together, in the order of the graph."""
    places = [
        (name, number, settled.units(axis))
        for name, source in flow.sources.items()
        for number, axis in enumerate(source.axes)
    ]
    alike = _alike([units for _, _, units in places])
    ties: dict[int, list[Tie]] = defaultdict(list)
    members: dict[int, Axis] = {}
    for name, number, units in places:
        spaces = np.where(units >= 0, alike[np.maximum(units, 0)], FIXED)
        for space in dict.fromkeys(spaces[spaces >= 0].tolist()):
            where = np.flatnonzero(spaces == space)
            own = units[where]
            if space not in members:
                _, first = np.unique(own, return_index=True)
                members[space] = own[np.sort(first)]
            rank = np.empty(int(members[space].max()) + 1, np.int64)
            rank[members[space]] = np.arange(len(members[space]))
            order = np.argsort(rank[own], kind="stable")
            ties[space].append(Tie(name, number, where[order].reshape(len(members[space]), -1)))
    return [_Space(own, tuple(ties[space])) for space, own in members.items()]


def _alike(places: list[Axis]) -> Axis:
    """Per unit a number that it shares with the units that have as many positions everywhere."""
    count = 1 + max((int(units.max(initial=FIXED)) for units in places), default=FIXED)
    alike = np.zeros(count, np.int64)
    for units in places:
        here, found = np.unique(units[units >= 0], return_counts=True)
        if here.size:
            key = alike[here] * (found.max() + 1) + found
            _, fresh = np.unique(key, return_inverse=True)
            alike[here] = int(alike.max()) + 1 + fresh
    return alike


def _width(flow: Flow, space: _Space, name: str) -> Width:
    return Width(
        name=name,
        kind=_kind(space),
        units=len(space.units),
        ties=space.ties,
        parameters=_cost(flow, space.ties),
        frozen=space.reason,
        norms=space.norms,
    )


def _described(flow: Flow, settled: Settled, spaces: list[_Space]) -> list[_Space]:
    """Spaces with what the graph does to them, looked up for all of them at once."""
    owner = np.full(int(settled.unit.max(initial=-1)) + 2, -1)  # the last entry: FIXED
    for number, space in enumerate(spaces):
        owner[space.units] = number
    through: list[set[str]] = [set() for _ in spaces]
    scored = [0] * len(spaces)
    for node, axes in flow.axes.items():
        if node.op != "call_function":
            continue
        name = operator_name(node)
        for axis in flat(axes):
            found = _owners(owner, settled.units(axis))
            for number in found:
                through[number].add(name)
        for axis in _beside_scores(node, name, axes):
            units, counts = np.unique(settled.units(np.unique(axis)), return_counts=True)
            for number in _owners(owner, units):
                most = counts[owner[units] == number].max()
                scored[number] = max(scored[number], int(most))
    norms: list[dict[str, None]] = [{} for _ in spaces]
    for node, axis in flow.mixers:
        for number in _owners(owner, settled.units(axis)):
            norms[number][f"{operator_name(node)} in {module_of(node)}"] = None
    return [
        replace(
            space,
            reason=_reason(space, settled),
            operators=frozenset(through[number]),
            norms=tuple(norms[number]),
            most_beside_scores=scored[number],
        )
        for number, space in enumerate(spaces)
    ]


def _owners(owner: Axis, units: Axis) -> list[int]:
    """Numbers of the spaces that an axis runs through."""
    found = np.unique(owner[units])
    return [int(number) for number in found if number >= 0]


def _beside_scores(node: fx.Node, name: str, axes: Any) -> list[Axis]:
    """The axes of attention's scores in front of the positions, where heads lie."""
    if name == "scaled_dot_product_attention":
        return list(axes[1:-2])
    if name == "softmax":
        along = int(named_arguments(node)["dim"]) % len(axes)
        return [axis for place, axis in enumerate(axes[:-2]) if place != along]
    return []


def _reason(space: _Space, settled: Settled) -> str:
    """Why units have to stay; empty if they can be cut."""
    reasons = (settled.frozen[unit] for unit in space.units.tolist() if unit in settled.frozen)
    return next(reasons, _ONE_UNIT if len(space.units) == 1 else "")


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


def _names(flow: Flow, spaces: list[_Space]) -> list[str]:
    """A name per space: its module's; where several share one, free ones are named first."""
    names = [_maker(flow, space.ties) for space in spaces]
    taken: set[str] = set()
    for number in sorted(range(len(spaces)), key=lambda place: bool(spaces[place].reason)):
        count, wanted = 1, names[number]
        while names[number] in taken:
            count += 1
            names[number] = f"{wanted}#{count}"
        taken.add(names[number])
    return names


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


def _kind(space: _Space) -> Kind:
    """What a unit is, told by the operators that its positions go through."""
    if space.operators & _RECURRENT:
        return "hidden"
    if space.most_beside_scores:
        return "heads" if space.most_beside_scores == 1 else "key-value groups"
    if "embedding" in space.operators:
        return "embedding"
    convolved = any(name.startswith("conv") for name in space.operators)
    return "channels" if convolved else "neurons"
