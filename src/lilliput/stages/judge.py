"""judge: holds what was measured against what was asked, and says how sure that is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lilliput.budget import Limit, resolve_drop
from lilliput.evidence import Evidence
from lilliput.ledger import Look
from lilliput.metrics import Metric
from lilliput.records import (
    Drop,
    LimitResult,
    Measurement,
    Sizes,
    VerdictWord,
)
from lilliput.regressions import class_changes, worst_examples
from lilliput.statistics import Bound, drop_bound, relative_drop_bound
from lilliput.verdicts import (
    bytes_text,
    drop_reason,
    exit_status,
    overall,
    settle,
    verdict_of,
)

ONLY_LOOK = Look(1, 0.95)


@dataclass(frozen=True)
class Judgement:
    """The verdicts.

    Attributes:
        limits: One result per limit asked for, in the order asked.
        drop: Worsening of the score; None without examples.
        verdict: missed if any limit is missed, else unproved if any is, else proved.
        reasons: Sentences for a reader who is no expert: one per limit, and what would settle
            what stayed open.
    """

    limits: tuple[LimitResult, ...]
    drop: Drop | None
    verdict: VerdictWord
    reasons: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """0 all proved, 1 something missed, 3 something unproved."""
        return exit_status(self.verdict)


def judge(
    limits: Sequence[Limit],
    measurement: Measurement,
    *,
    evidence: Evidence | None,
    metric: Metric | None,
    look: Look = ONLY_LOOK,
    seed: int = 0,
) -> Judgement:
    """Judges every limit by its own kind of bound.

    Storage and installed size are exact. Latency and memory are bounded by the ratios of
    interleaved rounds. The drop is bounded by `statistics.drop_bound` at the look's confidence.
    What was asked but not measured is unproved; what was not measured because the runtime cannot
    open or run a file is missed, and so is the whole.

    Args:
        limits: What was asked.
        measurement: Sizes, latency and memory of both files.
        evidence: Metric rows of both files on the proof examples; None without examples.
        metric: The task's metric; needed with evidence.
        look: The how-manyth look at these proof examples it is, from the ledger.
        seed: Of the bootstrap.

    Raises:
        BudgetError: A drop limit that has no meaning for this metric.
        TaskError: Rows of original and artifact that do not match.
    """
    asked = next((limit for limit in limits if limit.name == "drop"), None)
    relative, bound, drop = False, None, None
    if evidence is not None and metric is not None:
        relative = asked is not None and resolve_drop(asked, metric, 1.0)[1]
        bound = (relative_drop_bound if relative else drop_bound)(
            evidence.original,
            evidence.artifact,
            metric,
            groups=evidence.groups,
            confidence=look.confidence,
            seed=seed,
        )
        drop = _drop(bound, evidence, metric, look)
    results = tuple(
        _judge_drop(limit, bound, metric, relative)
        if limit.name == "drop"
        else _judge_size(limit, measurement)
        for limit in limits
    )
    problem = measurement.problem
    if problem is not None:
        results = tuple(_stopped(result, problem) for result in results)
    reasons = tuple(result.reason for result in results)
    if asked and bound and verdict_of(asked.amount, bound.lower, bound.upper) == "unproved":
        reasons += (settle(bound, asked.amount),)
    verdict = overall(result.verdict for result in results)
    if problem is not None:
        verdict, reasons = "missed", tuple(dict.fromkeys((*reasons, problem)))
    return Judgement(results, drop, verdict, reasons)


def with_summaries(drop: Drop, summarize: Callable[[int], str]) -> Drop:
    """The same drop, its worst examples described by `summarize(index into task.examples)`."""
    worst = tuple(
        example.model_copy(update={"summary": summarize(example.index)}) for example in drop.worst
    )
    return drop.model_copy(update={"worst": worst})


def _judge_drop(
    limit: Limit, bound: Bound | None, metric: Metric | None, relative: bool
) -> LimitResult:
    if bound is None or metric is None:
        return _unmeasured(limit, limit.amount, "There are no examples, so no drop was measured")
    verdict = verdict_of(limit.amount, bound.lower, bound.upper)
    return LimitResult(
        name="drop",
        asked=limit.amount,
        asked_text=limit.text,
        value=bound.estimate,
        lower=_finite(bound.lower),
        upper=_finite(bound.upper),
        verdict=verdict,
        reason=drop_reason(verdict, bound, metric, asked=limit.amount, relative=relative),
    )


def _judge_size(limit: Limit, measurement: Measurement) -> LimitResult:
    """A limit on bytes or milliseconds; exact sizes have a ratio without spread."""
    before, after = (
        _quantity(limit, sizes) for sizes in (measurement.original, measurement.artifact)
    )
    if after is None or (before is None and limit.unit == "share"):
        return _unmeasured(limit, limit.amount, f"{limit.name.capitalize()} was not measured")
    asked = limit.resolve(before if before is not None else math.nan)
    ratios = _ratios(limit, measurement)
    if limit.name in ("storage", "installed"):
        value = lower = upper = after
    elif ratios is None or ratios[0] <= 0:
        return _unmeasured(limit, asked, f"{limit.name.capitalize()} has no bound: too few rounds")
    elif limit.unit == "share" and before is not None:
        value, lower, upper = (ratio * before for ratio in ratios)
    else:
        value, lower, upper = (after * ratio / ratios[0] for ratio in ratios)
    verdict = verdict_of(asked, lower, upper)
    return LimitResult(
        name=limit.name,
        asked=asked,
        asked_text=limit.text,
        value=value,
        lower=_finite(lower),
        upper=_finite(upper),
        verdict=verdict,
        reason=_size_reason(limit, (value, lower, upper), before, verdict),
    )


def _size_reason(
    limit: Limit, bounds: tuple[float, float, float], before: float | None, verdict: VerdictWord
) -> str:
    """One sentence on bytes or milliseconds."""
    value, lower, upper = bounds

    def show(amount: float) -> str:
        return (
            f"{amount:.3g} ms"
            if limit.unit == "ms" or limit.name == "latency"
            else bytes_text(amount)
        )

    said = f"{limit.name.capitalize()} is {show(value)}"
    if before:
        said += f", {100 * value / before:.3g} % of the original's {show(before)}"
    if lower != upper and verdict == "missed":
        said += f", at least {show(lower)}, 95 % sure"
    elif lower != upper:
        said += f", at most {show(upper)}, 95 % sure" if math.isfinite(upper) else ", without bound"
    said += f"; {limit.text} was asked"
    if verdict == "unproved":
        open_end = value <= limit.resolve(before if before is not None else math.nan)
        said += "; more measuring rounds would settle it" if open_end else "; it is likely missed"
    return said


def _quantity(limit: Limit, sizes: Sizes) -> float | None:
    if limit.name == "latency":
        return None if sizes.latency_ms is None else sizes.latency_ms.p50
    found = {
        "storage": sizes.storage_bytes,
        "installed": sizes.installed_bytes,
        "memory": sizes.memory_bytes,
    }.get(limit.name)
    return None if found is None else float(found)


def _ratios(limit: Limit, measurement: Measurement) -> tuple[float, float, float] | None:
    return measurement.latency_ratio if limit.name == "latency" else measurement.memory_ratio


def _unmeasured(limit: Limit, asked: float, reason: str) -> LimitResult:
    return LimitResult(
        name=limit.name,
        asked=asked,
        asked_text=limit.text,
        value=None,
        lower=None,
        upper=None,
        verdict="unproved",
        reason=f"{reason}; {limit.text} was asked",
    )


def _stopped(result: LimitResult, problem: str) -> LimitResult:
    """Whatever needs a file that runs is missed where none runs."""
    if result.value is not None:
        return result
    reason = f"{problem}; {result.asked_text} was asked"
    return result.model_copy(update={"verdict": "missed", "reason": reason})


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _drop(bound: Bound, evidence: Evidence, metric: Metric, look: Look) -> Drop:
    return Drop(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        estimate=bound.estimate,
        upper=_finite(bound.upper),
        lower=_finite(bound.lower),
        confidence=bound.confidence,
        method=bound.method,
        examples=bound.examples,
        groups=bound.groups,
        flips=bound.flips,
        look=look.number,
        per_class=class_changes(evidence),
        worst=worst_examples(evidence, metric),
    )
