"""Small ONNX models to pack."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def laplace_codes(rows: int, columns: int, scale: float, seed: int = 0) -> np.ndarray:
    """Integers whose rows and columns differ in spread, like those of error feedback."""
    random = np.random.default_rng(seed)
    spread = np.exp(random.normal(size=(rows, 1)) * 0.3 + random.normal(size=(1, columns)) * 0.3)
    return np.round(random.normal(size=(rows, columns)) * spread * scale).astype(np.int32)


def build_model() -> onnx.ModelProto:
    """A model with every kind of initializer: codes, scales, halves, integers, a subgraph."""
    random = np.random.default_rng(1)
    arrays = {
        "codes": np.clip(laplace_codes(48, 40, 3.0), -127, 127).astype(np.int8),
        "zeros": np.zeros(96, np.int8),
        "bytes": random.integers(100, 156, (16, 24)).astype(np.uint8),
        "wide": laplace_codes(20, 30, 900.0).astype(np.int16),
        "conv": np.clip(laplace_codes(24, 27, 9.0), -127, 127).astype(np.int8).reshape(24, 3, 3, 3),
        "floats": random.normal(size=(13, 17)).astype(np.float32),
        "halves": random.normal(size=300).astype(np.float16).astype(np.float32),
        "palette": random.choice(np.float32([0.5, -1.25, 3e-5]), (30, 30)),
        "shape": np.array([1, -1, 384], np.int64),
        "long": np.arange(64, dtype=np.int64),
        "doubles": random.normal(size=40),
        "empty": np.zeros((0, 4), np.float32),
    }
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    listed = helper.make_tensor("listed", TensorProto.FLOAT, [50], np.linspace(0, 1, 50).tolist())
    low, high = laplace_codes(20, 15, 1.0) & 15, laplace_codes(20, 15, 1.0, 3) & 15
    packed = (low | high << 4).astype(np.uint8)
    nibbles = helper.make_tensor("nibbles", TensorProto.INT4, [20, 30], packed.tobytes(), raw=True)
    inner = numpy_helper.from_array(random.normal(size=80).astype(np.float32), "inner")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["b"], value=inner)],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [80])],
    )
    flag = numpy_helper.from_array(np.array(True), "flag")
    nodes = [
        helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch),
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [80])],
        initializer=[*initializers, listed, nibbles, flag],
    )
    return helper.make_model(graph)


@pytest.fixture(scope="session")
def model_bytes() -> bytes:
    return build_model().SerializeToString()


@pytest.fixture
def model_path(tmp_path: Path, model_bytes: bytes) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes)
    return path
