"""Runnable int8 files of ONNX Runtime's own quantizers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from benchmarks.models import Inputs
from benchmarks.opened import arrays


def stripped(original: Path, scratch: Path) -> Path:
    """The file without intermediate shapes, which are stale to ONNX Runtime's quantizers."""
    model = onnx.load(original)
    del model.graph.value_info[:]
    path = scratch / "stripped.onnx"
    onnx.save(model, path)
    return path


def ort_dynamic(original: Path, path: Path, *, scratch: Path) -> None:
    """`quantize_dynamic`, int8 weights per channel."""
    quantize_dynamic(
        stripped(original, scratch), path, per_channel=True, weight_type=QuantType.QInt8
    )


def ort_static(original: Path, path: Path, *, batches: Sequence[Inputs], scratch: Path) -> None:
    """`quantize_static`: QDQ, uint8 activations by min-max, int8 weights per channel.

    Of a model with products that have no weight only the products with one are quantized, and the
    lookups: everything else would destroy a transformer.
    """
    plain = stripped(original, scratch)
    graph = onnx.load(plain).graph
    held = {value.name for value in graph.initializer}
    nodes = [
        node.name
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
        or (node.op_type == "MatMul" and node.input[1] in held)
        or (node.op_type == "Gather" and node.input[0] in held)
    ]
    convolutions = any(node.op_type == "Conv" for node in graph.node)
    quantize_static(
        plain,
        path,
        _Batches(batches),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=None if convolutions else nodes,
    )


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Sequence[Inputs]) -> None:
        self.left = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.left, None)
        return None if batch is None else arrays(batch)
