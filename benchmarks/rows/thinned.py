"""Half the multiply-adds: ResNet-20 narrowed, and trained on in its new shape.

One plan: units are removed one by one by what they cost (`narrow_second_order`), then all weights
that are left learn, half from labels and half from what the original answers. Multiply-adds are
counted in the shipped file. How many units go follows from half of the multiply-adds; rate and
length were not searched for.
"""

import tempfile
import time
from collections.abc import Iterator
from itertools import product
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
INSIDE = tuple(f"blocks.{place}.first" for place in range(9))
SHAPES: dict[str, tuple[tuple[str, ...], float, int]] = {  # which widths, units that go, multiple
    "30% narrower": ((), 0.3, 1),
    "blocks 55% narrower inside": (INSIDE, 0.55, 4),
}
NARROWED, TRAINED = "narrowed", "narrowed, trained on"
LEARNING = {
    NARROWED: None,
    TRAINED: Recover(
        epochs=4, strength="full", rate=1e-3, batch_size=128, labels=0.5, augmentation="flip"
    ),
}


def measure(row: str, done: Done) -> Iterator[Record]:
    """Both shapes, without training and with it, for every seed."""
    for seed, shape, peer in product(SEEDS, SHAPES, LEARNING):
        key = (peer, f"{KIND}, {shape}", seed)
        if key in done:
            continue
        start = time.perf_counter()
        report = _report(clothes.task(KIND, seed), shape, peer, seed=seed)
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


def _report(task: Task, shape: str, peer: str, *, seed: int) -> Report:
    where, remove, multiple = SHAPES[shape]
    settings = {"remove": remove, "multiple": multiple, "output": "classes"}
    step = Step(technique="narrow_second_order", where=where, settings=settings)
    plan = Plan(model_hash=model_hash(task.model), steps=(step,), seed=seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        how = Settings(recover=LEARNING[peer], ledger=folder / "looks.json")
        return apply_plan(plan, task, Budget(drop="0.3%"), out=folder / "out", settings=how)
