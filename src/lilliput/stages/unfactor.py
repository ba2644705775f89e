"""Products that are not faster on the measured runtime go back to whole weights."""

from collections.abc import Callable, Mapping, Sequence

from lilliput.budget import Limit
from lilliput.model.encodings import Encoding, LowRank
from lilliput.records import Plan
from lilliput.runtime.factor_speed import FactorSpeed, Ratio, slower
from lilliput.techniques import from_step

SIZES = ("storage", "installed", "memory")


def must_be_faster(limits: Sequence[Limit]) -> bool:
    """Whether products have to pay in time: latency is limited, or no size is."""
    asked = {limit.name for limit in limits}
    return "latency" in asked or asked.isdisjoint(SIZES)


def unfactored(
    plan: Plan, encode: Callable[[Plan], Mapping[str, Encoding]], *, speed: FactorSpeed
) -> tuple[Plan, list[str]]:
    """The plan without the factorizations that were not shown to be faster.

    Args:
        plan: Steps in order.
        encode: What a plan makes of the parameters. Asked again where sites were taken out: ranks
            that were shared out together may have changed.
        speed: Measures products in the runtime that counts, once per shape.

    Returns:
        The plan, and a warning for each site that stays whole. Without any the plan is the same.
    """
    said: list[str] = []
    while True:
        encodings = encode(plan)
        if not any(isinstance(encoding, LowRank) for encoding in encodings.values()):
            return plan, said
        slow = slower(speed.ratios(encodings))
        if not slow:
            return plan, said
        said += [_said(name, *ratio) for name, ratio in slow.items()]
        plan = _without(plan, slow)


def _without(plan: Plan, slow: Mapping[str, Ratio]) -> Plan:
    """No step of the plan factorizes these; one that then names nothing is dropped."""
    steps = []
    for step in plan.steps:
        factorizes = from_step(step).family == "factorize"
        where = tuple(name for name in step.where if not (factorizes and name in slow))
        if where:
            steps.append(step.model_copy(update={"where": where}))
    stale = [name for name in Plan.model_fields if name.startswith("predicted_")]
    return plan.model_copy(update={"steps": tuple(steps), **dict.fromkeys(stale)})


def _said(name: str, ratio: float, lower: float, upper: float) -> str:
    return (
        f"{name}: its factors are not faster here ({ratio:.2f} times the time of the whole weight, "
        f"{lower:.2f} to {upper:.2f}), so it stays whole"
    )
