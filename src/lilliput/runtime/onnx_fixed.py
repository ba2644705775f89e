"""A float graph as a graph of integers only, for processors without floating point."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from lilliput.errors import InputError, InternalError, OutputError
from lilliput.records import FixedPort
from lilliput.runtime.fixed_graph import Codes, FixedGraph
from lilliput.runtime.fixed_operators import OPERATORS, integers
from lilliput.runtime.fixed_ranges import constant_values, observe_values
from lilliput.runtime.fixed_walk import Walk, attributes

_EITHER = {"Add", "Sub", "Mul", "Concat"}  # the activation need not come first
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


def write_fixed(
    source: Path, path: Path, *, batches: Iterable[Sequence[np.ndarray]]
) -> tuple[FixedPort, ...]:
    """Writes the integer twin of a float ONNX file: no node in it computes in floating point.

    Activations are bytes, weights int8, sums and biases int32, all scales powers of two; weights
    have one per output channel. Rounding is to nearest, halves up. How large activations are is
    measured on the batches.

    Args:
        source: The float file.
        path: Where to write.
        batches: Calibration inputs in the order of the graph.

    Returns:
        Inputs and outputs that became integers.

    Raises:
        InputError: An operator that fixed point does not take; nothing was written.
        OutputError: The file cannot be written.
    """
    model = onnx.load(source)
    constants = constant_values(model)
    _refuse_unknown(model, constants)
    walk = Walk(model, observe_values(model, batches), constants)
    entered = [_enter(walk, value) for value in model.graph.input]
    for node in model.graph.node:
        _take(walk, node)
    left = [_leave(walk, value) for value in model.graph.output]
    proto = _assembled(model, walk.graph, [v for v, _ in entered], [v for v, _ in left])
    try:
        path.write_bytes(proto.SerializeToString(deterministic=True))
    except OSError as error:
        raise OutputError(f"cannot write {path.name}: {error.strerror}") from error
    return tuple(port for _, port in [*entered, *left] if port is not None)


def float_values(model: onnx.ModelProto) -> list[str]:
    """Names of all values of floating point in a graph, found by type inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    infos = [*inferred.input, *inferred.output, *inferred.value_info]
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    values = {name for node in inferred.node for name in [*node.input, *node.output] if name}
    return sorted(name for name in values if types.get(name, TensorProto.FLOAT) in _FLOATS)


def _refuse_unknown(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> None:
    """Before anything is measured or written."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {
        info.name
        for info in [*inferred.input, *inferred.output, *inferred.value_info]
        if info.type.tensor_type.elem_type in _FLOATS
    }
    for node in model.graph.node:
        if all(name in constants for name in node.output):
            continue
        floating = floats & {*node.input, *node.output}
        if floating and node.op_type not in OPERATORS and node.op_type != "Shape":
            raise InputError(
                f"fixed point takes networks of {', '.join(sorted(OPERATORS))}; "
                f"{node.op_type} ({node.name}) is not among them",
                "leave a softmax at the end to the caller; else take --arithmetic int8",
            )


def _take(walk: Walk, node: onnx.NodeProto) -> None:
    name = node.output[0]
    if name in walk.constants or name in walk.done:
        return
    if name not in walk.seen:
        _copy(walk, node)
        return
    read = [item in walk.codes for item in node.input]
    if not (any(read) if node.op_type in _EITHER else read[0]):
        raise InputError(
            f"fixed point takes {node.op_type} of an activation first, not {node.name}"
        )
    OPERATORS[node.op_type](walk, node)


def _copy(walk: Walk, node: onnx.NodeProto) -> None:
    """What computes shapes; the shape of an activation is that of its bytes."""
    inputs = [
        walk.codes[item].name if item in walk.codes else integers(walk, item) if item else ""
        for item in node.input
    ]
    copy = helper.make_node(node.op_type, inputs, list(node.output), **attributes(node))
    walk.graph.nodes.append(copy)


def _enter(walk: Walk, value: onnx.ValueInfoProto) -> tuple[onnx.ValueInfoProto, FixedPort | None]:
    """An input of the graph, and what it becomes."""
    if value.type.tensor_type.elem_type not in _FLOATS:
        return value, None
    target = walk.target(value.name, wide=False)
    if target.zero == 0:
        walk.codes[value.name] = Codes(value.name, target.exponent, 0)
        return _typed(value, TensorProto.UINT8), _port(value, "uint8", target.exponent)
    graph = walk.graph
    wide = graph.cast(value.name, TensorProto.INT32, stem=f"{value.name}.wide")
    zero = graph.constant(np.array(target.zero, np.int32), "zero")
    raised = graph.node("Add", [wide, zero], stem=f"{value.name}.raised")
    stored = graph.cast(raised, TensorProto.UINT8, stem=f"{value.name}.bytes")
    walk.codes[value.name] = Codes(stored, target.exponent, target.zero)
    return _typed(value, TensorProto.INT8), _port(value, "int8", target.exponent)


def _leave(walk: Walk, value: onnx.ValueInfoProto) -> tuple[onnx.ValueInfoProto, FixedPort | None]:
    """An output of the graph, and what it became."""
    graph, name = walk.graph, value.name
    if name not in walk.codes:
        return value, None
    codes = walk.codes[name]
    kind, word = TensorProto.UINT8, "uint8"
    last = codes.name
    if codes.wide:
        kind, word = TensorProto.INT16, "int16"
    elif codes.zero:
        kind, word = TensorProto.INT8, "int8"
        last = graph.sums(codes, stem=name).name
    graph.nodes.append(helper.make_node("Cast", [last], [name], to=kind))
    return _typed(value, kind), _port(value, word, codes.exponent)


def _port(value: onnx.ValueInfoProto, kind: str, exponent: int) -> FixedPort:
    return FixedPort(name=value.name, type=kind, exponent=exponent)


def _typed(value: onnx.ValueInfoProto, kind: int) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.type.tensor_type.elem_type = kind
    return copy


def _assembled(
    model: onnx.ModelProto,
    graph: FixedGraph,
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """The file, checked; dead nodes and constants left out."""
    needed, nodes = {value.name for value in outputs}, []
    for node in reversed(graph.nodes):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    made = helper.make_graph(
        nodes[::-1],
        model.graph.name,
        inputs,
        outputs,
        [tensor for name, tensor in graph.initializers.items() if name in needed],
    )
    proto = helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(proto)
    floats = float_values(proto)
    if floats:
        raise InternalError(f"floating point is left in the integer graph: {floats[:3]}")
    return proto
