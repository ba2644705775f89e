"""Everything but products: sums, pools, reshaping, and tables of functions of one number."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lilliput.errors import InputError
from lilliput.runtime.fixed_graph import Codes, Sums
from lilliput.runtime.fixed_products import conv, gemm, matmul
from lilliput.runtime.fixed_ranges import constant_values
from lilliput.runtime.fixed_walk import Walk, attributes, clipped
from lilliput.tensor.fixed import rounded

Operator = Callable[[Walk, onnx.NodeProto], None]
_FACTOR_BITS = 14  # of a constant factor, and of one over the number of values in a mean


def limit(walk: Walk, node: onnx.NodeProto) -> None:
    """Relu or Clip of a value that others read too."""
    name, (low, high) = node.output[0], walk.ends(node)
    target = clipped(walk.target(name), low=low, high=high)
    walk.codes[name] = walk.graph.rounded(walk.sums(node.input[0]), target, stem=name)


def add(walk: Walk, node: onnx.NodeProto) -> None:
    """Add or Sub of two values, or of a value and a constant: aligned, then added exactly."""
    sign = 1 if node.op_type == "Add" else -1
    factors = (1, sign)
    name, stem = walk.finish(node.output[0])[0], node.output[0]
    values = [item for item in node.input if item in walk.codes]
    known = [walk.codes[item].exponent for item in values]
    if len(values) == 1:
        known.append(walk.target(name).exponent)
    finest = max(known)
    total: Sums | None = None
    offset: np.ndarray | None = None
    for item, factor in zip(node.input, factors, strict=True):
        if item not in walk.codes:
            number = walk.constant(node, item).astype(np.float64)
            offset = factor * rounded(np.ldexp(number, finest))
            continue
        octaves = finest - walk.codes[item].exponent
        if octaves > 20:
            raise InputError(f"fixed point cannot align what {node.op_type} {node.name} adds")
        part = walk.graph.scaled(
            walk.sums(item), np.array(factor << octaves), octaves=octaves, stem=f"{stem}.{item}"
        )
        total = part if total is None else _joined(walk, total, part, stem)
    if total is not None:
        walk.put(total, node.output[0], offset=offset)


def _joined(walk: Walk, one: Sums, two: Sums, stem: str) -> Sums:
    name = walk.graph.node("Add", [one.name, two.name], stem=f"{stem}.total")
    return Sums(name, one.exponent, one.bound + two.bound)


def multiply(walk: Walk, node: onnx.NodeProto) -> None:
    """Mul of two values, or Mul or Div of a value by a constant."""
    first, second = node.input
    if first in walk.codes and second in walk.codes and node.op_type == "Mul":
        one, two = walk.sums(first), walk.sums(second)
        name = walk.graph.node("Mul", [one.name, two.name], stem=f"{node.output[0]}.product")
        walk.put(Sums(name, one.exponent + two.exponent, one.bound * two.bound), node.output[0])
        return
    if node.op_type == "Div" and second in walk.codes:
        raise InputError(f"fixed point takes Div by a constant, not {node.name}")
    value, other = (first, second) if first in walk.codes else (second, first)
    number = walk.constant(node, other).astype(np.float64)
    number = 1 / number if node.op_type == "Div" else number
    _times(walk, walk.sums(value), number, node.output[0])


def _times(walk: Walk, sums: Sums, number: np.ndarray, name: str) -> None:
    """Sums times constants, of which the leading bits count."""
    size = np.abs(number).max(initial=0)
    room = min(_FACTOR_BITS, 29 - int(np.max(sums.bound)).bit_length())
    octaves = room - int(np.ceil(np.log2(size))) if size > 0 else 0
    factor = rounded(np.ldexp(number, octaves))
    target = walk.finish(name)[1]
    shift = int(np.max(sums.exponent)) + octaves - target.exponent
    spare = max(0, shift - target.most_shift)
    factor, octaves = rounded(np.ldexp(factor.astype(np.float64), -spare)), octaves - spare
    walk.put(walk.graph.scaled(sums, factor, octaves=octaves, stem=name), name)


def mean(walk: Walk, node: onnx.NodeProto) -> None:
    """GlobalAveragePool or ReduceMean: an integer sum, times one over how many were added."""
    given, shape = attributes(node), walk.seen[node.input[0]].shape
    rank = 1 + len(shape or ())
    axes = list(range(2, rank))
    if node.op_type == "ReduceMean":
        named = given.get("axes")
        if named is None:
            named = walk.constant(node, node.input[1]).tolist()
        axes = sorted(axis % rank for axis in named)
    if shape is None or not axes or axes[0] == 0:
        raise InputError(f"fixed point takes a mean over axes of one size, not {node.name}")
    count = int(np.prod([shape[axis - 1] for axis in axes]))
    sums = walk.sums(node.input[0])
    held = walk.graph.constant(np.array(axes, np.int64), "axes")
    name = walk.graph.node(
        "ReduceSum",
        [sums.name, held],
        stem=f"{node.output[0]}.total",
        keepdims=given.get("keepdims", 1),
    )
    total = Sums(name, sums.exponent, sums.bound * count)
    _times(walk, total, np.array(1 / count), node.output[0])


def average(walk: Walk, node: onnx.NodeProto) -> None:
    """AveragePool without padding: a convolution of each channel with ones, then as `mean`."""
    given, shape = attributes(node), walk.seen[node.input[0]].shape
    padded = any(given.get("pads", ())) or given.get("ceil_mode")
    if shape is None or padded or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise InputError(f"fixed point takes AveragePool without padding, not {node.name}")
    kernel = given["kernel_shape"]
    codes = walk.codes[node.input[0]]
    ones = walk.graph.constant(np.ones((shape[0], 1, *kernel), np.uint8), f"{node.name}.ones")
    zero = walk.graph.constant(np.array(codes.zero, np.uint8), "zero")
    kept = {name: given[name] for name in ("strides", "dilations") if name in given}
    name = walk.graph.node(
        "ConvInteger",
        [codes.name, ones, zero],
        stem=f"{node.output[0]}.total",
        group=shape[0],
        **kept,
    )
    count = int(np.prod(kernel))
    total = Sums(name, np.array(codes.exponent), np.array(255 * count))
    _times(walk, total, np.array(1 / count), node.output[0])


def keep(walk: Walk, node: onnx.NodeProto) -> None:
    """What moves or picks values and computes none: the same on bytes."""
    codes = walk.codes[node.input[0]]
    if node.op_type in ("Dropout", "Identity"):
        walk.codes[node.output[0]] = codes
        return
    rest = [integers(walk, name) for name in node.input[1:]]
    if node.op_type == "Pad":
        if len(node.input) > 2 and node.input[2] and np.any(walk.constant(node, node.input[2])):
            raise InputError(f"fixed point takes Pad with zeros, not {node.name}")
        rest[1:] = [walk.graph.constant(np.array(codes.zero, np.uint8), "zero")]
    name = walk.graph.node(
        node.op_type, [codes.name, *rest], stem=node.output[0], **attributes(node)
    )
    walk.codes[node.output[0]] = Codes(name, codes.exponent, codes.zero)


def integers(walk: Walk, name: str) -> str:
    """A value of the graph that is integers already: a shape, an axis, an index."""
    if name not in walk.constants:
        return name
    return walk.graph.constant(walk.constants[name], name)


def concat(walk: Walk, node: onnx.NodeProto) -> None:
    """Concat: every part is brought to the codes of the whole."""
    target = walk.target(node.output[0], wide=False)
    names = []
    for item in node.input:
        if item not in walk.codes:
            raise InputError(f"fixed point takes Concat of activations, not {node.name}")
        held = walk.codes[item]
        if (held.exponent, held.zero) != (target.exponent, target.zero):
            held = walk.graph.rounded(walk.sums(item), target, stem=f"{node.output[0]}.{item}")
        names.append(held.name)
    name = walk.graph.node("Concat", names, stem=node.output[0], axis=attributes(node)["axis"])
    walk.codes[node.output[0]] = Codes(name, target.exponent, target.zero)


def table(walk: Walk, node: onnx.NodeProto) -> None:
    """A function of one number: looked up for each of 256 bytes."""
    codes, target = walk.codes[node.input[0]], walk.target(node.output[0])
    numbers = np.ldexp(np.arange(256.0) - codes.zero, -codes.exponent).astype(np.float32)
    held = helper.make_tensor(node.input[0], TensorProto.FLOAT, [256], numbers)
    output = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [256])
    others = [
        numpy_helper.from_array(walk.constant(node, name), name) for name in node.input[1:] if name
    ]
    graph = helper.make_graph([node], "table", [], [output], [held, *others])
    model = helper.make_model(graph, opset_imports=walk.opsets, ir_version=10)
    values = constant_values(model)[node.output[0]]
    entries = rounded(np.ldexp(values.astype(np.float64), target.exponent))
    stored = entries.clip(target.low, target.high)
    stored = stored if target.wide else stored + target.zero
    kind = np.int16 if target.wide else np.uint8
    rows = walk.graph.constant(stored.astype(kind), f"{node.output[0]}.table")
    index = walk.graph.cast(codes.name, TensorProto.INT32, stem=f"{node.output[0]}.index")
    name = walk.graph.node("Gather", [rows, index], stem=node.output[0], axis=0)
    zero = 0 if target.wide else target.zero
    walk.codes[node.output[0]] = Codes(name, target.exponent, zero, wide=target.wide)


OPERATORS: dict[str, Operator] = {
    "Add": add,
    "AveragePool": average,
    "Clip": limit,
    "Concat": concat,
    "Conv": conv,
    "Div": multiply,
    "Dropout": keep,
    "Elu": table,
    "Flatten": keep,
    "Gelu": table,
    "Gemm": gemm,
    "GlobalAveragePool": mean,
    "HardSigmoid": table,
    "HardSwish": table,
    "Identity": keep,
    "LeakyRelu": table,
    "MatMul": matmul,
    "MaxPool": keep,
    "Mul": multiply,
    "Pad": keep,
    "ReduceMean": mean,
    "Relu": limit,
    "Reshape": keep,
    "Sigmoid": table,
    "Slice": keep,
    "Squeeze": keep,
    "Sub": add,
    "Tanh": table,
    "Transpose": keep,
    "Unsqueeze": keep,
}
