"""Runnable int8 files: ONNX Runtime's own quantizers, and how fast and how close a file is."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from torch import Tensor

from benchmarks.models import Inputs

CALIBRATION_BATCHES = 4
ROUNDS = 15
Runner = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def stripped(original: Path, scratch: Path) -> Path:
    """The file without intermediate shapes, which are stale to ONNX Runtime's quantizers."""
    model = onnx.load(original)
    del model.graph.value_info[:]
    path = scratch / "stripped.onnx"
    onnx.save(model, path)
    return path


def ort_dynamic(original: Path, path: Path, scratch: Path) -> None:
    """`quantize_dynamic`, int8 weights per channel."""
    quantize_dynamic(
        stripped(original, scratch), path, per_channel=True, weight_type=QuantType.QInt8
    )


def ort_static(original: Path, path: Path, scratch: Path, *, batches: Sequence[Inputs]) -> None:
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
        if node.op_type in ("Conv", "Gemm") or (node.op_type == "MatMul" and node.input[1] in held)
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
        self.left = iter(batches[:CALIBRATION_BATCHES])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.left, None)
        return None if batch is None else arrays(batch)


def arrays(batch: Inputs) -> dict[str, np.ndarray]:
    """A batch as NumPy."""
    return {name: value.numpy() for name, value in batch.items()}


def in_onnxruntime(path: Path, threads: int = 1) -> Runner:
    """The file in ONNX Runtime's default session, its first output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run(None, dict(inputs))[0])


def in_openvino(path: Path, threads: int = 1) -> Runner:
    """The file in OpenVINO, floats as float32, its first output."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda inputs: np.asarray(request.infer(dict(inputs))[0]).copy()


RUNTIMES: dict[str, Callable[[Path], Runner]] = {
    "onnxruntime": in_onnxruntime,
    "openvino": in_openvino,
}


def answers(run: Runner, batches: Sequence[Inputs]) -> Tensor:
    """First outputs on all batches, (N, k)."""
    return torch.cat([torch.from_numpy(run(arrays(batch))) for batch in batches])


def speedups(before: Runner, after: Runner, batch: Inputs) -> tuple[float, float, float]:
    """How many times faster, in turns on one batch: median and quartiles of the rounds' ratios."""
    inputs = arrays(batch)
    for run in (before, after):
        run(inputs)
    ratios = list(_ratios(before, after, inputs))
    low, _, high = quantiles(ratios, n=4)
    return median(ratios), low, high


def _ratios(before: Runner, after: Runner, inputs: Mapping[str, np.ndarray]) -> Iterator[float]:
    for _ in range(ROUNDS):
        times = []
        for run in (before, after):
            started = time.perf_counter()
            run(inputs)
            times.append(time.perf_counter() - started)
        yield times[0] / times[1]
