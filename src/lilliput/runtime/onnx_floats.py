"""Convolutions that stay float between integers, written so that ONNX Runtime leaves them so.

Where a convolution reads rounded values and its result is rounded, ONNX Runtime rounds its float
weight too, with one step for all rows: channels of small weights are lost. It does so only where
nothing but a rectifier stands between convolution and rounding, and a subtraction it fuses with
neither.
"""

import numpy as np
import onnx_ir as ir

from lilliput.runtime.onnx_clean import array_of
from lilliput.runtime.onnx_edit import Editor


def keep_float(editor: Editor) -> None:
    """The bias of such a convolution is subtracted behind it, negated: equal numbers."""
    for node in [node for node in editor.graph if node.op_type == "Conv"]:
        source, weight = node.inputs[:2]
        if source is None or weight is None or not weight.is_initializer():
            continue
        if _maker(source) == "DequantizeLinear":
            _move_bias(editor, node, source, weight)


def _maker(value: ir.Value) -> str | None:
    """The operator that a value comes from."""
    node = value.producer()
    return None if node is None else node.op_type


def _move_bias(editor: Editor, node: ir.Node, source: ir.Value, weight: ir.Value) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not bias.is_initializer():
        return
    kernel = array_of(weight)
    values = np.zeros(len(kernel), kernel.dtype) if bias is None else array_of(bias)
    laid = -values.reshape(-1, *[1] * (kernel.ndim - 2))
    negative = editor.constant(f"{weight.name}.bias.negative", laid)
    product = editor.node(node, "Conv", [source, weight], node.attributes)
    editor.substitute(node, editor.node(node, "Sub", [product, negative]))
