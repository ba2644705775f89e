"""Trying a plan end to end, for the planner: real files, real outputs on search examples."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lilliput.forms import Form
from lilliput.metrics import Metric, score_rows
from lilliput.model.calls import run_with
from lilliput.model.encodings import Encoding
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.stages.apply import apply
from lilliput.stages.plan import Trial
from lilliput.statistics import drop_bound, is_binary, relative_drop_bound
from lilliput.task import Task

BATCH = 32
CAUTION = 1.5  # how much wider than the estimate a bound on fresh examples is taken to be
FLIP_BIAS = 0.15  # flips hurt a little more often than they help: prior mean of drop / flips
FLIP_SPREAD = 0.1  # and prior deviation of that


@dataclass
class Trials:
    """Applies plans, remembers the last one's encodings, and measures what they cost.

    Attributes:
        task: What must keep working.
        profile: Weights and statistics.
        form: How encodings become files.
        metric: The task's metric; None without examples.
        search: Examples that may steer.
        proof_size: How many examples will prove.
        relative: The drop is limited relative to the original's score.
        asked: How often the search examples were asked so far.
    """

    task: Task
    profile: Profile
    form: Form
    metric: Metric | None
    search: Sequence[int]
    proof_size: int
    relative: bool = False
    asked: int = 0
    _last: tuple[str, dict[str, Encoding]] | None = None
    _sizes: dict[str, Trial] = field(default_factory=dict)
    _reference: list[np.ndarray] = field(default_factory=list)

    def encodings(self, plan: Plan) -> dict[str, Encoding]:
        """What the plan turns the weights into; the last plan's are kept."""
        key = _key(plan)
        if self._last is None or self._last[0] != key:
            self._last = (key, self.form.completed(apply(plan, self.profile)))
        return self._last[1]

    def sizes(self, plan: Plan) -> Trial:
        """Bytes of the packed and of the runnable file, written to a scratch folder."""
        key = _key(plan)
        if key not in self._sizes:
            with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
                storage, installed = self.form.sizes(self.encodings(plan), Path(scratch))
                self._sizes[key] = Trial(storage, installed)
        return self._sizes[key]

    def expected_drop(self, plan: Plan) -> float:
        """Upper bound of the drop that the proof examples can be expected to show.

        The search examples are few, so the estimate of 0/1 scores is shrunk toward what flips
        usually do, and the bound's width is scaled to the number of proof examples.
        """
        if self.metric is None or not self.search or not self.proof_size:
            return float("inf")
        self.asked += 1
        before = self._rows({}, reference=True)
        after = self._rows(self.encodings(plan), reference=False)
        bound_of = relative_drop_bound if self.relative else drop_bound
        bound = bound_of(before, after, self.metric)
        if bound.estimate is None or bound.upper is None:
            return float("inf")
        width = (bound.upper - bound.estimate) * np.sqrt(len(before) / self.proof_size)
        estimate = bound.estimate
        if is_binary(before, after, self.metric):
            estimate = _shrunk(estimate, bound.flips, len(before))
        return float(estimate + CAUTION * width)

    def _rows(self, encodings: dict[str, Encoding], *, reference: bool) -> np.ndarray:
        known = dict(self.task.model.named_parameters())
        replaced = {
            name: encoding.decode().to(known[name].dtype) for name, encoding in encodings.items()
        }
        rows = []
        for number, batch in enumerate(self.task.batches(self.search, BATCH)):
            raw = run_with(self.task.model, replaced, batch.inputs, run=self.task.run)
            output = self.task.pick(raw)
            if reference and len(self._reference) <= number:
                self._reference.append(output.numpy())
            targets = batch.targets
            if self.metric is not None and self.metric.reference == "original":
                targets = output.new_tensor(self._reference[number])
            rows.append(score_rows(self.metric, output, targets, mask=batch.mask))  # type: ignore[arg-type]
        return np.concatenate(rows)


def _shrunk(estimate: float, flips: int, examples: int) -> float:
    """Posterior mean of the drop, from an estimate and a prior on what flips do."""
    share = max(flips, 1) / examples
    noise = share / examples
    prior = (FLIP_SPREAD * share) ** 2
    weight = prior / (prior + noise)
    return weight * estimate + (1 - weight) * FLIP_BIAS * share


def _key(plan: Plan) -> str:
    return plan.model_copy(
        update={"predicted_storage_bytes": None, "predicted_damage": None}
    ).model_dump_json()
