"""What a model costs as a file: bytes and milliseconds, measured on its export."""

import tempfile
from pathlib import Path

import numpy as np

from lilliput.batches import flatten_inputs
from lilliput.runtime.onnx_export import Dynamic, export_original
from lilliput.runtime.processes import Worker
from lilliput.task import Task

CALLS = 30


def installed_bytes(task: Task) -> float:
    """Bytes of the model's ONNX export."""
    with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
        return float(_exported(task, Path(scratch)).stat().st_size)


def latency_ms(task: Task) -> float:
    """Median milliseconds of one example in ONNX Runtime, in a fresh process."""
    arrays = flatten_inputs(task.sample(1))
    with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
        path = _exported(task, Path(scratch))
        with Worker(path, threads=1) as worker:
            worker.milliseconds(arrays, 3)
            return float(np.median(worker.milliseconds(arrays, CALLS)))


def _exported(task: Task, folder: Path) -> Path:
    path = folder / "model.onnx"
    dynamic: Dynamic = {place: dims for place, dims in enumerate(task.varying()) if dims}
    export_original(task.model, task.sample(2), path, dynamic=dynamic)
    return path
