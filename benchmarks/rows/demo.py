"""The demo's claim on ten split seeds, and the smallest share that is proved.

Every record is a real packed file; its answers on the proof sentences are the artifact's own, next
to those of the original's ONNX export. `upper` is the bound at the confidence of a first look.
"""

import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from torch import from_numpy

from benchmarks.record import Record, versions
from benchmarks.rows.ours import profiled
from examples import demo_task
from lilliput import Budget, Task
from lilliput.batches import flatten_inputs
from lilliput.ledger import look_confidence
from lilliput.metrics import metric_by_name, score_rows
from lilliput.runs import Run, Settings, prepare
from lilliput.stages.plan import Targets, plan
from lilliput.statistics import drop_bound

SEEDS = range(10)
CLAIM, SMALLER = 0.09, (0.065,)
LIMIT = 0.01
Done = frozenset[tuple[str, str, int]]


def measure(row: str, done: Done) -> Iterator[Record]:
    """9 % on ten seeds; smaller shares on the first three."""
    for seed in SEEDS:
        shares = (CLAIM, *(SMALLER if seed < 3 else ()))
        wanted = [share for share in shares if ("lilliput", f"{share:.1%}", seed) not in done]
        if not wanted:
            continue
        task = demo_task.task(seed)
        with tempfile.TemporaryDirectory() as scratch:
            yield from _seed(row, task, seed, wanted, Path(scratch))


def _seed(row: str, task: Task, seed: int, shares: list[float], scratch: Path) -> Iterator[Record]:
    run = prepare(task, Budget(storage=CLAIM, drop=LIMIT), Settings(seed=seed), scratch)
    started = time.perf_counter()
    trials = profiled(run)
    profiling = time.perf_counter() - started
    original = run.original.stat().st_size
    before = _rows(run.original, run)
    for share in shares:
        started = time.perf_counter()
        targets = Targets(share * original, None, LIMIT)
        chosen = plan(trials.profile, targets, evaluate=trials, seed=seed)
        seconds = profiling + time.perf_counter() - started
        folder = scratch / f"{share}"
        folder.mkdir()
        run.form.export(trials.encodings(chosen), plan=chosen, folder=folder)
        packed = (folder / "model.lilliput").stat().st_size
        bound = drop_bound(
            before,
            _rows(folder / "model.onnx", run),
            metric_by_name("accuracy"),
            confidence=look_confidence(1),
        )
        yield Record(
            row=row,
            subject="film sentences",
            peer="lilliput",
            setting=f"{share:.1%}",
            seed=seed,
            bytes=packed,
            share=packed / original,
            errors={"drop": bound.estimate or 0.0, "upper": bound.upper or 1.0},
            details={
                "proved": bound.upper is not None and bound.upper <= LIMIT,
                "flips": bound.flips,
                "examples": bound.examples,
                "original_accuracy": float(before.mean()),
                "calibrate_plan_apply_seconds": round(seconds, 1),
                "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            },
            versions=versions(),
        )


def _rows(path: Path, run: Run) -> np.ndarray:
    """Metric rows of one file on the proof examples, in the runtime's default session."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    metric = metric_by_name("accuracy")
    rows = []
    for batch in run.task.batches(run.split.proof, 32):
        feed = dict(zip(names, flatten_inputs(batch.inputs), strict=True))
        rows.append(score_rows(metric, from_numpy(session.run(None, feed)[0]), batch.targets))
    return np.concatenate(rows)
