"""Trying a plan end to end, for the planner: real files, real outputs on search examples."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lilliput.batches import Batch, flatten_inputs
from lilliput.environment import RuntimeName
from lilliput.forms import Form
from lilliput.metrics import Metric, is_class_scores, score_rows
from lilliput.model.calls import answer
from lilliput.model.encodings import Encoding, decoded
from lilliput.model.profiles import Profile
from lilliput.records import Plan, Step
from lilliput.runtime.processes import Worker
from lilliput.stages.apply import apply
from lilliput.stages.mixing import Trial
from lilliput.stages.recentre import Recentring
from lilliput.stages.scores import output_place
from lilliput.statistics import Bound, drop_bound, is_binary, relative_drop_bound
from lilliput.task import Task
from lilliput.techniques import from_step
from lilliput.tensor.divergence import divergence

BATCH = 32
DIVERGENCE_EXAMPLES = 256
KEPT_BYTES = 2**28  # of the original's outputs; larger ones are computed again
Z_BOUND = 1.645  # one-sided 95 %: `drop_bound`'s default
Z_FIRST_LOOK = 1.96  # a first look is tested at 97.5 %
Z_LIKELY = 0.84  # the claim shall be proved in four of five cases
FLIP_SPREAD = 0.25  # prior deviation of drop / flips
Output = tuple[Batch, Tensor]
Answer = tuple[Batch, Tensor, Tensor]  # a batch, an output, the original's output


@dataclass
class Trials:
    """Applies plans, remembers the last one's encodings, and measures what they cost.

    Attributes:
        task: What must keep working, over the model whose weights change.
        profile: Weights and statistics.
        form: How encodings become files.
        metric: The task's metric; None without examples.
        search: Examples that may steer.
        proof_size: How many examples will prove.
        relative: The drop is limited relative to the original's score.
        recentring: Gives the output its mean back, where a bias can.
        meter: Measures bytes resident and milliseconds of a runnable file; None where neither is
            limited.
        runtime: Which runtime runs real files.
        asked: How often the search examples were asked so far.
        original: The task over the user's model, where that has another shape.
    """

    task: Task
    profile: Profile
    form: Form
    metric: Metric | None
    search: Sequence[int]
    proof_size: int
    relative: bool = False
    recentring: Recentring | None = None
    meter: Callable[[Path], tuple[float, float]] | None = None
    runtime: RuntimeName = "onnxruntime"
    asked: int = 0
    original: Task | None = None
    _last: tuple[str, dict[str, Encoding]] | None = None
    _made: dict[str, tuple[tuple[Step, ...], dict[str, Encoding]]] = field(
        default_factory=dict, init=False
    )
    _given: dict[str, dict[str, Encoding]] = field(default_factory=dict, init=False)
    _sizes: dict[str, Trial] = field(default_factory=dict)
    _costs: dict[str, Trial] = field(default_factory=dict)
    _divergences: dict[str, float] = field(default_factory=dict)
    _originals: dict[int, list[Tensor]] = field(default_factory=dict, init=False)
    _before: np.ndarray | None = field(default=None, init=False)

    def encodings(self, plan: Plan) -> dict[str, Encoding]:
        """What the plan turns the weights into; the last plan's are kept."""
        key = _key(plan)
        if key in self._given:
            return self._given[key]
        if self._last is None or self._last[0] != key:
            encodings = self._applied(plan)
            if self.recentring is not None:
                encodings = self.recentring(encodings)
            self._last = (key, self.form.completed(encodings))
        return self._last[1]

    def remember(self, plan: Plan, encodings: dict[str, Encoding]) -> None:
        """What a plan turns the weights into that is more than its steps: it was learned."""
        self._given[_key(plan)] = encodings

    def _applied(self, plan: Plan) -> dict[str, Encoding]:
        """`apply`, but sites that get the same steps as in the plan before keep what they became.

        Plans that are tried one after the other differ in a few sites; what one site becomes does
        not depend on the others.
        """
        if any(from_step(step).joint for step in plan.steps):
            return apply(plan, self.profile)
        wanted = _by_site(plan)
        fresh = {
            name for name, steps in wanted.items() if self._made.get(name, ((), {}))[0] != steps
        }
        steps = [
            step.model_copy(update={"where": tuple(n for n in step.where if n in fresh)})
            for step in plan.steps
        ]
        some = plan.model_copy(update={"steps": tuple(step for step in steps if step.where)})
        found = apply(some, self.profile)
        for name in fresh:
            self._made[name] = wanted[name], {name: found[name]} if name in found else {}
        made = [self._made[name][1] for name in wanted]
        return {name: encoding for each in made for name, encoding in each.items()}

    def sizes(self, plan: Plan) -> Trial:
        """Bytes of the packed and of the runnable file, written to a scratch folder."""
        key = _key(plan)
        if key not in self._sizes:
            with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
                storage, installed = self.form.sizes(self.encodings(plan), Path(scratch))
                self._sizes[key] = Trial(storage, installed)
        return self._sizes[key]

    def costs(self, plan: Plan) -> Trial:
        """The sizes, and memory and latency of the runnable file where they are limited."""
        if self.meter is None:
            return self.sizes(plan)
        key = _key(plan)
        if key not in self._costs:
            with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
                path = Path(scratch) / "model.onnx"
                self.form.write(self.encodings(plan), path)
                memory, latency = self.meter(path)
            self._costs[key] = replace(self.sizes(plan), memory=memory, latency=latency)
        return self._costs[key]

    def divergence(self, plan: Plan) -> float:
        """How far the output moved on search examples, in the currency; NaN without any.

        Asked of the real file where it computes something else than PyTorch does.
        """
        key, subset = _key(plan), self.search[:DIVERGENCE_EXAMPLES]
        if not subset:
            return float("nan")
        if key not in self._divergences:
            self.asked += 1
            outputs = self._outputs(self.encodings(plan), subset)
            self._divergences[key] = self._divergence(outputs, subset)
        return self._divergences[key]

    def moved(self, task: Task) -> float:
        """How far another model's outputs lie from the original's, as `divergence`."""
        subset = self.search[:DIVERGENCE_EXAMPLES]
        if not subset:
            return float("nan")
        self.asked += 1
        return self._divergence(_answers(task, subset, {}), subset)

    def _divergence(self, outputs: Iterable[Output], subset: Sequence[int]) -> float:
        total, count = 0.0, 0
        for _, output, reference in self._compared(outputs, subset):
            classes = is_class_scores(reference)
            total += divergence(output, reference, classes=classes) * len(reference)
            count += len(reference)
        return total / count

    def _compared(self, outputs: Iterable[Output], subset: Sequence[int]) -> Iterator[Answer]:
        """Outputs on the first search examples beside the original's, kept where they fit."""
        kept = self._originals.get(len(subset))
        original = kept or (reference for _, _, reference in self._original(subset))
        for reference, (batch, output) in zip(original, outputs, strict=True):
            yield batch, output, reference

    def _original(self, subset: Sequence[int]) -> Iterator[Answer]:
        """The original against itself; its outputs are kept up to `KEPT_BYTES`."""
        found, held = [], 0
        for batch, output in _answers(self.original or self.task, subset, {}):
            held += output.nbytes
            if held <= KEPT_BYTES:
                found.append(output)
            yield batch, output, output
        if held <= KEPT_BYTES:
            self._originals[len(subset)] = found

    def _outputs(self, encodings: dict[str, Encoding], subset: Sequence[int]) -> Iterator[Output]:
        """Batches and outputs, from PyTorch where that is the same and else from the real file."""
        if self.form.computes(encodings):
            yield from _answers(self.task, subset, decoded(encodings, self.task.model))
            return
        with tempfile.TemporaryDirectory(prefix="lilliput-") as scratch:
            path = Path(scratch) / "model.onnx"
            self.form.write(encodings, path)
            place = output_place(self.task, subset)
            with Worker(path, runtime=self.runtime) as worker:
                for batch in self.task.batches(subset, BATCH):
                    found = worker.run(flatten_inputs(batch.inputs))[place]
                    yield batch, torch.from_numpy(found.copy())

    def expected_drop(self, plan: Plan) -> float:
        """Upper bound of the drop that the proof examples can be expected to show.

        Both samples err: the search examples in the estimate (that of 0/1 scores is shrunk toward
        what flips usually do), the proof examples when the claim is put to them.
        """
        if self.metric is None or not self.search or not self.proof_size:
            return float("inf")
        self.asked += 1
        if self._before is None:
            self._before = self._rows(self._original(self.search))
        before = self._before
        outputs = self._outputs(self.encodings(plan), self.search)
        after = self._rows(self._compared(outputs, self.search))
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

    def _rows(self, answers: Iterable[Answer]) -> np.ndarray:
        rows = []
        for batch, output, reference in answers:
            targets = batch.targets
            if self.metric is not None and self.metric.reference == "original":
                targets = reference.to(output)
            rows.append(score_rows(self.metric, output, targets, mask=batch.mask))  # type: ignore[arg-type]
        return np.concatenate(rows)


def _answers(task: Task, subset: Sequence[int], replaced: Mapping[str, Tensor]) -> Iterator[Output]:
    """Batches and PyTorch's outputs, with some parameters replaced."""
    for batch in task.batches(subset, BATCH):
        yield batch, answer(task, batch.inputs, replaced=replaced)


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


def _by_site(plan: Plan) -> dict[str, tuple[Step, ...]]:
    """The steps of each parameter, in their order."""
    found: dict[str, tuple[Step, ...]] = {}
    for step in plan.steps:
        for name in step.where:
            alone = step.model_copy(update={"where": (name,)})
            found[name] = (*found.get(name, ()), alone)
    return found


def _key(plan: Plan) -> str:
    return plan.model_copy(
        update={name: None for name in type(plan).model_fields if name.startswith("predicted_")}
    ).model_dump_json()
