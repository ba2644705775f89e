"""OpenVINO as a user's app opens it: the default compiled model on the CPU. Never imports torch."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino

from lilliput.errors import ContainerError

_NOISE = re.compile(r"Exception from .*|Check '.*|FrontEnd API failed.*|Summary:")

_TYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def compile_default(path: Path | str, threads: int = 0) -> openvino.CompiledModel:
    """Reads and compiles an ONNX file with the runtime's defaults.

    Nothing but the thread count is set. Inference precision is the processor's default too: where
    it multiplies bfloat16 in hardware, OpenVINO computes float32 graphs in bfloat16.

    Args:
        path: The file.
        threads: Threads of one inference; 0 leaves the choice to the runtime.

    Raises:
        ContainerError: The runtime cannot open the file.
    """
    settings = {"INFERENCE_NUM_THREADS": threads} if threads else {}
    try:
        return openvino.Core().compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        said = _said(error).replace(str(path), Path(path).name)
        raise ContainerError(f"OpenVINO cannot open the file: {said}") from error


def run_compiled(model: openvino.CompiledModel, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All outputs of one batch, in the order of the graph; each output is copied.

    Args:
        model: From `compile_default`.
        arrays: Inputs in the order of the graph.

    Raises:
        ContainerError: The runtime cannot run the file on this batch.
    """
    try:
        return list(model(list(arrays)).to_tuple())
    except RuntimeError as error:
        raise ContainerError(f"OpenVINO cannot run the file: {_said(error)}") from error


def float_precision(model: openvino.CompiledModel) -> str:
    """The type in which the compiled model computes float32 parts: ``float32``, ``bfloat16``..."""
    name = model.get_property("INFERENCE_PRECISION_HINT").to_string()
    return _TYPES.get(name, str(name))


def _said(error: RuntimeError) -> str:
    """OpenVINO's message without the places in its source, in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = " ".join(line for line in lines if line and not _NOISE.fullmatch(line))
    return (told or str(error).strip())[:300]
