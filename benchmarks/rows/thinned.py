"""Half the multiply-adds: ResNet-20 narrowed, and trained on in its new shape.

One plan: units are removed one by one by what they cost (`narrow_second_order`), then all weights
that are left learn, half from labels and half from what the original answers. Multiply-adds are
counted in the shipped file. How many units go follows from half of the multiply-adds; rate and
length were not searched for.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.models import clothes
from benchmarks.record import SEEDS, Record, versions
from benchmarks.rows.judged import of_report
from lilliput import Budget, Report, apply_plan
from lilliput.learning import Recover
from lilliput.model.hashes import model_hash
from lilliput.records import Plan, Step
from lilliput.runs import Settings
from lilliput.task import Task

Done = frozenset[tuple[str, str, int]]
KIND = "resnet20"
REMOVE = 0.3  # of the units of every width: half of the multiply-adds
NARROWED, TRAINED = "narrowed", "narrowed, trained on"
LEARNING = {
    NARROWED: None,
    TRAINED: Recover(
        epochs=4, strength="full", rate=1e-3, batch_size=128, labels=0.5, augmentation="flip"
    ),
}


def measure(row: str, done: Done) -> Iterator[Record]:
    """Without training and with it, for every seed."""
    for seed in SEEDS:
        for peer, learning in LEARNING.items():
            key = (peer, f"{KIND}, {REMOVE:.0%} narrower", seed)
            if key in done:
                continue
            start = time.perf_counter()
            report = _report(clothes.task(KIND, seed), learning, seed=seed)
            size, errors, details = of_report(report)
            details["seconds"] = time.perf_counter() - start
            details |= _fewer(report)
            whole = int(report.original.storage_bytes or 0)
            yield Record(row, KIND, *key, size, size / whole, errors, details, versions())


def _fewer(report: Report) -> dict[str, object]:
    """How many times fewer multiply-adds the file takes, and how much faster it is."""
    before, after = report.original, report.artifact
    found: dict[str, object] = {"macs": after.macs, "original_macs": before.macs}
    if before.macs and after.macs:
        found["times_fewer_macs"] = before.macs / after.macs
    if before.latency_ms and after.latency_ms:
        found["faster_batch_1"] = before.latency_ms.p50 / after.latency_ms.p50
    return found


def _report(task: Task, learning: Recover | None, *, seed: int) -> Report:
    settings = {"remove": REMOVE, "multiple": 1, "output": "classes"}
    step = Step(technique="narrow_second_order", where=(), settings=settings)
    plan = Plan(model_hash=model_hash(task.model), steps=(step,), seed=seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        how = Settings(recover=learning, ledger=folder / "looks.json")
        return apply_plan(plan, task, Budget(drop="0.3%"), out=folder / "out", settings=how)
