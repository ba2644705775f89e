"""Convolutions and matrix products of bytes, exact on every processor.

Weights are int8 in the file and bytes with zero point 128 in the product: kernels for bytes times
bytes add up in 32 bits everywhere, those for bytes times int8 saturate on processors without VNNI.
"""

import numpy as np
import onnx
from onnx import TensorProto

from lilliput.errors import InputError
from lilliput.runtime.fixed_graph import Codes, Sums
from lilliput.runtime.fixed_walk import Walk, attributes
from lilliput.tensor.fixed import fixed_codes, rounded, weight_exponents

BITS = 8
_ZERO = 128
_ROOM = 2**30  # of int32, for products and bias each


def conv(walk: Walk, node: onnx.NodeProto) -> None:
    """Conv, of any rank and with any groups; the channels are the second axis."""
    given = attributes(node)
    if given.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise InputError(f"fixed point takes Conv with explicit padding, not {node.name}")
    weight = walk.constant(node, node.input[1])  # (out, in / groups, ...)
    bias = walk.constant(node, node.input[2]) if len(node.input) > 2 else np.zeros(len(weight))
    _multiply(
        walk, node, weight.reshape(len(weight), -1), bias=bias,
        shape=weight.shape, given=given, name=node.output[0],
    )  # fmt: skip


def gemm(walk: Walk, node: onnx.NodeProto) -> None:
    """Gemm with the activation first, not transposed and not scaled."""
    given = attributes(node)
    if given.get("transA") or given.get("alpha", 1) != 1 or given.get("beta", 1) != 1:
        raise InputError(f"fixed point takes Gemm that scales and turns nothing, not {node.name}")
    weight = walk.constant(node, node.input[1])
    weight = weight if given.get("transB") else weight.T  # (out, in)
    bias = np.zeros(len(weight))
    if len(node.input) > 2 and node.input[2]:
        bias = np.broadcast_to(walk.constant(node, node.input[2]).reshape(-1), len(weight))
    _multiply(walk, node, weight, bias=bias, shape=None, given={}, name=node.output[0])


def matmul(walk: Walk, node: onnx.NodeProto) -> None:
    """MatMul by a constant matrix, together with the bias that is added to it alone."""
    weight = walk.constant(node, node.input[1])
    if weight.ndim != 2:
        raise InputError(f"fixed point takes MatMul by a constant matrix, not {node.name}")
    name, bias = node.output[0], np.zeros(weight.shape[1])
    added = walk.next(name)
    if added is not None and added.op_type == "Add":
        other = next(item for item in added.input if item != name)
        values = walk.constants.get(other)
        if values is not None and values.size in (1, len(bias)) and values.shape[-1:] != ():
            bias = np.broadcast_to(values.reshape(-1), len(bias))
            name = added.output[0]
            walk.done.add(name)
    _multiply(walk, node, weight.T, bias=bias, shape=None, given={}, name=name)


def _multiply(
    walk: Walk,
    node: onnx.NodeProto,
    weight: np.ndarray,
    *,
    bias: np.ndarray,
    shape: tuple[int, ...] | None,
    given: dict[str, object],
    name: str,
) -> None:
    """Rounds weight (out, in) and bias (out,), multiplies, and rounds the sums to codes."""
    codes = walk.codes[node.input[0]]
    final, target = walk.finish(name)
    most = target.exponent - codes.exponent + target.most_shift
    exponents, weights = _weight_codes(weight, bias, codes, most)
    offset = rounded(np.ldexp(bias.astype(np.float64), codes.exponent + exponents))
    bound = np.abs(weights).sum(1) * (255 - codes.zero if codes.zero < 128 else 128)
    laid = weights.T if shape is None else weights.reshape(shape)
    operator = "MatMulInteger" if shape is None else "ConvInteger"
    wide = (-1,) if shape is None else (-1, *(1 for _ in shape[2:]))  # channels of the output
    inputs = [codes.name, _as_bytes(walk, laid.astype(np.int8), node.input[1])]
    inputs += [walk.graph.constant(np.array(z, np.uint8), "zero") for z in (codes.zero, _ZERO)]
    product = walk.graph.node(operator, inputs, stem=f"{final}.product", **given)
    sums = Sums(product, (codes.exponent + exponents).reshape(wide), bound.reshape(wide))
    walk.codes[final] = walk.graph.rounded(sums, target, stem=final, offset=offset.reshape(wide))


def _weight_codes(
    weight: np.ndarray, bias: np.ndarray, codes: Codes, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Exponent per row, (out,), and codes (out, in), such that int32 never overflows.

    A row already on a power-of-two grid of at most `BITS` bits keeps its values exactly.
    """
    exponents = np.minimum(weight_exponents(np.abs(weight).max(1, initial=0), BITS), most)
    while True:
        found = fixed_codes(weight, exponents[:, None], bits=BITS)
        sums = np.abs(found).sum(1) * 255.0
        offsets = np.abs(np.ldexp(bias.astype(np.float64), codes.exponent + exponents))
        large = (sums > _ROOM) | (offsets > _ROOM / 2)
        if not large.any():
            return exponents, found
        exponents = exponents - large


def _as_bytes(walk: Walk, weights: np.ndarray, stem: str) -> str:
    """int8 weights plus 128; the runtime computes that once, when it opens the file."""
    held = walk.graph.constant(weights, f"{stem}.codes")
    wide = walk.graph.cast(held, TensorProto.INT32, stem=f"{stem}.wide")
    zero = walk.graph.constant(np.array(_ZERO, np.int32), "zero")
    raised = walk.graph.node("Add", [wide, zero], stem=f"{stem}.raised")
    return walk.graph.cast(raised, TensorProto.UINT8, stem=f"{stem}.bytes")
