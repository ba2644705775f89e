"""Plans against the best uniform single technique at equal bytes, packed and as installed.

A uniform plan gives every site one technique at one strength, the mildest whose real file fits. The
best of them is the one with least divergence on the search inputs. Both are then compared on fresh
inputs, example by example.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.models import Subject, load, outputs
from benchmarks.record import Record, versions
from benchmarks.rows.ours import answers, prepared, profiled
from lilliput.errors import UnreachableError
from lilliput.metrics import is_class_scores
from lilliput.records import Plan
from lilliput.runs import Run
from lilliput.search.improving import improve
from lilliput.search.uniform import techniques, uniform_picks
from lilliput.stages.mixing import Mixture, Targets
from lilliput.stages.option_table import OptionTable
from lilliput.stages.plan import plan
from lilliput.tensor.divergence import divergence
from lilliput.trials import Trials

MODELS = ("minilm", "efficientnet", "silero", "mtcnn")
SHARES = {"packed": (0.20, 0.14, 0.10), "installed": (0.60, 0.40, 0.27)}
SEED = 0
TRIES = 6  # strengths of a technique whose files are written until one fits
SURE = 1.645  # one-sided 95 %
Done = frozenset[tuple[str, str, int]]


@dataclass(frozen=True)
class Shipped:
    """A plan with what its file answers.

    Attributes:
        plan: What was done.
        bytes: Packed or installed, as the limit says.
        search: Divergence on search inputs.
        fresh: (N,) divergence of each fresh example.
    """

    plan: Plan
    bytes: int
    search: float
    fresh: np.ndarray


@dataclass
class Bed:
    """One model, profiled once, and its answers on fresh inputs."""

    subject: Subject
    run: Run
    trials: Trials
    table: OptionTable
    reference: Tensor

    def targets(self, limit: str, share: float) -> Targets:
        """The limit in bytes of the original's export."""
        size = share * self.run.original.stat().st_size
        packed = limit == "packed"
        return Targets(size if packed else None, None if packed else size, None)

    def size(self, chosen: Plan, limit: str) -> int:
        """Real bytes."""
        trial = self.trials.sizes(chosen)
        return trial.storage if limit == "packed" else trial.installed

    def shipped(self, chosen: Plan, limit: str) -> Shipped:
        """The plan's real file on fresh inputs."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "model.onnx"
            self.run.form.write(self.trials.encodings(chosen), path)
            found = answers(path, self.subject.test)
        size = self.size(chosen, limit)
        moved = self.trials.divergence(chosen)
        return Shipped(chosen, size, moved, by_example(found, self.reference))


def by_example(found: Tensor, reference: Tensor) -> np.ndarray:
    """(N,) divergence of each example, in the currency."""
    classes = is_class_scores(reference)
    pairs = zip(found.split(1), reference.split(1), strict=True)
    return np.array([divergence(one, other, classes=classes) for one, other in pairs])


def best_uniform(bed: Bed, targets: Targets, limit: str) -> tuple[str, Shipped] | None:
    """The uniform plan with least divergence on search inputs whose file fits; None without one."""
    mixture = Mixture.of(bed.table, targets, seed=SEED)
    size = float(np.min(targets.limits))
    found: list[tuple[str, Plan]] = []
    for name in techniques(mixture):
        for picks, _ in zip(uniform_picks(mixture, name), range(TRIES), strict=False):
            chosen = mixture.plan(picks)
            if bed.size(chosen, limit) <= size:
                found.append((name, chosen))
                break
    if not found:
        return None
    name, chosen = min(found, key=lambda pair: bed.trials.divergence(pair[1]))
    return name, bed.shipped(chosen, limit)


def planned(bed: Bed, targets: Targets, limit: str) -> Shipped:
    """What `compress` chooses: equal slopes for packed bytes, the program and swaps otherwise."""
    if limit == "packed":
        chosen = plan(bed.trials.profile, targets, evaluate=bed.trials, table=bed.table)
    else:
        chosen = improve(Mixture.of(bed.table, targets, seed=SEED), bed.trials).plan
    return bed.shipped(chosen, limit)


def compared(ours: Shipped, theirs: Shipped) -> dict[str, float]:
    """Divergences, their ratios, and the paired difference on fresh inputs with its bound."""
    difference = ours.fresh - theirs.fresh
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return {
        "search": ours.search,
        "search_uniform": theirs.search,
        "search_ratio": ours.search / max(theirs.search, 1e-300),
        "fresh": float(ours.fresh.mean()),
        "fresh_uniform": float(theirs.fresh.mean()),
        "fresh_ratio": float(ours.fresh.mean() / max(theirs.fresh.mean(), 1e-300)),
        "paired_difference": float(difference.mean()),
        "surely_worse": float(difference.mean() > SURE * error),
    }


def measure(row: str, done: Done, *, models: tuple[str, ...] = MODELS) -> Iterator[Record]:
    """One record per model, kind of bytes and share."""
    for name in models:
        wanted = [
            (limit, share)
            for limit, shares in SHARES.items()
            for share in shares
            if ("lilliput", f"{name} {limit} {share:.0%}", SEED) not in done
        ]
        if not wanted:
            continue
        subject = load(name, SEED)
        with tempfile.TemporaryDirectory() as scratch:
            run = prepared(subject, SEED, Path(scratch))
            trials = profiled(run)
            reference = outputs(subject.model, subject.test)
            bed = Bed(subject, run, trials, OptionTable(trials.profile), reference)
            for limit, share in wanted:
                yield from _record(row, bed, limit, share)


def _record(row: str, bed: Bed, limit: str, share: float) -> Iterator[Record]:
    targets = bed.targets(limit, share)
    try:
        ours, theirs = planned(bed, targets, limit), best_uniform(bed, targets, limit)
    except UnreachableError as error:
        print(f"{bed.subject.name} {limit} {share:.0%}: {error}")
        return
    if theirs is None:
        print(f"{bed.subject.name} {limit} {share:.0%}: no uniform plan fits")
        return
    predicted = ours.plan.predicted_damage or 0.0
    yield Record(
        row=row,
        subject=bed.subject.name,
        peer="lilliput",
        setting=f"{bed.subject.name} {limit} {share:.0%}",
        seed=SEED,
        bytes=ours.bytes,
        share=ours.bytes / bed.run.original.stat().st_size,
        errors=compared(ours, theirs[1]),
        details={
            "uniform": theirs[0],
            "uniform_bytes": theirs[1].bytes,
            "predicted": predicted,
            "measured_over_predicted": ours.search / predicted if predicted else None,
            "techniques": sorted({step.technique for step in ours.plan.steps}),
        },
        versions=versions(),
    )
