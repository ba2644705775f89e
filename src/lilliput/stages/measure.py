"""measure: what both files answer and what they cost, in fresh processes."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lilliput.batches import Batch, flatten_inputs
from lilliput.environment import cores
from lilliput.errors import InternalError
from lilliput.evidence import Evidence
from lilliput.folders import CODES, PACKED, RUNNABLE, read_manifest
from lilliput.metrics import Metric, predicted_classes, score_rows
from lilliput.progress import Progress, unseen
from lilliput.records import Latency, Measurement, Sizes
from lilliput.runtime.interleaved import (
    Opener,
    latency_turns,
    memory_turns,
    percentiles,
    write_one_addition,
)
from lilliput.runtime.onnx_count import count_macs, count_parameters
from lilliput.runtime.processes import Worker
from lilliput.runtime.torch_processes import TorchWorker
from lilliput.runtime.weights_file import write_weights
from lilliput.statistics import ratio_bound
from lilliput.task import Task, evaluating


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under what conditions is measured.

    Attributes:
        batch: Examples per call for latency and memory, at least 1.
        threads: Threads inside one operator; 0 means all physical cores, the runtime's default.
        scoring_batch: Examples per call while scoring.
        seconds: About how long latency is measured.
        memory_rounds: Fresh processes per file; five are the fewest that allow a 95 % bound.
        timeout: Seconds that one batch may take.
    """

    batch: int = 1
    threads: int = 0
    scoring_batch: int = 32
    seconds: float = 10
    memory_rounds: int = 5
    timeout: float = 600

    @property
    def stated_threads(self) -> int:
        """The number of threads that is used and reported."""
        return self.threads or cores()


def measure(
    original: Path,
    folder: Path,
    *,
    task: Task,
    proof: Sequence[int],
    conditions: Conditions | None = None,
    progress: Progress = unseen,
) -> tuple[Measurement, Evidence | None]:
    """Scores, sizes, memory and latency of the original's ONNX export and of the artifact.

    Args:
        original: The original's ONNX export; on the weights-only path its weights, as
            `write_weights` wrote them.
        folder: Folder of the artifact, with its manifest.
        task: Examples and metric.
        proof: Examples that judge, by their places in the task.
        conditions: Batch size, threads, effort.
        progress: Told the stage, steps done and steps in all.

    Returns:
        The measurement, and the rows of both files on the same examples; None without examples.

    Raises:
        ContainerError: The runtime cannot open a file.
        InternalError: A process died or did not answer in time.
        TaskError: The metric does not fit the examples.
    """
    conditions = conditions or Conditions()
    manifest = read_manifest(folder)
    paths = (original, folder / (RUNNABLE if manifest.kind == "onnx" else CODES))
    batch = typical_batch(task, proof, size=conditions.batch)
    with tempfile.TemporaryDirectory() as scratch:
        start, empty = _starters(manifest.kind, task, conditions, Path(scratch))
        openers = partial(start, paths[0]), partial(start, paths[1])
        with openers[0]() as before, openers[1]() as after:
            scores, evidence = _score((before, after), task, proof, conditions, progress)
            progress("latency", 0, 1)
            latency = latency_turns((before, after), batch, seconds=conditions.seconds)
        progress("memory", 0, 1)
        memory = memory_turns(openers, batch, empty, rounds=conditions.memory_rounds)
    single = typical_batch(task, proof, size=1) if manifest.kind == "onnx" else None
    costs = [
        _costs(latency.original, memory.original, conditions),
        _costs(latency.artifact, memory.artifact, conditions),
    ]
    costs[1]["storage_bytes"] = (folder / PACKED).stat().st_size
    sizes = [
        _sizes(path, score, single).model_copy(update=cost)
        for path, score, cost in zip(paths, scores, costs, strict=True)
    ]
    measurement = Measurement(
        original=sizes[0],
        artifact=sizes[1],
        latency_ratio=ratio_bound(latency.ratios),
        memory_ratio=ratio_bound(memory.ratios),
    )
    return measurement, evidence


def _starters(
    kind: str, task: Task, conditions: Conditions, scratch: Path
) -> tuple[Callable[[Path], Worker], tuple[Opener, Sequence[np.ndarray]]]:
    """How to start a process with a file, and one with next to nothing to run."""
    threads, timeout = conditions.stated_threads, conditions.timeout
    empty = scratch / "empty.onnx"
    if kind == "onnx":
        start = partial(Worker, threads=threads, timeout=timeout)
        return start, (partial(start, empty), write_one_addition(empty))
    write_weights({}, {}, empty)
    torch_start = partial(
        TorchWorker, model=task.model, inputs=task.sample(1), threads=threads, timeout=timeout
    )
    one = torch.ones(1)
    nothing = partial(torch_start, empty, model=nn.Identity(), inputs=one)
    return torch_start, (nothing, [one.numpy()])


def _score(
    workers: tuple[Worker, Worker],
    task: Task,
    proof: Sequence[int],
    conditions: Conditions,
    progress: Progress,
) -> tuple[tuple[float, float] | tuple[None, None], Evidence | None]:
    """Runs both files over the proof examples; one batch is in memory at a time."""
    if not len(proof):
        return (None, None), None
    metric: Metric | None = None
    answers = _Answers()
    place = output_place(task, proof)
    batches, steps = task.batches(proof, conditions.scoring_batch), len(proof)
    for done, (batch, outputs) in enumerate(_both(workers, batches, place)):
        progress("measure", done * conditions.scoring_batch, steps)
        metric = metric or task.resolve_metric(outputs[0])
        answers.add(metric, batch, outputs, task)
    if metric is None:
        raise InternalError(f"the task made no batch of {len(proof)} proof examples")
    evidence = answers.evidence(task.proof_hash(proof))
    before, after = metric.aggregate(evidence.original), metric.aggregate(evidence.artifact)
    return (float(before), float(after)), evidence


def output_place(task: Task, proof: Sequence[int]) -> int:
    """Which of the file's outputs is scored; read off one call of the model itself."""
    first = next(iter(task.batches(proof[:1], 1)))
    with evaluating(task.model), torch.no_grad():
        return task.output_index(task.run(task.model, first.inputs))


def _both(
    workers: tuple[Worker, Worker], batches: Iterator[Batch], place: int
) -> Iterator[tuple[Batch, tuple[Tensor, Tensor]]]:
    for batch in batches:
        arrays = flatten_inputs(batch.inputs)
        before, after = (torch.from_numpy(worker.run(arrays)[place].copy()) for worker in workers)
        yield batch, (before, after)


class _Answers:
    """Rows, classes and labels of both files, batch by batch."""

    def __init__(self) -> None:
        self._rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self._classes: tuple[list[np.ndarray | None], list[np.ndarray | None]] = ([], [])
        self._labels: list[str | None] = []
        self._indices: list[np.ndarray] = []
        self._groups: list[np.ndarray] = []

    def add(self, metric: Metric, batch: Batch, outputs: tuple[Tensor, Tensor], task: Task) -> None:
        """Scores one batch of outputs of (original, artifact)."""
        labelled = metric.reference == "targets"
        targets = batch.targets if labelled else outputs[0]
        for rows, classes, output in zip(self._rows, self._classes, outputs, strict=True):
            rows.append(score_rows(metric, output, targets, mask=batch.mask))
            classes.append(predicted_classes(output))
        answered = self._classes[0][-1]
        known: list[object] = [None] * len(batch)
        if answered is not None:
            known = list(batch.targets if labelled else answered)
        self._labels += [task.label_text(label) for label in known]
        self._indices.append(batch.indices)
        self._groups.append(batch.groups)

    def evidence(self, proof_hash: str) -> Evidence:
        """Everything, in the order in which it was scored."""
        classes = [_joined(part) for part in self._classes]
        labels = [label for label in self._labels if label is not None]
        return Evidence(
            original=np.concatenate(self._rows[0]),
            artifact=np.concatenate(self._rows[1]),
            indices=np.concatenate(self._indices),
            groups=np.concatenate(self._groups),
            labels=tuple(labels) if len(labels) == len(self._labels) else None,
            original_classes=classes[0],
            artifact_classes=classes[1],
            proof_hash=proof_hash,
        )


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    arrays = [part for part in parts if part is not None]
    return np.concatenate(arrays) if len(arrays) == len(parts) else None


def typical_batch(task: Task, proof: Sequence[int], *, size: int) -> list[np.ndarray]:
    """A batch around the median length: examples are sorted by length within `task.batches`."""
    chosen = [*proof[: max(size, 64)]]
    if not chosen:
        return flatten_inputs(task.sample(size))
    while len(chosen) < size:
        chosen += chosen
    ordered = list(task.batches(chosen, 1))
    middle = max(0, (len(ordered) - size) // 2)
    picked = [int(batch.indices[0]) for batch in ordered[middle : middle + size]]
    return flatten_inputs(next(iter(task.batches(picked, size))).inputs)


def _sizes(path: Path, score: float | None, single: Sequence[np.ndarray] | None) -> Sizes:
    """What is exact about a file; the original is stored as it is installed."""
    size = path.stat().st_size
    return Sizes(
        storage_bytes=size,
        installed_bytes=size,
        score=score if score is not None and np.isfinite(score) else None,
        parameters=count_parameters(path),
        macs=None if single is None else count_macs(path, single),
    )


def _costs(times: np.ndarray, peaks: np.ndarray, conditions: Conditions) -> dict[str, object]:
    p50, p95 = percentiles(times)
    return {
        "latency_ms": Latency(
            p50=p50, p95=p95, batch=conditions.batch, threads=conditions.stated_threads
        ),
        "memory_bytes": int(np.median(peaks)),
    }
