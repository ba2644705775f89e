"""What original and artifact answer on the proof examples, in every runtime at once."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lilliput.batches import Batch, flatten_inputs
from lilliput.environment import package_version
from lilliput.errors import ContainerError, InternalError, LilliputError
from lilliput.evaluation import evaluating
from lilliput.evidence import Evidence
from lilliput.metrics import Metric, predicted_classes, score_rows
from lilliput.progress import Progress, unseen
from lilliput.records import RuntimeScore
from lilliput.runtime.fidelity import Agreement
from lilliput.runtime.processes import Worker
from lilliput.task import Task

_PACKAGES = {"pytorch": "torch"}  # where the package has another name than the runtime


class Pair:
    """Original and artifact, open in one runtime.

    Args:
        runtime: Its name.
        start: Starts a process with a file.
        paths: The original and the artifact.
        stack: Closes the processes.
        fatal: A process that dies or does not answer is an error, not just a problem.

    Attributes:
        workers: The two processes; None where a file could not be opened or run.
        problem: Why not.
        precision: The type in which the runtime computes float32.
    """

    def __init__(
        self,
        runtime: str,
        start: Callable[[Path], Worker],
        *,
        paths: Sequence[Path],
        stack: ExitStack,
        fatal: bool,
    ) -> None:
        self.runtime = runtime
        self.workers: tuple[Worker, Worker] | None = None
        self.problem: str | None = None
        self.precision: str | None = None
        self._caught = (ContainerError,) if fatal else (LilliputError,)
        opened = []
        for path, which in zip(paths, ("original", "artifact"), strict=True):
            try:
                opened.append(stack.enter_context(start(path)))
            except self._caught as error:
                self._fail(error, which)
                return
        self.workers, self.precision = (opened[0], opened[1]), opened[0].precision

    def run(self, arrays: Sequence[np.ndarray], place: int) -> tuple[Tensor, Tensor] | None:
        """Output `place` of the original and of the artifact; None where one cannot run."""
        outputs = []
        for worker, which in zip(self.workers or (), ("original", "artifact"), strict=False):
            try:
                outputs.append(torch.from_numpy(worker.run(arrays)[place].copy()))
            except self._caught as error:
                self._fail(error, which)
        return (outputs[0], outputs[1]) if len(outputs) == 2 else None

    def _fail(self, error: LilliputError, which: str) -> None:
        self.workers, self.problem = None, error.message.replace("the file", f"the {which}", 1)


def score_files(
    pairs: Sequence[Pair],
    task: Task,
    *,
    proof: Sequence[int],
    batch_size: int,
    progress: Progress = unseen,
) -> tuple[tuple[RuntimeScore, ...], Evidence | None]:
    """Runs both files in all runtimes over the proof examples; one batch is in memory at a time.

    Args:
        pairs: The runtime that is judged, then others, which are only shown.
        task: Examples and metric.
        proof: Examples that judge, by their places in the task.
        batch_size: Examples per call.
        progress: Told the stage, steps done and steps in all.

    Returns:
        A score per runtime, and the rows of the runtime that is judged; None where there are no
        examples or where it cannot run the files.
    """
    tallies = [_Tally(pair) for pair in pairs]
    if not len(proof):
        return tuple(tally.score(None) for tally in tallies), None
    metric: Metric | None = None
    place = output_place(task, proof)
    for done, batch in enumerate(task.batches(proof, batch_size)):
        progress("measure", done * batch_size, len(proof))
        arrays = flatten_inputs(batch.inputs)
        judged: Tensor | None = None
        for tally in tallies:
            outputs = tally.pair.run(arrays, place)
            if outputs is None:
                continue
            metric = metric or task.resolve_metric(outputs[0])
            tally.add(metric, batch, outputs, task)
            if tally is tallies[0]:
                judged = outputs[1]
            elif judged is not None:
                tally.compare(judged, outputs[1])
    if metric is None and not any(tally.pair.problem for tally in tallies):
        raise InternalError(f"the task made no batch of {len(proof)} proof examples")
    scores = tuple(tally.score(metric) for tally in tallies)
    first = tallies[0]
    return scores, None if first.pair.problem else first.evidence(task.proof_hash(proof))


def output_place(task: Task, proof: Sequence[int]) -> int:
    """Which of the file's outputs is scored; read off one call of the model itself."""
    first = next(iter(task.batches(proof[:1], 1)))
    with evaluating(task.model):
        return task.output_index(task.run(task.model, first.inputs))


class _Tally:
    """Rows, classes and labels of both files in one runtime, batch by batch."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self._classes: tuple[list[np.ndarray | None], list[np.ndarray | None]] = ([], [])
        self._labels: list[str | None] = []
        self._indices: list[np.ndarray] = []
        self._groups: list[np.ndarray] = []
        self._agreement: Agreement | None = None
        self._changed: int | None = None

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

    def compare(self, judged: Tensor, here: Tensor) -> None:
        """Holds the artifact's answers against those in the runtime that is judged."""
        self._agreement = self._agreement or Agreement()
        self._agreement.add(judged.float().numpy(), here.float().numpy())
        classes = predicted_classes(judged), predicted_classes(here)
        if classes[0] is not None and classes[1] is not None:
            self._changed = (self._changed or 0) + int((classes[0] != classes[1]).sum())

    def score(self, metric: Metric | None) -> RuntimeScore:
        """What the report says about this runtime."""
        name, problem = self.pair.runtime, self.pair.problem
        before = after = agreement = None
        if metric is not None and problem is None:
            before, after = (_finite(metric.aggregate(np.concatenate(r))) for r in self._rows)
            agreement = self._agreement and self._agreement.fidelity
        return RuntimeScore(
            name=name,
            version=package_version(_PACKAGES.get(name, name)),
            precision=self.pair.precision,
            original_score=before,
            artifact_score=after,
            agreement=agreement,
            changed=self._changed if agreement else None,
            problem=problem,
        )

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


def _finite(score: float) -> float | None:
    return float(score) if np.isfinite(score) else None
