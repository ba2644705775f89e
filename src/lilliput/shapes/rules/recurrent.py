"""LSTM, GRU and plain recurrent layers: the same hidden units leave every gate and layer."""

import numpy as np

from lilliput.shapes.atoms import Axes, Axis, fixed
from lilliput.shapes.flow import Rule, Several, Step

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def recurrent(step: Step) -> Several | None:
    """All layers and directions of one module share their hidden size."""
    if step.get("data") is not None:  # a packed sequence
        return None
    weights = [step.axes(node) for node in step["params"]]
    biased, layers, both = step["has_biases"], step["num_layers"], step["bidirectional"]
    each = 4 if biased else 2
    directions = 2 if both else 1
    if len(weights) != each * layers * directions:  # with a projection
        return None
    entering = step.axes("input")[-1]
    hidden = weights[0][0][: len(weights[1][1])]
    for layer in range(layers):
        for direction in range(directions):
            place = each * (layer * directions + direction)
            _layer(step, entering, hidden, weights[place : place + each])
        entering = np.tile(hidden, directions)
    return _results(step, entering, hidden)


def _layer(step: Step, entering: Axis, hidden: Axis, weights: list[Axes]) -> None:
    inputs, states, *biases = weights
    step.read(entering, inputs[1])
    step.read(hidden, states[1])
    for rows in [inputs[0], states[0], *(bias[0] for bias in biases)]:
        for gate in rows.reshape(_GATES[step.name.removesuffix("_cell")], -1):
            step.tie(hidden, gate)
        step.make(rows)


def _results(step: Step, leaving: Axis, hidden: Axis) -> Several:
    """The sequence, then the last states; given first states go with the hidden units."""
    given = step["hx"]
    for node in given if isinstance(given, list | tuple) else [given]:
        step.tie(step.axes(node)[-1], hidden)
    shapes = [list(value.shape) for value in step.results]
    sequence = [*step.axes("input")[:-1], leaving]
    states = [[fixed(int(shape[0])), step.axes("input")[0], hidden] for shape in shapes[1:]]
    if step["batch_first"] is False and len(sequence) > 2:
        states = [[axes[0], step.axes("input")[1], axes[2]] for axes in states]
    return (sequence, *states)


def cell(step: Step) -> Axes | Several:
    """One step of a recurrent layer."""
    inputs, states = step.axes("w_ih"), step.axes("w_hh")
    biases = [step.axes(name) for name in ("b_ih", "b_hh") if step.get(name) is not None]
    hidden = states[0][: len(states[1])]
    _layer(step, step.axes("input")[-1], hidden, [inputs, states, *biases])
    given = step["hx"]
    for node in given if isinstance(given, list | tuple) else [given]:
        step.tie(step.axes(node)[-1], hidden)
    result = [*step.axes("input")[:-1], hidden]
    return result if len(step.results) == 1 else tuple(list(result) for _ in step.results)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_GATES, recurrent),
    **dict.fromkeys([f"{name}_cell" for name in _GATES], cell),
}
