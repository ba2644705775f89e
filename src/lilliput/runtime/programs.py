"""One door to every runtime that opens an ONNX file. Never imports torch nor code of the user's."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lilliput.environment import RuntimeName


class Program(Protocol):
    """An opened artifact."""

    def __call__(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """All outputs for one batch of inputs, both in the model's flattened order."""
        ...


@dataclass(frozen=True)
class Opened:
    """A program, and what its runtime does with floating point.

    Attributes:
        program: Runs one batch.
        precision: The type that the runtime computes float32 parts of the file in.
    """

    program: Program
    precision: str


def open_onnx(path: str, *, runtime: RuntimeName, threads: int = 0) -> Opened:
    """Opens an ONNX file as an app does that sets nothing but the number of threads.

    Args:
        path: The file.
        runtime: Which runtime; its package is imported here and not before.
        threads: Threads inside one operator; 0 leaves the choice to the runtime.

    Raises:
        ContainerError: The runtime cannot open the file.
    """
    if runtime == "openvino":
        return _open_openvino(path, threads)
    return _open_onnxruntime(path, threads)


def _open_onnxruntime(path: str, threads: int) -> Opened:
    from lilliput.runtime.sessions import default_session

    session = default_session(path, threads)
    names = [value.name for value in session.get_inputs()]

    def program(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return list(session.run(None, dict(zip(names, arrays, strict=True))))

    return Opened(program, "float32")


def _open_openvino(path: str, threads: int) -> Opened:
    from lilliput.runtime.compiled import compile_default, float_precision, run_compiled

    model = compile_default(path, threads)

    def program(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return run_compiled(model, arrays)

    return Opened(program, float_precision(model))
