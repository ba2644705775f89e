"""Small ONNX files, written by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

Dims = Sequence[int | str]


def weight(*shape: int, seed: int = 0, kind: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(kind)


def node(operator: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    """An operator; names are separated by blanks, "-" is an input left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(operator, names, outputs.split(), **attributes)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Dims],
    outputs: Sequence[str],
    *,
    weights: Mapping[str, np.ndarray],
    kinds: Mapping[str, int] | None = None,
    opset: int = 18,
) -> onnx.ModelProto:
    """A model whose inputs are floats unless `kinds` says otherwise."""
    known = kinds or {}
    float_kind = onnx.TensorProto.FLOAT
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(n, known.get(n, float_kind), d) for n, d in inputs.items()],
        [helper.make_tensor_value_info(n, known.get(n, float_kind), None) for n in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(made, opset_imports=imports, ir_version=9)


def written(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path
