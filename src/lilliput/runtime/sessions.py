"""ONNX Runtime as a user's app opens it: the default session on the CPU. Never imports torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from lilliput.errors import ContainerError, TaskError

_QUIET = 3  # errors only


def default_session(
    path: Path | str | bytes, threads: int = 0, *, trace: Path | None = None
) -> onnxruntime.InferenceSession:
    """Opens an ONNX file in the runtime's default session.

    Nothing but the thread count and the log level is set: graph optimisations, fusions and memory
    arena are what an app gets that sets nothing.

    Args:
        path: The file, or its bytes.
        threads: Threads inside one operator; 0 leaves the choice to the runtime.
        trace: Start of the name of a file for the runtime's profile; None for none.

    Raises:
        ContainerError: The runtime cannot open the file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    if threads:
        options.intra_op_num_threads = threads
    if trace is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(trace)
    return session(path if isinstance(path, bytes) else str(path), options)


def session(
    source: str | bytes, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """Opens an ONNX file, or its bytes, on the CPU.

    Raises:
        ContainerError: The runtime cannot open the file.
    """
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except _ERRORS as error:
        first = str(error).strip().splitlines()[0]
        raise ContainerError(f"ONNX Runtime cannot open the file: {first[:300]}") from error


def run_session(
    session: onnxruntime.InferenceSession,
    feed: Mapping[str, np.ndarray],
    *,
    names: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """All outputs, or those named, of one call.

    Raises:
        TaskError: The graph does not run on these inputs.
    """
    try:
        return list(session.run(names, dict(feed)))
    except _CALL_ERRORS as error:
        first = str(error).strip().splitlines()[0]
        shapes = ", ".join(f"{name} {value.shape}" for name, value in feed.items())
        raise TaskError(
            f"ONNX Runtime cannot run the graph on {shapes[:200]}: {first[:300]}",
            "do the examples have the shapes and values that the model expects?",
        ) from error


def _errors() -> tuple[type[Exception], ...]:
    state = onnxruntime.capi.onnxruntime_pybind11_state
    names = ["Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile"]
    names += ["NotImplemented", "RuntimeException", "ModelLoadCanceled", "EPFail"]
    return tuple(getattr(state, name) for name in names if hasattr(state, name))


_ERRORS = _errors()
_CALL_ERRORS: tuple[type[Exception], ...] = (*_ERRORS, ValueError)
