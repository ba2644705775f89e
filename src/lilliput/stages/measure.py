"""measure: what both files answer and what they cost, in fresh processes."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lilliput.batches import flatten_inputs
from lilliput.environment import RuntimeName, cores, installed_runtimes, require_runtime
from lilliput.errors import InputError
from lilliput.evidence import Evidence
from lilliput.folders import CODES, PACKED, RUNNABLE, read_manifest
from lilliput.progress import Progress, unseen
from lilliput.records import CorruptedScore, Latency, Measurement, RuntimeScore, Sizes
from lilliput.runtime.fixed_processes import open_worker, to_integers
from lilliput.runtime.interleaved import (
    Opener,
    Turns,
    latency_turns,
    memory_turns,
    percentiles,
    write_one_addition,
)
from lilliput.runtime.onnx_count import count_macs, count_parameters
from lilliput.runtime.processes import Worker
from lilliput.runtime.torch_processes import TorchWorker
from lilliput.runtime.weights_file import write_weights
from lilliput.stages.corrupted import AUTO, check_corruptions, corruptions_of, score_corrupted
from lilliput.stages.scores import Pair, output_place, score_files
from lilliput.statistics import ratio_bound
from lilliput.task import Task


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
        runtime: Where score, latency and memory count; the original is measured there too. The
            weights-only path always runs in PyTorch.
        compare: Show what the files answer in the other installed runtimes as well.
        generalize: What inputs are corrupted by in a test that describes how much the answers
            stand: ``auto`` (by the form of the inputs; nothing where it is not known), ``none``, or
            augmentations, each a row of the report: ``noise(decibels=10), rotate``.

    Raises:
        InputError: There is no such runtime, or no such augmentation.
        MissingExtraError: The runtime is not installed.
    """

    batch: int = 1
    threads: int = 0
    scoring_batch: int = 32
    seconds: float = 10
    memory_rounds: int = 5
    timeout: float = 600
    runtime: RuntimeName = "onnxruntime"
    compare: bool = True
    generalize: str = AUTO

    def __post_init__(self) -> None:
        require_runtime(self.runtime)
        check_corruptions(self.generalize)

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
        The measurement, and the rows of both files on the same examples; None without examples,
        and where the runtime that is judged cannot open or run a file: the measurement says so.

    Raises:
        InputError: Another runtime than PyTorch is asked for an artifact without a graph.
        InternalError: A process died or did not answer in time.
        TaskError: The metric does not fit the examples.
    """
    conditions = conditions or Conditions()
    manifest = read_manifest(folder)
    paths = (original, folder / (RUNNABLE if manifest.kind == "onnx" else CODES))
    batch = typical_batch(task, proof, size=conditions.batch)
    turns: tuple[Turns, Turns] | None = None
    corrupted: tuple[CorruptedScore, ...] = ()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        judged, *others = _starters(folder, task, conditions, Path(scratch))
        pair = Pair(judged.runtime, judged.start, paths=paths, stack=stack, fatal=True)
        with ExitStack() as briefly:
            shown = [
                Pair(each.runtime, each.start, paths=paths, stack=briefly, fatal=False)
                for each in others
            ]
            size = conditions.scoring_batch
            runtimes, evidence = score_files(
                [pair, *shown], task, proof=proof, batch_size=size, progress=progress
            )
        if pair.workers is not None:
            progress("latency", 0, 1)
            latency = latency_turns(pair.workers, batch, seconds=conditions.seconds)
            corrupted = _corrupted(pair, task, proof, conditions, progress)
            stack.close()
            progress("memory", 0, 1)
            openers, rounds = judged.openers(paths), conditions.memory_rounds
            turns = latency, memory_turns(openers, batch, judged.empty, rounds=rounds)
    single = typical_batch(task, proof, size=1) if manifest.kind == "onnx" else None
    measurement = _exact(paths, folder, runtimes=runtimes, single=single)
    measurement = measurement.model_copy(update={"generalization": corrupted})
    return _with_costs(measurement, turns, conditions), evidence


def _corrupted(
    pair: Pair, task: Task, proof: Sequence[int], conditions: Conditions, progress: Progress
) -> tuple[CorruptedScore, ...]:
    """Scores under corruption, in the runtime that is judged."""
    corruptions = corruptions_of(task, conditions.generalize) if len(proof) else ()
    if not corruptions:
        return ()
    place = output_place(task, proof)
    return score_corrupted(
        lambda arrays: pair.run(arrays, place),
        task,
        proof=proof,
        corruptions=corruptions,
        batch_size=conditions.scoring_batch,
        progress=progress,
    )


def _exact(
    paths: tuple[Path, Path],
    folder: Path,
    *,
    runtimes: tuple[RuntimeScore, ...],
    single: list[np.ndarray] | None,
) -> Measurement:
    """Scores, bytes, weights and multiply-adds of both files: what has no spread."""
    coded = None if single is None else to_integers(single, read_manifest(folder))
    packed = (folder / PACKED).stat().st_size
    after = _sizes(paths[1], runtimes[0].artifact_score, coded)
    return Measurement(
        original=_sizes(paths[0], runtimes[0].original_score, single),
        artifact=after.model_copy(update={"storage_bytes": packed}),
        runtimes=runtimes,
    )


@dataclass(frozen=True)
class _Starter:
    """How to start processes of one runtime: with a file, and with next to nothing to run."""

    runtime: str
    start: Callable[[Path], Worker]
    empty: tuple[Opener, Sequence[np.ndarray]]

    def openers(self, paths: tuple[Path, Path]) -> tuple[Opener, Opener]:
        """Starts a process with each of two files."""
        return partial(self.start, paths[0]), partial(self.start, paths[1])


def _starters(
    folder: Path, task: Task, conditions: Conditions, scratch: Path
) -> tuple[_Starter, ...]:
    """The runtime that is judged, then the others that are installed."""
    limits: dict[str, Any] = {"threads": conditions.stated_threads, "timeout": conditions.timeout}
    empty = scratch / "empty.onnx"
    if read_manifest(folder).kind != "onnx":
        if conditions.runtime != Conditions.runtime:
            raise InputError(
                f"only PyTorch can run an artifact without a graph, not {conditions.runtime}",
                "leave the runtime out",
            )
        return (_torch_starter(task, empty, limits),)
    nothing = write_one_addition(empty)
    others = installed_runtimes() if conditions.compare else ()
    return tuple(
        _Starter(name, start, (partial(start, empty), nothing))
        for name in dict.fromkeys((conditions.runtime, *others))
        for start in [partial(_start, artifact=folder / RUNNABLE, runtime=name, **limits)]
    )


def _start(path: Path, *, artifact: Path, **settings: Any) -> Worker:
    """A process with a file; the artifact's may compute in integers."""
    if path == artifact:
        return open_worker(path, read_manifest(artifact.parent), **settings)
    return Worker(path, **settings)


def _torch_starter(task: Task, empty: Path, limits: dict[str, Any]) -> _Starter:
    write_weights({}, {}, empty)
    start = partial(TorchWorker, model=task.model, inputs=task.sample(1), **limits)
    one = torch.ones(1)
    nothing = partial(start, empty, model=nn.Identity(), inputs=one)
    return _Starter("pytorch", start, (nothing, [one.numpy()]))


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
        score=score,
        parameters=count_parameters(path),
        macs=None if single is None else count_macs(path, single),
    )


def _with_costs(
    measurement: Measurement, turns: tuple[Turns, Turns] | None, conditions: Conditions
) -> Measurement:
    """Latency and memory beside what is exact; nothing where the runtime cannot run the files."""
    if turns is None:
        return measurement
    latency, memory = turns
    costs = [
        (latency.original, memory.original, measurement.original),
        (latency.artifact, memory.artifact, measurement.artifact),
    ]
    before, after = (_costly(sizes, times, peaks, conditions) for times, peaks, sizes in costs)
    changes = {
        "original": before,
        "artifact": after,
        "latency_ratio": ratio_bound(latency.ratios),
        "memory_ratio": ratio_bound(memory.ratios),
    }
    return measurement.model_copy(update=changes)


def _costly(sizes: Sizes, times: np.ndarray, peaks: np.ndarray, conditions: Conditions) -> Sizes:
    p50, p95 = percentiles(times)
    latency = Latency(p50=p50, p95=p95, batch=conditions.batch, threads=conditions.stated_threads)
    return sizes.model_copy(update={"latency_ms": latency, "memory_bytes": int(np.median(peaks))})
