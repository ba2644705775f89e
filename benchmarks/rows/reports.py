"""The same call on five kinds of real models, each ending in a report under ``out/bench/``."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn

from benchmarks.models import load
from benchmarks.record import Record, versions
from benchmarks.rows.ours import PROBES, examples
from lilliput import Budget, Report, Task, compress
from lilliput.runs import Settings
from lilliput.stages.measure import Conditions

OUT = Path("out/bench")
# Kind of model -> (subject, storage): the share is what a first try would ask for.
KINDS = {
    "encoder": ("minilm", "10%"),
    "cnn": ("efficientnet", "14%"),
    "lstm": ("silero", "20%"),
    "detector": ("mtcnn", "20%"),
    "causal language model": ("smollm2", "14%"),
}
Done = frozenset[tuple[str, str, int]]


class PerToken(nn.Module):
    """A language model whose output keeps the batch as its first dimension."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, input_ids: Tensor) -> Tensor:
        """(N, L) tokens -> (N, L, vocabulary) logits."""
        return self.net(input_ids=input_ids, use_cache=False).logits


def measure(row: str, done: Done) -> Iterator[Record]:
    """One report per kind of model."""
    for kind, (name, storage) in KINDS.items():
        if ("lilliput", f"{kind} {storage}", 0) not in done:
            yield _record(row, kind, storage, task_of(name))


def task_of(name: str) -> Task:
    """Calibration inputs calibrate and steer, test inputs prove; there are no labels."""
    subject = load(name, 0)
    some = examples(subject.calibration)
    search = some[: min(PROBES, len(some) // 4)]
    return Task(
        model=PerToken(subject.model.net) if name == "smollm2" else subject.model,
        calibration=some[len(search) :],
        search=search,
        proof=examples(subject.test),
        metric="kl" if name == "smollm2" else None,
        name=name,
    )


def _record(row: str, kind: str, storage: str, task: Task) -> Record:
    out = OUT / task.name
    conditions = Conditions(scoring_batch=4, seconds=5)
    found: Report = compress(
        task,
        Budget(storage=storage),
        out=out,
        settings=Settings(force=True, conditions=conditions, said=print),
    )
    artifact, original = found.artifact, found.original
    return Record(
        row=row,
        subject=task.name,
        peer="lilliput",
        setting=f"{kind} {storage}",
        seed=0,
        bytes=artifact.storage_bytes or 0,
        share=(artifact.storage_bytes or 0) / (original.storage_bytes or 1),
        errors={"drop": found.drop.estimate or 0.0} if found.drop else {},
        details={
            "metric": found.drop.metric if found.drop else None,
            "upper": found.drop.upper if found.drop else None,
            "verdict": found.verdict,
            "proved": found.verdict == "proved",
            "installed_share": (artifact.installed_bytes or 0) / (original.installed_bytes or 1),
            "decibels": found.fidelity.decibels if found.fidelity else None,
            "seconds": found.seconds,
        },
        versions=versions(),
    )
