"""Trying a plan end to end, for the planner: real files, real outputs on search examples."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lilliput.forms import Form
from lilliput.metrics import Metric, score_rows
from lilliput.model.calls import answer
from lilliput.model.encodings import Encoding, decoded
from lilliput.model.profiles import Profile
from lilliput.records import Plan
from lilliput.stages.apply import apply
from lilliput.stages.plan import Trial
from lilliput.stages.recentre import Recentring
from lilliput.statistics import Bound, drop_bound, is_binary, relative_drop_bound
from lilliput.task import Task

BATCH = 32
Z_BOUND = 1.645  # one-sided 95 %: `drop_bound`'s default
Z_FIRST_LOOK = 1.96  # a first look is tested at 97.5 %
Z_LIKELY = 0.84  # the claim shall be proved in four of five cases
FLIP_SPREAD = 0.25  # prior deviation of drop / flips


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
        recentring: Gives the output its mean back, where a bias can.
        asked: How often the search examples were asked so far.
    """

    task: Task
    profile: Profile
    form: Form
    metric: Metric | None
    search: Sequence[int]
    proof_size: int
    relative: bool = False
    recentring: Recentring | None = None
    asked: int = 0
    _last: tuple[str, dict[str, Encoding]] | None = None
    _sizes: dict[str, Trial] = field(default_factory=dict)
    _reference: list[np.ndarray] = field(default_factory=list)

    def encodings(self, plan: Plan) -> dict[str, Encoding]:
        """What the plan turns the weights into; the last plan's are kept."""
        key = _key(plan)
        if self._last is None or self._last[0] != key:
            encodings = apply(plan, self.profile)
            if self.recentring is not None:
                encodings = self.recentring(encodings)
            self._last = (key, self.form.completed(encodings))
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

        Both samples err: the search examples in the estimate (that of 0/1 scores is shrunk toward
        what flips usually do), the proof examples when the claim is put to them.
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
        spread = (bound.upper - bound.estimate) / Z_BOUND  # of the estimate on search examples
        estimate = bound.estimate
        again = spread * np.sqrt(len(before) / self.proof_size)  # on the proof examples
        if is_binary(before, after, self.metric):
            estimate, spread = _shrunk(bound, float(before.mean()))
        return float(estimate + Z_FIRST_LOOK * again + Z_LIKELY * np.hypot(spread, again))

    def _rows(self, encodings: dict[str, Encoding], *, reference: bool) -> np.ndarray:
        replaced = decoded(encodings, self.task.model)
        rows = []
        for number, batch in enumerate(self.task.batches(self.search, BATCH)):
            output = answer(self.task, batch.inputs, replaced=replaced)
            if reference and len(self._reference) <= number:
                self._reference.append(output.numpy())
            targets = batch.targets
            if self.metric is not None and self.metric.reference == "original":
                targets = output.new_tensor(self._reference[number])
            rows.append(score_rows(self.metric, output, targets, mask=batch.mask))  # type: ignore[arg-type]
        return np.concatenate(rows)


def _shrunk(bound: Bound, accuracy: float) -> tuple[float, float]:
    """Mean and deviation of the drop, given the estimate and a prior on what flips do.

    A flip of a model that is nearly always right nearly always hurts; one of a model that guesses
    hurts as often as it helps.
    """
    share = max(bound.flips, 1) / bound.examples
    noise, prior = share / bound.examples, (FLIP_SPREAD * share) ** 2
    weight = prior / (prior + noise)
    mean = weight * (bound.estimate or 0.0) + (1 - weight) * (2 * accuracy - 1) ** 2 * share
    return mean, float(np.sqrt(weight * noise))


def _key(plan: Plan) -> str:
    return plan.model_copy(
        update={"predicted_storage_bytes": None, "predicted_damage": None}
    ).model_dump_json()
