"""verify: the files are what the manifest says, and the two forms of the artifact are one."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lilliput.batches import flatten_inputs
from lilliput.coding import unpack
from lilliput.environment import RuntimeName
from lilliput.errors import ContainerError
from lilliput.folders import CODES, PACKED, RUNNABLE, file_entry, read_manifest
from lilliput.model.calls import run_with
from lilliput.model.encodings import Encoding
from lilliput.records import Artifact, Fidelity
from lilliput.runtime.fidelity import fidelity
from lilliput.runtime.fixed_processes import open_worker
from lilliput.runtime.processes import Worker
from lilliput.runtime.torch_processes import TorchWorker
from lilliput.task import Task


def verify_files(folder: Path, *, max_bytes: int = 4 * 2**30) -> Artifact:
    """Checks every shipped file against the manifest, and the packed file against the runnable.

    Args:
        folder: Output folder of a run.
        max_bytes: The packed file may not unpack to more.

    Returns:
        The manifest.

    Raises:
        OutputError: The folder holds no manifest.
        ContainerError: A file is missing or changed, or the packed file unpacks to something else
            than the runnable one.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise ContainerError(f"{name} is missing", "copy the folder again, whole")
        if file_entry(path) != entry:
            raise ContainerError(f"{name} is not the file that the manifest describes")
    if PACKED in manifest.files:
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = unpack(folder / PACKED, Path(scratch) / "unpacked", max_bytes=max_bytes)
            found = {path.name: file_entry(path) for path in unpacked}
        runnable = RUNNABLE if manifest.kind == "onnx" else CODES
        if found.get(runnable) != manifest.files.get(runnable):
            raise ContainerError(f"{PACKED} does not unpack to {runnable}")
    return manifest


def verify_answers(
    folder: Path,
    task: Task,
    *,
    encodings: Mapping[str, Encoding],
    subset: Sequence[int],
    batch_size: int = 32,
    runtime: RuntimeName = "onnxruntime",
) -> Fidelity:
    """How well the artifact, in the runtime's default session, answers as PyTorch does.

    Args:
        folder: Folder with the runnable file.
        task: The task; its model is run with the encoded weights in place of its own.
        encodings: Parameter -> what became of it.
        subset: Examples, by their places in the task; search examples.
        batch_size: Examples per call.
        runtime: What opens an ONNX file.
    """
    replaced = {name: encoding.decode() for name, encoding in encodings.items()}

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with _open(folder, task, runtime) as worker:
            for batch in task.batches(subset, batch_size):
                raw = run_with(task.model, replaced, batch.inputs, run=task.run)
                answer = worker.run(flatten_inputs(batch.inputs))[task.output_index(raw)]
                yield task.pick(raw).float().numpy(), answer

    return fidelity(pairs())


def _open(folder: Path, task: Task, runtime: RuntimeName) -> Worker:
    manifest = read_manifest(folder)
    if manifest.kind == "onnx":
        return open_worker(folder / RUNNABLE, manifest, runtime=runtime)
    return TorchWorker(folder / CODES, task.model, inputs=task.sample(1))
