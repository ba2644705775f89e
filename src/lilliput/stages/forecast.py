"""What a run will take, and whether its examples can prove the claim, said before work starts."""

import math
import time
from dataclasses import dataclass

import psutil

from lilliput.budget import Limit
from lilliput.evaluation import evaluating
from lilliput.ledger import Look
from lilliput.metrics import Metric
from lilliput.model.capture import Capture
from lilliput.model.gradients import whole_sides
from lilliput.power import examples_needed, proof_power, smallest_provable_drop
from lilliput.splits import Split
from lilliput.stages.profile import VOTERS, answers_each, probe_count
from lilliput.task import Task

PROBED = 64  # examples per probe
FIXED_SECONDS = 45.0  # export, fresh processes, memory rounds
QUANTIZE_WEIGHTS = 0.7e6  # weights rounded with error feedback per second and try
TRIES = 3.5  # curves, and files packed until the limit is met


@dataclass(frozen=True)
class Forecast:
    """What to expect.

    Attributes:
        minutes: Of the whole run on this machine.
        memory_bytes: Peak of the run.
        chances: Probabilities that a true drop of zero will be proved, if 5 % or 8 % of the
            answers flip; None where the metric is not 0/1 or no drop is limited.
        lines: The forecast in words.
    """

    minutes: float
    memory_bytes: int
    chances: tuple[float, ...] | None
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """What is to be proved, and on which look.

    Attributes:
        metric: The task's metric; None without examples.
        drop: The limit; None where no drop is limited.
        look: The look at the proof examples that this would be.
    """

    metric: Metric | None
    drop: Limit | None
    look: Look


def forecast(task: Task, captured: Capture, split: Split, claim: Claim) -> Forecast:
    """Times one batch of the model, and asks what so many proof examples can prove."""
    minutes = _seconds(task, captured, split) / 60
    memory = _memory(captured)
    lines = [
        f"about {max(1, math.ceil(minutes))} min and {memory / 1e9:.1f} GB of memory; "
        f"{len(split.calibration)} examples calibrate, {len(split.search)} steer, "
        f"{len(split.proof)} prove"
    ]
    if psutil.virtual_memory().available < memory:
        lines.append("this machine has less free memory than that: expect swapping or a failure")
    chances, said = _proof(len(split.proof), claim)
    return Forecast(minutes, memory, chances, (*lines, *said))


def _seconds(task: Task, captured: Capture, split: Split) -> float:
    seconds = FIXED_SECONDS + TRIES * captured.parameters / QUANTIZE_WEIGHTS
    subset = split.search[:PROBED] or split.calibration[:PROBED]
    if not subset:
        return seconds
    with evaluating(task.model) as model:
        started = time.perf_counter()
        for batch in task.batches(subset, 32):
            output = task.predict(model, batch.inputs)
        each = (time.perf_counter() - started) / len(subset)
    probes = (len(captured.sites) + VOTERS) * probe_count(
        sum(captured.macs.values()), len(captured.sites), answers=answers_each(output)
    )
    examples = 4 * len(split.calibration) + probes + 2 * len(split.proof)
    return seconds + each * examples


def _memory(captured: Capture) -> int:
    """Weights a few times over, both sides of the metric and their factors, and the runtime."""
    moments = sum(4 * 3 * site.groups * site.columns**2 for site in captured.sites.values())
    whole = whole_sides(list(captured.sites.values()))
    moments += 4 * 3 * sum(captured.sites[name].rows ** 2 for name in whole)
    largest = max((site.size for site in captured.sites.values()), default=0)
    return round(0.6e9 + 4 * 3 * captured.parameters + moments + 4 * 4 * largest)


def _proof(examples: int, claim: Claim) -> tuple[tuple[float, ...] | None, list[str]]:
    drop, confidence = claim.drop, claim.look.confidence
    if drop is None:
        return None, []
    if claim.metric is None or not examples:
        return None, ["there are no examples, so nothing can be proved about the answers"]
    if claim.metric.range != (0.0, 1.0) or drop.amount >= 1:
        few = f"{examples} proof examples, at least 100 are needed for any bound"
        return None, [few] if examples < 100 else []
    said = []
    if claim.look.number > 1:
        said.append(
            f"these proof examples were asked {claim.look.number - 1} times before, so the bound "
            f"must hold with {confidence:.2%}"
        )
    chances = proof_power(examples, limit=drop.amount, confidence=confidence)
    if smallest_provable_drop(examples, confidence) > drop.amount:
        needed = math.ceil(math.log(1 - confidence) / math.log(1 - drop.amount))
        return chances, [
            *said,
            f"{examples} proof examples cannot prove a drop of {drop.text}, not even if no answer "
            f"changes; at least {needed} are needed",
        ]
    said.append(
        f"if no harm is done, {examples} proof examples prove a drop of {drop.text} with "
        f"probability {chances[0]:.0%} where 5 % of the answers flip, {chances[1]:.0%} where 8 % do"
    )
    wanted = examples_needed(drop.amount, confidence=confidence)
    if chances[1] < 0.8 and wanted is not None:
        said.append(f"about {wanted} would make it 80 %")
    return chances, said
