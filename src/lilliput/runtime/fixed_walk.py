"""What is known while a float graph is walked and its integer twin is built."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from lilliput.errors import InputError
from lilliput.runtime.fixed_graph import Codes, FixedGraph, Sums, Target
from lilliput.runtime.fixed_ranges import Seen
from lilliput.tensor.fixed import best_exponent, rounded

BYTE, WIDE = 8, 16  # bits of activations, and of outputs that nothing reads
_FUSED = {"Relu", "Clip"}


class Walk:
    """The float graph's values, and which integers stand for them so far.

    Args:
        model: The float graph.
        seen: Its values on calibration examples.
        constants: Its values that depend on no input.

    Attributes:
        graph: The integer graph.
        opsets: The graph's opsets.
        codes: Name of a float value -> its integers.
        done: Names of nodes that an earlier one has taken over.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        seen: Mapping[str, Seen],
        constants: Mapping[str, np.ndarray],
    ) -> None:
        self.seen, self.constants = seen, constants
        self.opsets = list(model.opset_import)
        taken = {name for node in model.graph.node for name in node.output if name not in seen}
        taken |= {value.name for value in [*model.graph.input, *model.graph.output]}
        self.graph = FixedGraph(taken)
        self.codes: dict[str, Codes] = {}
        self.done: set[str] = set()
        self.outputs = {value.name for value in model.graph.output}
        readers = Counter(name for node in model.graph.node for name in node.input)
        self._readers = readers + Counter(self.outputs)
        self._reader = {name: node for node in model.graph.node for name in node.input}

    def next(self, name: str) -> onnx.NodeProto | None:
        """The only node that reads a value; None where there are several, or it is an output."""
        return self._reader.get(name) if self._readers[name] == 1 else None

    def target(self, name: str, *, wide: bool = True) -> Target:
        """Bytes for a value as it was seen; two bytes, if `wide`, for an output nothing reads."""
        seen = self.seen[name]
        if wide and name in self.outputs and self._readers[name] == 1:
            most = 2 ** (WIDE - 1) - 1
            return Target(best_exponent(seen.sample, low=-most, high=most), -most, most, most + 1)
        signed = seen.least < 0
        low, high = (-128, 127) if signed else (0, 255)
        return Target(best_exponent(seen.sample, low=low, high=high), low, high, -low)

    def finish(self, name: str) -> tuple[str, Target]:
        """The value that a sum ends in, once what clips it is taken over, and its codes.

        A Relu or Clip that alone reads the sum costs nothing: codes are clipped anyway.
        """
        low, high = -np.inf, np.inf
        while (node := self.next(name)) is not None and node.op_type in _FUSED:
            self.done.add(node.output[0])
            name = node.output[0]
            ends = self.ends(node)
            low, high = max(low, ends[0]), min(high, ends[1])
        return name, clipped(self.target(name), low=low, high=high)

    def ends(self, node: onnx.NodeProto) -> tuple[float, float]:
        """Between which numbers a Relu or Clip keeps its values."""
        if node.op_type == "Relu":
            return 0.0, np.inf
        ends = [-np.inf, np.inf]
        for place, name in enumerate(node.input[1:3]):
            if name:
                ends[place] = float(self.constant(node, name))
        return ends[0], ends[1]

    def constant(self, node: onnx.NodeProto, name: str) -> np.ndarray:
        """A value that must not depend on the inputs.

        Raises:
            InputError: It does.
        """
        if name not in self.constants:
            raise InputError(
                f"fixed point cannot take {node.op_type} ({node.name}): "
                f"{name} is computed while it runs"
            )
        return self.constants[name]

    def sums(self, name: str) -> Sums:
        """A value's integers, signed, as int32."""
        return self.graph.sums(self.codes[name], stem=name)

    def put(self, sums: Sums, name: str, *, offset: np.ndarray | None = None) -> None:
        """Rounds the sums that `name` is made of to the codes of the value they end in."""
        name, target = self.finish(name)
        self.codes[name] = self.graph.rounded(sums, target, stem=name, offset=offset)


def clipped(target: Target, *, low: float, high: float) -> Target:
    """The same codes, none outside of two numbers."""
    ends = [
        target.low if low == -np.inf else int(rounded(np.ldexp(low, target.exponent))),
        target.high if high == np.inf else int(rounded(np.ldexp(high, target.exponent))),
    ]
    low_code, high_code = (min(max(end, target.low), target.high) for end in ends)
    return Target(target.exponent, low_code, high_code, target.zero)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
