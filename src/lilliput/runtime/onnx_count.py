"""Weights and multiply-adds of an ONNX file, counted on one real call."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from lilliput.errors import ContainerError
from lilliput.runtime.onnx_encode import CODES_SUFFIX, STEP_SUFFIXES
from lilliput.runtime.onnx_groups import LOOKUP, PRODUCT
from lilliput.runtime.onnx_read import inner_nodes
from lilliput.runtime.sessions import session

_WEIGHTS = {ir.DataType.INT8, ir.DataType.INT16}
_PASSED = {"Gather", "Reshape", "Cast"}  # on the way of looked-up bytes
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_CONVOLUTIONS = {"Conv", "ConvInteger"}
_PLAIN = {"MatMul", PRODUCT, "Gemm", "MatMulInteger", "ConvTranspose"}
_PRODUCTS = _PLAIN | _CONVOLUTIONS | {*_GATES}
Shape = tuple[int, ...]


def count_parameters(path: Path) -> int:
    """Numbers a file holds as weights: floats and integer codes, without the codes' steps."""
    graph = ir.load(path).graph
    shared = _shared(graph)
    return sum(
        constant.size * shared.get(name, 1)
        for name, constant in _constants(graph)
        if not name.endswith(STEP_SUFFIXES)
        and (name in shared or constant.dtype.is_floating_point() or constant.dtype in _WEIGHTS)
    )


def _constants(graph: ir.Graph) -> Iterator[tuple[str, ir.TensorProtocol]]:
    """Weights of a graph and its branches: initializers, and tensors in Constant nodes."""
    for inner in (graph, *graph.subgraphs()):
        for name, value in inner.initializers.items():
            if value.const_value is not None:
                yield name, value.const_value
    for node in graph.all_nodes():
        attribute = node.attributes.get("value") if node.op_type == "Constant" else None
        if attribute is not None and len(attribute.as_tensor().shape):
            yield node.name or "", attribute.as_tensor()


def _shared(graph: ir.Graph) -> dict[str, int]:
    """Codes in bytes -> how many share a byte, as their first reader takes them apart."""
    return {
        name: 8 // _width(value)
        for name, value in graph.initializers.items()
        if value.dtype == ir.DataType.UINT8 and name.endswith(CODES_SUFFIX) and value.uses()
    }


def _width(value: ir.Value) -> int:
    node = _reader(value)
    while node.op_type in _PASSED:
        node = _reader(node.outputs[0])
    if node.op_type in (PRODUCT, LOOKUP):
        return int(node.attributes.get_int("bits", 8))
    shifted = node.op_type == "Mul" and node.inputs[1] is not None
    parts = node.inputs[1].const_value if shifted and node.inputs[1] else None
    return 8 // parts.size if parts is not None and parts.size in (2, 4) else 8


def _reader(value: ir.Value) -> ir.Node:
    return next(iter(value.uses())).node


def count_macs(path: Path, arrays: Sequence[np.ndarray]) -> int | None:
    """Multiply-adds of one call: matrix products, convolutions and recurrent layers.

    None where ONNX Runtime, which runs it, cannot open the file.

    Shapes are taken from running the graph, so nothing has to be inferred. Elementwise work,
    normalisation and softmax are not counted, as is usual. None where a branch or a loop holds
    some of them: how often it is taken depends on the data.

    Args:
        path: ONNX file.
        arrays: Inputs of the call, in the order of the graph's inputs; give a batch of one.
    """
    proto = onnx.load(path)
    if any(node.op_type in _PRODUCTS for node in inner_nodes(proto.graph)):
        return None
    nodes = [node for node in proto.graph.node if node.op_type in _PRODUCTS]
    wanted = dict.fromkeys(name for node in nodes for name in _operands(node) if name)
    try:
        shapes = _shapes(proto, list(wanted), arrays)
    except ContainerError:
        return None
    return sum(_macs(node, shapes) for node in nodes)


def _operands(node: onnx.NodeProto) -> list[str]:
    first = next(name for name in node.output if name)
    return [first, *node.input[:3]] if node.op_type in _GATES else [first, *node.input[:2]]


def _shapes(
    proto: onnx.ModelProto, names: list[str], arrays: Sequence[np.ndarray]
) -> dict[str, Shape]:
    """Shapes of the named values, by letting the graph put them out."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value.name for value in proto.graph.input if value.name not in weights]
    feed = dict(zip(inputs, arrays, strict=True))
    shapes = {name: array.shape for name, array in feed.items()}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    asked = [name for name in names if name not in shapes]
    del proto.graph.output[:]
    for name in asked:
        stem = f"{name}_shape_for_counting"
        proto.graph.node.append(onnx.helper.make_node("Shape", [name], [stem]))
        proto.graph.output.append(
            onnx.helper.make_tensor_value_info(stem, onnx.TensorProto.INT64, [None])
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL
    answers = session(proto.SerializeToString(), options).run(None, feed) if asked else []
    return shapes | {
        name: tuple(map(int, answer)) for name, answer in zip(asked, answers, strict=True)
    }


def _macs(node: onnx.NodeProto, shapes: dict[str, Shape]) -> int:
    output, *operands = (shapes[name] for name in _operands(node))
    if node.op_type in _GATES:
        length, batch = operands[0][:2]
        directions, rows, inputs = operands[1]
        return length * batch * directions * rows * (inputs + operands[2][2])
    if node.op_type in _CONVOLUTIONS:
        return math.prod(output) * math.prod(operands[1][1:])
    if node.op_type == PRODUCT:
        return math.prod(output) * operands[0][-1]
    if node.op_type == "ConvTranspose":
        return math.prod(operands[0]) * math.prod(operands[1][1:])
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(output) * operands[0][0 if turned else -1]
