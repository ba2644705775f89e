"""Whether a product is faster than the weight it replaces: both measured, as one-op graphs."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from lilliput.model.encodings import Dense, Encoding, LowRank
from lilliput.runtime.interleaved import latency_turns
from lilliput.runtime.onnx_bind import Binding, Bindings
from lilliput.runtime.onnx_encode import write_encodings
from lilliput.runtime.onnx_export import OnnxModel
from lilliput.runtime.processes import Worker
from lilliput.statistics import ratio_bound

SECONDS = 0.5  # per shape
Ratio = tuple[float, float, float]  # median, lower and upper bound of factored over whole
Shape = tuple[object, ...]


@dataclass
class FactorSpeed:
    """Measures products against whole weights, once per shape.

    Attributes:
        bindings: The original's graph.
        arrays: One batch of inputs; what the operations read is taken from running the graph.
        open_worker: Opens a file in a fresh process of the runtime that counts.
        seconds: About how long each shape is measured.
        known: Shapes measured so far.
    """

    bindings: Bindings
    arrays: Sequence[np.ndarray]
    open_worker: Callable[[Path], Worker] = Worker
    seconds: float = SECONDS
    known: dict[Shape, Ratio] = field(default_factory=dict)

    def ratios(self, encodings: Mapping[str, Encoding]) -> dict[str, Ratio]:
        """Time of each product over that of the whole weight; floats on both sides.

        Products that the graph cannot hold are left out: they become dense by themselves. So are
        those read in a branch only, which one run of the graph may not pass.
        """
        products = {name: e for name, e in encodings.items() if isinstance(e, LowRank)}
        model = onnx.load(self.bindings.original.path)
        outside = {node.name for node in model.graph.node}
        uses = {
            binding.pieces[0].parameter: binding
            for binding in reversed(self.bindings.found)
            if binding.pieces[0].parameter in products and binding.uses[0][0] in outside
        }
        ops = {name: _operation(model, binding) for name, binding in uses.items()}
        names = [n for nodes in ops.values() for n in (*_read(nodes), nodes[-1].output[0])]
        seen = _seen(model, names, self.arrays)
        return {
            name: ratio
            for name, nodes in ops.items()
            if (ratio := self._ratio(model, uses[name], nodes, products[name], seen)) is not None
        }

    def _ratio(
        self,
        model: onnx.ModelProto,
        binding: Binding,
        nodes: list[onnx.NodeProto],
        product: LowRank,
        seen: Mapping[str, np.ndarray],
    ) -> Ratio | None:
        read = [seen[name] for name in _read(nodes) if name in seen]
        key = (
            *((node.op_type, str(list(node.attribute))) for node in nodes),
            *(array.shape for array in read),
            *(tuple(factor.decode().shape) for factor in product.factors),
        )
        if key not in self.known:
            with tempfile.TemporaryDirectory(prefix="lilliput-") as folder:
                paths = _write(model, binding, nodes, product, seen=seen, folder=Path(folder))
                if paths is None:
                    return None
                with self.open_worker(paths[0]) as whole, self.open_worker(paths[1]) as factored:
                    turns = latency_turns((whole, factored), read, seconds=self.seconds)
            self.known[key] = ratio_bound(turns.ratios)
        return self.known[key]


def slower(ratios: Mapping[str, Ratio]) -> dict[str, Ratio]:
    """Those that were not shown to be faster: the upper bound of the ratio is 1 or more."""
    return {name: ratio for name, ratio in ratios.items() if ratio[2] >= 1}


def _operation(model: onnx.ModelProto, binding: Binding) -> list[onnx.NodeProto]:
    """The first node that reads the weight; behind a transposition also the one after it."""
    nodes = {node.name: node for node in model.graph.node}
    node = nodes[binding.uses[0][0]]
    if node.op_type != "Transpose":
        return [node]
    return [node, next(n for n in model.graph.node if node.output[0] in n.input)]


def _read(nodes: list[onnx.NodeProto]) -> list[str]:
    """What the nodes read from outside, constants too."""
    made = {name for node in nodes for name in node.output}
    return list(dict.fromkeys(n for node in nodes for n in node.input if n and n not in made))


def _seen(
    model: onnx.ModelProto, values: Sequence[str], arrays: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """The values that are no constants, from one run of the graph."""
    inputs = [value.name for value in model.graph.input]
    feed = dict(zip(inputs, arrays, strict=True))
    constants = {tensor.name for tensor in model.graph.initializer}
    wanted = [name for name in dict.fromkeys(values) if name not in constants | feed.keys()]
    if not wanted:
        return feed
    open_ = onnx.ModelProto()
    open_.CopyFrom(model)
    del open_.graph.output[:]
    open_.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        open_.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return feed | dict(zip(wanted, session.run(None, feed), strict=True))


def _write(
    model: onnx.ModelProto,
    binding: Binding,
    nodes: list[onnx.NodeProto],
    product: LowRank,
    *,
    seen: Mapping[str, np.ndarray],
    folder: Path,
) -> tuple[Path, Path] | None:
    """The operation alone in two files, whole and factored; None where it cannot be factored."""
    alone = _alone(model, nodes, seen=seen, path=folder / "original.onnx")
    own = replace(binding, uses=binding.uses[:1])
    parameter = binding.pieces[0].parameter
    small = Bindings(alone, (own,), (), (), frozenset({parameter}))
    whole, factored = folder / "whole.onnx", folder / "factored.onnx"
    write_encodings(small, {parameter: Dense(product.decode())}, whole)
    floats = replace(product, factors=tuple(Dense(f.decode()) for f in product.factors))
    return None if write_encodings(small, {parameter: floats}, factored) else (whole, factored)


def _alone(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    *,
    seen: Mapping[str, np.ndarray],
    path: Path,
) -> OnnxModel:
    """Some nodes of a graph as a graph of their own, its inputs of the sizes that were seen."""
    helper, read, result = onnx.helper, _read(nodes), nodes[-1].output[0]
    values = {
        name: helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(seen[name].dtype), seen[name].shape
        )
        for name in (*read, result)
        if name in seen
    }
    inputs = [values[name] for name in read if name in seen]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    graph = helper.make_graph(nodes, "operation", inputs, [values[result]], constants)
    opsets = list(model.opset_import)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return OnnxModel(path, tuple(value.name for value in inputs), (result,), {})
