"""Recurrent layers and cells: which weight is which, and what each of them is applied to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten
LAYERS = {
    _aten.lstm.input,
    _aten.gru.input,
    _aten.rnn_tanh.input,
    _aten.rnn_relu.input,
}
CELLS = {
    _aten.lstm_cell.default,
    _aten.gru_cell.default,
    _aten.rnn_tanh_cell.default,
    _aten.rnn_relu_cell.default,
}


@dataclass(frozen=True)
class Part:
    """One weight matrix of a recurrent node.

    Attributes:
        place: Position in the node's list of weights.
        label: Which values it is applied to: ``input L``, or ``state L D`` for layer L and
            direction D. Weights with the same label share their statistics.
    """

    place: int
    label: str


@dataclass(frozen=True)
class Layout:
    """How a node's flat list of weights is arranged.

    Attributes:
        layers: Number of layers.
        directions: 1, or 2 where bidirectional.
        each: Weights per layer and direction, biases and a projection included.
    """

    layers: int
    directions: int
    each: int

    def parts(self) -> list[Part]:
        """The input and state weights (a projection, if there is one, is not among them)."""
        found = []
        for layer in range(self.layers):
            for direction in range(self.directions):
                place = (layer * self.directions + direction) * self.each
                found.append(Part(place, f"input {layer}"))
                found.append(Part(place + 1, f"state {layer} {direction}"))
        return found


def layout(target: Any, args: Sequence[Any]) -> Layout:
    """The layout of a recurrent node or call ``target(*args)``."""
    if target in CELLS:
        return Layout(1, 1, 4)
    weights, layers, directions = args[2], int(args[4]), 2 if args[7] else 1
    return Layout(layers, directions, len(weights) // (layers * directions))


def applied_to(target: Any, args: Sequence[Any]) -> dict[str, Tensor]:
    """Runs the layers one by one and returns what each weight is applied to, by label.

    Args:
        target: One of `LAYERS` or `CELLS`.
        args: Its arguments, values in place of nodes.

    Returns:
        Tensors with two leading axes (time and batch, in the order of the input) and the inputs of
        the weight as the last; for a cell one leading axis.
    """
    if target in CELLS:
        state = args[1][0] if isinstance(args[1], list | tuple) else args[1]
        return {"input 0": args[0], "state 0 0": state}
    arranged = layout(target, args)
    value, states, weights = args[0], args[1], args[2]
    time = 1 if args[8] else 0
    states = list(states) if isinstance(states, list | tuple) else [states]
    seen: dict[str, Tensor] = {}
    for layer in range(arranged.layers):
        seen[f"input {layer}"] = value
        outputs = []
        for direction in range(arranged.directions):
            place = layer * arranged.directions + direction
            own = weights[place * arranged.each : (place + 1) * arranged.each]
            first = [state[place : place + 1] for state in states]
            steps = value.flip(time) if direction else value
            given = first if len(first) > 1 else first[0]
            out = target(steps, given, own, args[3], 1, 0.0, False, False, bool(args[8]))[0]
            start = first[0].movedim(0, time)  # (T=1, B, hidden) or (B, 1, hidden)
            before = torch.cat([start, out.narrow(time, 0, out.shape[time] - 1)], time)
            seen[f"state {layer} {direction}"] = before.flip(time) if direction else before
            outputs.append(out.flip(time) if direction else out)
        value = torch.cat(outputs, -1)
    return seen
