"""The table of ONNX operators that read a weight: which input it is, and what it is applied to.

An operator that is not in the table freezes every weight it reads.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from lilliput.model.reads import Operation
from lilliput.model.sites import Kind
from lilliput.runtime.onnx_clean import array_of
from lilliput.runtime.onnx_graph import parents

_VIEWS = frozenset({"Transpose", "Cast"})
_RECTIFIERS = frozenset({"Relu", "Clip"})
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Shape = tuple[int, ...]
Fetch = tuple[str, int, bool]  # a node, the place of one of its inputs (or, if True, outputs)


@dataclass(frozen=True)
class State:
    """Which of a recurrent layer's states: its direction, whether time runs backwards, its layout.

    Attributes:
        direction: 0 or 1.
        backwards: The direction reads the sequence from its end.
        batch_first: The layer's ``layout`` is 1.
    """

    direction: int
    backwards: bool
    batch_first: bool


@dataclass(frozen=True)
class Tap:
    """What a weight is applied to: a value of the graph, or the states of a recurrent layer.

    Attributes:
        fetches: The value; for states the layer's output and, where it has one, its first state.
        state: Which states; None for a value as it is.
    """

    fetches: tuple[Fetch, ...]
    state: State | None = None

    def value(self, values: Mapping[Fetch, np.ndarray]) -> np.ndarray | None:
        """From fetched arrays; None where the branch was not taken."""
        first = values.get(self.fetches[0])
        if first is None or self.state is None:
            return first
        initial = values.get(self.fetches[1]) if len(self.fetches) > 1 else None
        return _states(first, initial, self.state)


@dataclass(frozen=True)
class Reading:
    """One place that reads a weight.

    Attributes:
        node: The operator.
        operation: How the weight is applied.
        kind: Kind of site this makes of it.
        tap: What it is applied to.
        source: Name of that.
        rows: Outputs of the weight's matrix view.
        columns: Inputs of it.
        transposed: The weight is stored (in, out).
        groups: Of a convolution.
        source_axes: Axes of the source that hold the inputs.
        row_range: First and last + 1 row that is read; None means all.
    """

    node: ir.Node
    operation: Operation
    kind: Kind
    tap: Tap
    source: str
    rows: int
    columns: int
    transposed: bool = False
    groups: int = 1
    source_axes: tuple[int, ...] = (-1,)
    row_range: tuple[int, int] | None = None


def readings(
    weight: ir.Value, owners: Mapping[int, ir.Node]
) -> Iterator[Reading | tuple[str, str]]:
    """Every place that reads a weight, or an operator that cannot be understood and why."""
    yield from _readings(weight, array_of(weight).shape, owners, turned=False)


def _readings(
    value: ir.Value, shape: Shape, owners: Mapping[int, ir.Node], *, turned: bool
) -> Iterator[Reading | tuple[str, str]]:
    for use in value.uses():
        node = use.node
        loop = _loop_around(node, owners)
        if loop is not None:
            yield node.name or "", f"read inside a {loop}"
        elif node.op_type in _VIEWS and use.idx == 0 and _plain_view(node, shape):
            turns = turned != (node.op_type == "Transpose")
            yield from _readings(node.outputs[0], shape, owners, turned=turns)
        else:
            reader = READERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            found = reader(node, use.idx, shape, turned) if reader else []
            yield from found
            if not found:
                yield node.name or "", f"read by {node.op_type}, input {use.idx}"


def _plain_view(node: ir.Node, shape: Shape) -> bool:
    if node.outputs[0].is_graph_output():
        return False
    return node.op_type == "Cast" or len(shape) == 2


def _loop_around(node: ir.Node, owners: Mapping[int, ir.Node]) -> str | None:
    """The operator whose body a node is in, branches of an If left out."""
    while id(node.graph) in owners:
        node = owners[id(node.graph)]
        if node.op_type != "If":
            return node.op_type
    return None


def taps_of(model: ir.Model, names: Mapping[str, str]) -> dict[str, Tap]:
    """What the weights of a graph are applied to, and what convolutions give, by name.

    Args:
        model: The graph.
        names: Parameter -> initializer.
    """
    owners = parents(model)
    found: dict[str, Tap] = {}
    for initializer in names.values():
        for reading in readings(model.graph.initializers[initializer], owners):
            if not isinstance(reading, Reading):
                continue
            found[reading.source] = reading.tap
            if reading.operation == "conv":
                name = reading.node.name or ""
                behind = handed_on(reading.node.outputs[0]).producer() or reading.node
                found[f"{name} result"] = Tap(((behind.name or "", 0, True),))
    return found


def handed_on(value: ir.Value) -> ir.Value:
    """What the rectifier that alone reads a convolution's result makes of it, else itself."""
    uses = list(value.uses())
    if len(uses) == 1 and uses[0].node.op_type in _RECTIFIERS and not value.is_graph_output():
        return uses[0].node.outputs[0]
    return value


def _input(node: ir.Node, place: int) -> tuple[Tap, str]:
    """What a node is given, and its name; one from outside counts in each branch by itself."""
    value = node.inputs[place]
    tap = Tap(((node.name or "", place, False),))
    if value is None:
        return tap, ""
    inside = value.graph is node.graph
    return tap, value.name or "" if inside else f"{value.name} at {node.name}"


def _matmul(node: ir.Node, place: int, shape: Shape, turned: bool) -> list[Reading]:
    if len(shape) != 2:
        return []
    tap, source = _input(node, 1 - place)
    if place == 1:  # (in, out)
        rows, columns = (shape[0], shape[1]) if turned else (shape[1], shape[0])
        return [Reading(node, "linear", "linear", tap, source, rows, columns, not turned)]
    rows, columns = (shape[1], shape[0]) if turned else shape
    return [
        Reading(node, "linear", "matmul", tap, source, rows, columns, turned, source_axes=(-2,))
    ]


def _gemm(node: ir.Node, place: int, shape: Shape, turned: bool) -> list[Reading]:
    if len(shape) != 2 or place > 1:
        return []
    tap, source = _input(node, 1 - place)
    flags = [bool(node.attributes.get_int(name, 0)) for name in ("transA", "transB")]
    inputs_first = (place == 1) != (flags[place] != turned)  # stored (in, out)
    rows, columns = (shape[1], shape[0]) if inputs_first else shape
    inputs_last = (place == 1) != flags[1 - place]  # of the other factor
    axes = (-1,) if inputs_last else (-2,)
    return [
        Reading(
            node, "linear", "linear", tap, source, rows, columns, inputs_first, source_axes=axes
        )
    ]


def _conv(node: ir.Node, place: int, shape: Shape, turned: bool) -> list[Reading]:
    if place != 1 or turned or not 3 <= len(shape) <= 5:
        return []
    tap, source = _input(node, 0)
    groups = node.attributes.get_int("group", 1)
    return [Reading(node, "conv", "conv", tap, source, shape[0], prod(shape[1:]), groups=groups)]


def _transposed_conv(node: ir.Node, place: int, shape: Shape, turned: bool) -> list[Reading]:
    """A product of each position's channels with (channels, outputs * kernel)."""
    if place != 1 or turned or node.attributes.get_int("group", 1) != 1:
        return []
    tap, source = _input(node, 0)
    rows = prod(shape[1:])
    return [Reading(node, "linear", "conv", tap, source, rows, shape[0], True, source_axes=(1,))]


def _gather(node: ir.Node, place: int, shape: Shape, turned: bool) -> list[Reading]:
    if place != 0 or turned or len(shape) != 2 or node.attributes.get_int("axis", 0) != 0:
        return []
    tap, source = _input(node, 1)
    return [Reading(node, "embedding", "embedding", tap, source, *shape)]


def _recurrent(node: ir.Node, place: int, shape: Shape, turned: bool) -> list[Reading]:
    """W (directions, gates * hidden, in) is applied to the input, R to each direction's states."""
    if place not in (1, 2) or turned or len(shape) != 3:
        return []
    rows, columns = shape[0] * shape[1], shape[2]
    if place == 1:
        tap, source = _input(node, 0)
        return [Reading(node, "recurrent", "recurrent", tap, source, rows, columns)]
    name, initial = node.name or "", len(node.inputs) > 5 and node.inputs[5] is not None
    fetches = ((name, 0, True), *([(name, 5, False)] if initial else []))
    batch_first = bool(node.attributes.get_int("layout", 0))
    found = []
    for direction in range(shape[0]):
        backwards = direction == 1 or node.attributes.get_string("direction", "") == "reverse"
        span = (direction * shape[1], (direction + 1) * shape[1])
        found.append(
            Reading(
                node,
                "recurrent",
                "recurrent",
                Tap(fetches, State(direction, backwards, batch_first)),
                f"{name} state {direction}",
                rows,
                columns,
                row_range=None if shape[0] == 1 else span,
            )
        )
    return found


def _states(outputs: np.ndarray, initial: np.ndarray | None, state: State) -> np.ndarray:
    """What came before each step, (time, batch, hidden)."""
    if state.batch_first:
        outputs = outputs.transpose(1, 2, 0, 3)  # (time, directions, batch, hidden)
        initial = None if initial is None else initial.transpose(1, 0, 2)
    own = outputs[:, state.direction]
    own = own[::-1] if state.backwards else own
    first = np.zeros_like(own[:1]) if initial is None else initial[state.direction][None]
    return np.ascontiguousarray(np.concatenate([first, own[:-1]]))


Reader = Callable[[ir.Node, int, Shape, bool], list[Reading]]
READERS: dict[str, Reader] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _transposed_conv,
    "Gather": _gather,
    **dict.fromkeys(_GATES, _recurrent),
}
