"""What values occur in a float graph: measured on calibration examples, in ONNX Runtime."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from lilliput.errors import InputError
from lilliput.runtime.sessions import session

PER_BATCH = 4096  # numbers kept of one value and batch


@dataclass
class Seen:
    """One value of the graph.

    Attributes:
        shape: Its shape without the first axis; None where batches differ in it.
        least: Smallest number, at most 0.
        most: Largest number, at least 0.
        parts: Numbers spread evenly over each batch.
    """

    shape: tuple[int, ...] | None = None
    least: float = 0.0
    most: float = 0.0
    parts: list[np.ndarray] = field(default_factory=list)

    @property
    def sample(self) -> np.ndarray:
        """Numbers that occur, the extremes among them."""
        return np.concatenate([*self.parts, np.array([self.least, self.most])])

    def add(self, array: np.ndarray) -> None:
        """One batch."""
        shape = tuple(array.shape[1:])
        self.shape = shape if not self.parts or shape == self.shape else None
        flat = array.reshape(-1).astype(np.float64)
        self.least = min(self.least, float(flat.min(initial=0)))
        self.most = max(self.most, float(flat.max(initial=0)))
        self.parts.append(flat[:: max(1, len(flat) // PER_BATCH)])


def observe_values(
    model: onnx.ModelProto, batches: Iterable[Sequence[np.ndarray]]
) -> Mapping[str, Seen]:
    """Every floating-point value of a graph, inputs included.

    Args:
        model: A float graph; it is not changed.
        batches: Inputs in the order of the graph.

    Raises:
        InputError: There are no batches, or a value is not finite.
    """
    names, run = _opened(model)
    inputs = [value.name for value in model.graph.input]
    found: dict[str, Seen] = {}
    for arrays in batches:
        feed = dict(zip(inputs, arrays, strict=True))
        values = feed | dict(zip(names, run.run(names, feed), strict=True))
        for name, array in values.items():
            if not np.issubdtype(array.dtype, np.floating):
                continue
            if not np.isfinite(array).all():
                raise InputError(f"{name} is not finite on a calibration example")
            found.setdefault(name, Seen()).add(array)
    if not found:
        raise InputError(
            "fixed point needs calibration examples", "they say how large activations are"
        )
    return found


def _opened(model: onnx.ModelProto) -> tuple[list[str], onnxruntime.InferenceSession]:
    """A session that puts out every value of the graph."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    known = {value.name: value for value in [*proto.graph.output, *proto.graph.value_info]}
    names = [name for node in proto.graph.node for name in node.output if name]
    del proto.graph.output[:]
    for name in names:
        proto.graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return names, session(proto.SerializeToString(), options)


def constant_values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Initializers, and everything computed from nothing but them."""
    known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if all(name in known for name in node.input if name) and len(node.output) == 1:
            nodes.append(node)
            known[node.output[0]] = np.empty(0)
    if not nodes:
        return known
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    del proto.graph.input[:], proto.graph.output[:], proto.graph.node[:]
    proto.graph.node.extend(nodes)
    names, run = _opened(proto)
    return known | dict(zip(names, run.run(names, {}), strict=True))
