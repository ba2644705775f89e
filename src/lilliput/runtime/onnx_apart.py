"""Products of integers kept apart from what reads them, so that ONNX Runtime computes on integers.

It fuses before it looks for integers: a product of two axes with the addition behind it to a Gemm,
a Gemm with its activation; and it takes none, of any axes, that a rectifier alone reads. What it
missed dequantizes its weight at every call and multiplies floats: half as fast as the original.
A subtraction it fuses with nothing, and OpenVINO reads one as the addition of the negative.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from lilliput.runtime.onnx_clean import array_of
from lilliput.runtime.onnx_edit import Editor
from lilliput.runtime.onnx_int8 import is_plain

_RECTIFIERS = frozenset({"Relu", "Clip"})


def set_apart(model: ir.Model, editor: Editor) -> None:
    """Writes products by dequantized weights so that nothing behind them is fused with them.

    A plain Gemm becomes a MatMul by (in, out), and its bias is subtracted, negated: equal numbers.
    One whose integers are stored (out, in) and are read elsewhere too, as those of a table that is
    also the last layer, stays as it is.
    """
    products = {
        node: outputs
        for weight in model.graph.all_nodes()
        if weight.op_type == "DequantizeLinear"
        for node, outputs in _products(weight)
    }
    axes = _axes(model) if any(_reader(node) == "Add" for node in products) else {}
    for node, outputs in products.items():
        fused = _is_fused(node, axes)
        if fused or node.op_type == "Gemm":
            _rewrite(editor, node, none=np.zeros(outputs, np.float32) if fused else None)


def _products(weight: ir.Node) -> Iterator[tuple[ir.Node, int]]:
    """Products by a dequantized weight, laid (in, out), and their outputs; none if it cannot be."""
    codes, uses = weight.inputs[0], weight.outputs[0].uses()
    nodes = [use.node for use in uses if use.idx == 1 and is_plain(use.node)]
    if codes is None or not codes.is_initializer() or len(nodes) < len(uses):
        return
    turned = {bool(node.attributes.get_int("transB", 0)) for node in nodes}
    if turned == {True} and len(codes.uses()) == 1:
        _turn(weight, codes)
        for node in nodes:
            node.attributes["transB"] = ir.AttrInt64("transB", 0)
    elif turned != {False}:
        return
    yield from ((node, array_of(codes).shape[1]) for node in nodes)


def _turn(weight: ir.Node, codes: ir.Value) -> None:
    array = np.ascontiguousarray(array_of(codes).T)
    codes.const_value, codes.shape = ir.tensor(array, name=codes.name), ir.Shape(array.shape)
    axis = weight.attributes.get_int("axis", 1)
    weight.attributes["axis"] = ir.AttrInt64("axis", 1 - axis)


def _reader(node: ir.Node) -> str | None:
    """The operator that alone reads what a node gives."""
    value = node.outputs[0]
    uses = list(value.uses())
    return uses[0].node.op_type if len(uses) == 1 and not value.is_graph_output() else None


def _is_fused(node: ir.Node, axes: Mapping[str, int]) -> bool:
    """Whether ONNX Runtime takes a product together with its reader."""
    reader = _reader(node)
    if reader == "Add":
        return axes.get(node.outputs[0].name or "", 2) == 2
    return reader in _RECTIFIERS


def _axes(model: ir.Model) -> dict[str, int]:
    """How many axes values have, by name, where that can be told."""
    graph = onnx.shape_inference.infer_shapes(ir.to_proto(model)).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in graph.value_info
        if value.type.tensor_type.HasField("shape")
    }


def _rewrite(editor: Editor, node: ir.Node, *, none: np.ndarray | None) -> None:
    """MatMul, less the negative bias; less `none` where there is no bias."""
    source, weight = node.inputs[:2]
    if source is None or weight is None:
        return
    product = editor.node(node, "MatMul", [source, weight])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and bias.is_initializer():
        negative = editor.constant(f"{bias.name}.negative", -array_of(bias))
        product = editor.node(node, "Sub", [product, negative])
    elif bias is not None:
        product = editor.node(node, "Sub", [product, editor.node(node, "Neg", [bias])])
    elif none is not None:
        product = editor.node(node, "Sub", [product, editor.constant("no.bias", none)])
    editor.substitute(node, product)
