"""Files opened in a runtime: what they answer, and how fast, in turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import onnxruntime
import openvino
import torch
from torch import Tensor

from benchmarks.models import Inputs
from lilliput.runtime.compiled import compile_default, float_precision

ROUNDS = 15
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Opened:
    """A file that is open in a runtime.

    Attributes:
        run: Inputs by name -> the first output.
        floats_as: The type in which the runtime computes float32 parts.
    """

    run: Callable[[Arrays], np.ndarray]
    floats_as: str


def in_onnxruntime(path: Path, threads: int = 1) -> Opened:
    """The file in ONNX Runtime's default session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Opened(lambda inputs: np.asarray(session.run(None, dict(inputs))[0]), "float32")


def in_openvino(path: Path, threads: int = 1) -> Opened:
    """The file in OpenVINO as it compiles by default; some processors get bfloat16 floats."""
    return _compiled(compile_default(path, threads))


def in_openvino_float32(path: Path, threads: int = 1) -> Opened:
    """The file in OpenVINO, float32 parts computed in float32."""
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    return _compiled(openvino.Core().compile_model(str(path), "CPU", settings))


def _compiled(model: openvino.CompiledModel) -> Opened:
    request = model.create_infer_request()
    return Opened(
        lambda inputs: np.asarray(request.infer(dict(inputs))[0]).copy(), float_precision(model)
    )


RUNTIMES: dict[str, Callable[[Path, int], Opened]] = {
    "onnxruntime": in_onnxruntime,
    "openvino": in_openvino,
}


def arrays(batch: Inputs) -> dict[str, np.ndarray]:
    """A batch as NumPy."""
    return {name: value.numpy() for name, value in batch.items()}


def answers(opened: Opened, batches: Sequence[Inputs]) -> Tensor:
    """First outputs on all batches, (N, k)."""
    return torch.cat([torch.from_numpy(opened.run(arrays(batch))) for batch in batches])


def seconds_in_turns(
    opened: Mapping[str, Opened], batch: Inputs, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each of them on one batch, one call per round.

    Every other round goes the other way, so that what else the machine does hits all alike.

    Args:
        opened: By name.
        batch: What they are given.
        clock: `time.process_time` for what the processor spends, which on a busy machine is fairer
            to calls so long that others come in between.
    """
    inputs = arrays(batch)
    found: dict[str, list[float]] = {name: [] for name in opened}
    for each in opened.values():
        each.run(inputs)
    for turn in range(ROUNDS):
        for name in list(opened)[:: 1 if turn % 2 == 0 else -1]:
            started = clock()
            opened[name].run(inputs)
            found[name].append(clock() - started)
    return found


def times_faster(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """Median and quartiles of the rounds' ratios of seconds."""
    ratios = [a / b for a, b in zip(before, after, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return median(ratios), low, high
