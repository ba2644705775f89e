"""Follows the positions of every weight through a captured graph, operator by operator."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from lilliput.model.sizes import hint, symbol
from lilliput.shapes.atoms import Atoms, Axes, Axis, Settled, fixed, live

Several = tuple[Axes, ...]
PICKED = "picked by its number"
_MOST_ROUNDS = 8
_UNFORESEEN = (LookupError, TypeError, ValueError)  # arguments that a rule has no answer for


@dataclass(frozen=True)
class Source:
    """A parameter or buffer and the atoms of its axes.

    Attributes:
        name: Qualified name, as in ``state_dict``; the first of its names if it is tied.
        axes: Per axis its atoms; of length one: fixed.
        parameter: Whether it is trained.
    """

    name: str
    axes: Axes
    parameter: bool


@dataclass
class Flow:
    """What is known of a graph's positions while it is followed, and afterwards.

    Attributes:
        program: The graph.
        carriers: Node that splits an axis -> which of the factors carries the positions.
        atoms: All atoms and their ties.
        sources: Weights by name; tied ones share their axes.
        twins: Where a weight lies in memory -> the first of its names.
        axes: Per node the axes of its value; a tuple where it has several values.
        weights: Nodes that depend on weights only.
        spare: Axes that hold the same everywhere (zeros, a value spread over an axis).
        readers: Axes of weights that are summed over by a product with an activation: to zero them
            there is to make the model deaf to what they read.
        makers: Axes of weights that products lay out in their result.
        mixers: Nodes whose result for one position depends on other positions, and the axis
            (norms, means, products of two activations): cutting them is not value-neutral.
        unknown: Name of an operator without a rule -> nodes that it froze.
        splits: Node -> how many of its factors could carry the positions, and the one that does.
    """

    program: ExportedProgram
    carriers: dict[str, int]
    atoms: Atoms = field(default_factory=Atoms)
    sources: dict[str, Source] = field(default_factory=dict)
    twins: dict[int, str] = field(default_factory=dict)
    axes: dict[fx.Node, Axes | Several] = field(default_factory=dict)
    weights: set[fx.Node] = field(default_factory=set)
    spare: list[Axis] = field(default_factory=list)
    readers: list[Axis] = field(default_factory=list)
    makers: list[Axis] = field(default_factory=list)
    mixers: list[tuple[fx.Node, Axis]] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, tuple[int, Axis]] = field(default_factory=dict)

    def spread(self, size: int) -> Axis:
        """Atoms of an axis that holds the same everywhere, so that any of it can be cut."""
        axis = self.atoms.new(size) if size > 1 else fixed(size)
        self.spare.append(axis)
        return axis

    def is_spare(self, axis: Axis) -> bool:
        """Whether an axis came from `spread`."""
        return any(axis is known for known in self.spare)


class Step:
    """One operator of the graph, as a rule sees it: its arguments by their names in the schema."""

    def __init__(self, flow: Flow, node: fx.Node) -> None:
        self.flow = flow
        self.node = node
        self._values = named_arguments(node)

    @property
    def name(self) -> str:
        """The operator's name, without its overload."""
        return operator_name(self.node)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def get(self, name: str) -> Any:
        """An argument, None where the operator has no such one."""
        return self._values.get(name)

    def axes(self, value: Any) -> Axes:
        """The axes of a tensor argument, given itself or by name."""
        node = self._values[value] if isinstance(value, str) else value
        found = self.flow.axes[node]
        if isinstance(found, tuple):
            raise TypeError(f"{node} holds several tensors")
        return list(found)

    def tensors(self) -> list[fx.Node]:
        """All tensors among the arguments."""
        return [node for node in self.node.all_input_nodes if is_tensor(node)]

    @property
    def shape(self) -> list[int]:
        """Shape of the first (or only) result in the captured batch."""
        return _sizes(self.results[0])

    @property
    def results(self) -> list[Tensor]:
        """All results as the capture saw them."""
        value = self.node.meta["val"]
        return list(value) if isinstance(value, tuple | list) else [value]

    def opened(self, place: int) -> bool:
        """Whether an axis of the result has a size that varies."""
        return symbol(self.results[0].shape[place]) is not None

    def of_weights(self, value: Any) -> bool:
        """Whether a tensor depends on weights only."""
        node = self._values[value] if isinstance(value, str) else value
        return node in self.flow.weights

    def tie(self, one: Axis, other: Axis) -> Axis:
        """Two axes go together from here on; of length one: spread over the other."""
        if len(one) != len(other):
            return one if len(other) == 1 else other
        if len(one) == 1:
            return one
        return self.flow.atoms.tie(one, other, reason=f"meets a fixed size at {self.place}")

    def freeze(self, axis: Axis, why: str) -> None:
        """What lies along an axis has to stay."""
        self.flow.atoms.freeze(axis, f"{why} at {self.place}")

    def read(self, axis: Axis, weight: Axis) -> None:
        """An activation's axis is summed over with a weight's axis."""
        self.tie(axis, weight)
        self.flow.readers.append(weight)

    def make(self, weight: Axis) -> Axis:
        """A weight's axis is laid out in the result."""
        self.flow.makers.append(weight)
        return weight

    def mix(self, axis: Axis) -> None:
        """The result for one position depends on the others along this axis."""
        if live(axis):
            self.flow.mixers.append((self.node, axis))

    @property
    def place(self) -> str:
        """The operator and the module that calls it."""
        return f"{self.name} in {module_of(self.node) or 'the model'}"


Rule = Callable[[Step], Axes | Several | None]


def follow(program: ExportedProgram, rules: dict[str, Rule]) -> tuple[Flow, Settled]:
    """Follows all positions, with the factor that carries them chosen where an axis is split.

    A split axis (heads and head size, groups and channels of a group) can only be cut along one of
    its factors. The first one is tried; where that leaves nothing to cut, the next. A factor that
    is picked by its number can never be cut, so those splits move on before any other does.

    Args:
        program: A non-decomposed capture.
        rules: Operator's name -> its rule.
    """
    carriers: dict[str, int] = {}
    exhausted: set[str] = set()
    flow, settled = _followed(program, rules, carriers)
    for _ in range(_MOST_ROUNDS):
        stuck = [
            name
            for name, (choices, axis) in flow.splits.items()
            if choices > 1 and name not in exhausted and not _free(axis, settled)
        ]
        if not stuck:
            break
        picked = [name for name in stuck if _picked(flow.splits[name][1], settled)]
        for name in picked or stuck:
            carriers[name] = carriers.get(name, 0) + 1
            if carriers[name] >= flow.splits[name][0]:
                carriers[name] = 0
                exhausted.add(name)
        flow, settled = _followed(program, rules, carriers)
    return flow, settled


def operator_name(node: fx.Node) -> str:
    """The operator's name, without namespace and overload."""
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet))


def named_arguments(node: fx.Node) -> dict[str, Any]:
    """Arguments of an operator by the names of its schema, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {str(place): value for place, value in enumerate(node.args)} | dict(node.kwargs)
    values = {
        wanted.name: wanted.default_value
        for wanted in schema.arguments
        if wanted.has_default_value()
    }
    values |= {wanted.name: value for wanted, value in zip(schema.arguments, node.args)}  # noqa: B905
    return values | dict(node.kwargs)


def module_of(node: fx.Node) -> str:
    """Qualified name of the innermost module that an operator belongs to."""
    stack = [str(path) for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    known = [path for path in stack if not path.startswith("_empty")]  # the exporter's own entry
    return known[-1] if known else ""


def is_tensor(node: fx.Node) -> bool:
    """Whether a node's value is one tensor."""
    return isinstance(node.meta.get("val"), Tensor)


def flat(axes: Axes | Several) -> Axes:
    """The axes of all values of a node."""
    if isinstance(axes, tuple):
        return [axis for one in axes for axis in one]
    return axes


def _sizes(value: Tensor) -> list[int]:
    return [hint(size) for size in value.shape]


def _free(axis: Axis, settled: Settled) -> bool:
    """Whether some, but not all, of an axis can be cut."""
    units = np.unique(settled.units(axis))
    return len(units) > 1 and any(int(unit) not in settled.frozen for unit in units if unit >= 0)


def _picked(axis: Axis, settled: Settled) -> bool:
    """Whether an axis has to stay because its positions are picked by their numbers."""
    units = settled.units(axis)
    return any(settled.frozen.get(int(unit), "").startswith(PICKED) for unit in units)


def _followed(
    program: ExportedProgram, rules: dict[str, Rule], carriers: dict[str, int]
) -> tuple[Flow, Settled]:
    flow = Flow(program, dict(carriers))
    kinds = {item.arg.name: item for item in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            _start(flow, node, kinds[node.name])
        elif node.op == "call_function":
            flow.axes[node] = _result(flow, node, rules)
            inputs = [one for one in node.all_input_nodes if one in flow.axes]
            if inputs and all(one in flow.weights for one in inputs):
                flow.weights.add(node)
        elif node.op == "output":
            for result in node.all_input_nodes:
                for axis in flat(flow.axes.get(result, [])):
                    flow.atoms.freeze(axis, "it is the model's output")
    _freeze_unread(flow, kinds)
    return flow, flow.atoms.settle()


def _freeze_unread(flow: Flow, kinds: dict[str, Any]) -> None:
    """Weights that nothing reads under any of their names stay as they are."""
    nodes = [node for node in flow.weights if node.op == "placeholder" and node.users]
    read = {flow.sources[str(kinds[node.name].target)].name for node in nodes}
    for source in flow.sources.values():
        if source.name not in read:
            for axis in source.axes:
                flow.atoms.freeze(axis, "nothing reads it")


def _start(flow: Flow, node: fx.Node, kind: Any) -> None:
    """The axes of an input of the graph: atoms for weights, fixed sizes for what users give."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return
    ours = kind.kind in (InputKind.PARAMETER, InputKind.BUFFER) and value.is_floating_point()
    if not ours:
        flow.axes[node] = [fixed(size) for size in _sizes(value)]
        return
    name = str(kind.target)
    trained = kind.kind is InputKind.PARAMETER
    twin = (
        flow.twins.setdefault(flow.program.state_dict[name].data_ptr(), name) if trained else name
    )
    if twin not in flow.sources:
        axes = [flow.atoms.new(size) if size > 1 else fixed(size) for size in _sizes(value)]
        flow.sources[twin] = Source(twin, axes, trained)
    flow.sources[name] = flow.sources[twin]
    flow.axes[node] = flow.sources[name].axes
    flow.weights.add(node)


def _result(flow: Flow, node: fx.Node, rules: dict[str, Rule]) -> Axes | Several:
    """The axes of an operator's result, by its rule or, without one, all fixed."""
    value = node.meta.get("val")
    step = Step(flow, node)
    if step.name == "getitem":
        parts = flow.axes.get(node.args[0], [])  # type: ignore[arg-type]
        return parts[node.args[1]] if isinstance(parts, tuple) else _fixed(value)  # type: ignore[index]
    if not isinstance(value, Tensor | tuple | list):
        return []
    rule = rules.get(step.name)
    try:
        found = rule(step) if rule else None
    except _UNFORESEEN:
        found = None
    return _unknown(step) if found is None else found


def _unknown(step: Step) -> Axes | Several:
    """An operator without a rule keeps all it touches as it is."""
    touched = [axis for node in step.node.all_input_nodes for axis in flat(step.flow.axes[node])]
    if any(live(axis) and not step.flow.is_spare(axis) for axis in touched):
        step.flow.unknown.setdefault(step.name, []).append(step.node.name)
    for axis in touched:
        step.freeze(axis, "no rule for an operator")
    return _fixed(step.node.meta["val"])


def _fixed(value: Any) -> Axes | Several:
    if isinstance(value, Tensor):
        return [fixed(size) for size in _sizes(value)]
    if isinstance(value, tuple | list):
        return tuple(
            [fixed(size) for size in _sizes(one)] if isinstance(one, Tensor) else []
            for one in value
        )
    return []
