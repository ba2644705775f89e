"""ONNX's integer operators in NumPy, number by number: what the runtimes are held against.

Everything is computed in 64 bits; a value that its declared type cannot hold is an error.
"""

import itertools

import numpy as np
import onnx
from onnx import helper, numpy_helper

TYPES = {name: np.dtype(name) for name in ("uint8", "int8", "int16", "int32", "int64")}


def run(model: onnx.ModelProto, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs of an integer graph."""
    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values |= {port.name: a for port, a in zip(graph.input, arrays, strict=True)}
    for node in graph.node:
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = [values[name] if name else None for name in node.input]
        assert all(a is None or a.dtype in TYPES.values() for a in inputs), node
        values[node.output[0]] = OPERATORS[node.op_type](*inputs, **given)
    return [values[port.name] for port in graph.output]


def held(array: np.ndarray, kind: type = np.int32) -> np.ndarray:
    limits = np.iinfo(kind)
    assert array.size == 0 or (array.min() >= limits.min and array.max() <= limits.max), "overflow"
    return array.astype(kind)


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64)


def elementwise(function):
    return lambda a, b: held(function(wide(a), wide(b)), a.dtype)


def divided(a, b):
    assert np.all(a >= 0) and np.all(b > 0)  # then C, Python and a shift agree
    assert np.all(b & (b - 1) == 0), "no power of two"
    return held(wide(a) >> np.log2(b).astype(np.int64), a.dtype)


def product(a, b, zero_a=0, zero_b=0):
    return held((wide(a) - int(zero_a)) @ (wide(b) - int(zero_b)))


def convolution(x, w, zero_x=0, zero_w=0, *, pads=None, strides=None, group=1, **rest):
    axes = x.ndim - 2
    pads, strides = pads or [0] * 2 * axes, strides or [1] * axes
    dilations = rest.get("dilations", [1] * axes)
    x, w = wide(x) - int(zero_x), wide(w) - int(zero_w)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])
    spans = [(k - 1) * d for k, d in zip(w.shape[2:], dilations, strict=True)]
    sizes = [(n - s - 1) // t + 1 for n, s, t in zip(x.shape[2:], spans, strides, strict=True)]
    y = np.zeros((len(x), len(w), *sizes), np.int64)
    each_in, each_out = w.shape[1], len(w) // group
    for channel, tap in itertools.product(range(len(w)), np.ndindex(*w.shape[2:])):
        start = channel // each_out * each_in
        places = tuple(
            slice(p * d, p * d + (n - 1) * s + 1, s)
            for p, d, n, s in zip(tap, dilations, sizes, strides, strict=True)
        )
        window = x[(slice(None), slice(start, start + each_in), *places)]
        y[:, channel] += np.einsum("nc...,c->n...", window, w[(channel, slice(None), *tap)])
    return held(y)


def largest(x, *, kernel_shape, strides=None, pads=None, **rest):
    strides, pads = strides or [1, 1], pads or [0, 0, 0, 0]
    assert x.dtype == np.uint8 and set(rest.get("dilations", [1])) == {1}
    x = np.pad(x, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])  # 0 is the smallest
    sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel_shape, strides, strict=True)]
    y = np.zeros((*x.shape[:2], *sizes), np.uint8)
    for i, j in np.ndindex(*sizes):
        rows = slice(i * strides[0], i * strides[0] + kernel_shape[0])
        columns = slice(j * strides[1], j * strides[1] + kernel_shape[1])
        y[:, :, i, j] = x[:, :, rows, columns].max((2, 3))
    return y


def cut(x, starts, ends, axes, steps=None):
    places = [slice(None)] * x.ndim
    steps = np.ones_like(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places[axis] = slice(start, end, step)
    return x[tuple(places)]


def reshaped(x, shape, *, allowzero=0):
    return x.reshape([x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(shape)])


OPERATORS = {
    "Add": elementwise(np.add),
    "Cast": lambda a, *, to: held(wide(a), helper.tensor_dtype_to_np_dtype(to)),
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "ConvInteger": convolution,
    "Div": divided,
    "Flatten": lambda x, *, axis=1: x.reshape(int(np.prod(x.shape[:axis])), -1),
    "Gather": lambda x, index, *, axis=0: np.take(x, index, axis),
    "MatMulInteger": product,
    "Max": elementwise(np.maximum),
    "MaxPool": largest,
    "Min": elementwise(np.minimum),
    "Mul": elementwise(np.multiply),
    "ReduceSum": lambda x, axes, *, keepdims=1: held(
        wide(x).sum(tuple(map(int, axes)), keepdims=bool(keepdims))
    ),
    "Reshape": reshaped,
    "Slice": cut,
    "Squeeze": lambda x, axes: np.squeeze(x, tuple(map(int, axes))),
    "Sub": elementwise(np.subtract),
    "Transpose": lambda x, *, perm: x.transpose(perm),
    "Unsqueeze": lambda x, axes: np.expand_dims(x, tuple(map(int, axes))),
}
