"""From bounds to verdicts, and from verdicts to sentences for a reader who is no expert."""

import math
from collections.abc import Iterable

from scipy.special import ndtri

from lilliput.ledger import look_confidence
from lilliput.metrics import Metric
from lilliput.power import examples_needed
from lilliput.records import VerdictWord
from lilliput.statistics import MIN_GROUPS, Bound

EXIT_STATUS: dict[VerdictWord, int] = {"proved": 0, "missed": 1, "unproved": 3}
_POWER = 0.8  # chance of a proof that "would settle it" stands for


def verdict_of(asked: float, lower: float | None, upper: float | None) -> VerdictWord:
    """proved: upper bound inside the limit. missed: lower bound outside. unproved: between."""
    if upper is not None and upper <= asked:
        return "proved"
    return "missed" if lower is not None and lower > asked else "unproved"


def overall(verdicts: Iterable[VerdictWord]) -> VerdictWord:
    """missed if any is missed, else unproved if any is unproved, else proved."""
    words = set(verdicts)
    return "missed" if "missed" in words else "unproved" if "unproved" in words else "proved"


def exit_status(verdict: VerdictWord) -> int:
    """0 all proved, 1 something missed, 3 something unproved."""
    return EXIT_STATUS[verdict]


def drop_reason(
    verdict: VerdictWord, bound: Bound, metric: Metric, *, asked: float, relative: bool
) -> str:
    """One sentence on the drop, e.g. what at most gets worse and how sure that is."""
    data = f"On {bound.examples:,} examples like yours"
    sure = f"{100 * bound.confidence:.4g} % sure"
    if verdict == "missed" and bound.lower is not None:
        worse = change_text(bound.lower, metric, relative=relative, up=False)
        return f"{data} {worse.format('at least')}, {sure}; {_allowed(asked, metric, relative)}"
    if bound.upper is None or math.isinf(bound.upper):
        return f"{data} no bound of the drop can be stated: {bound.reason}"
    worse = change_text(bound.upper, metric, relative=relative, up=True)
    said = f"{data} {worse.format('at most')}, {sure}"
    if verdict == "proved":
        return said
    measured = f"{_shown(bound.estimate or 0.0, metric, relative):.3g}"
    return f"{said}; measured were {measured}, but {_allowed(asked, metric, relative)}"


def change_text(value: float, metric: Metric, *, relative: bool, up: bool) -> str:
    """What gets how much worse, with ``{}`` in the place of "at most" or "at least"."""
    number = number_text(_shown(value, metric, relative), up=up)
    if relative:
        return f"{metric.name} gets {{}} {number} % worse"
    if tuple(metric.range) != (0, 1):
        return f"{metric.name} gets {{}} {number} worse"
    if metric.name == "agreement":
        return f"{{}} {number} of 100 answers change"
    if metric.name == "accuracy":
        return f"on balance {{}} {number} of 100 answers get worse"
    return f"{metric.name} gets {{}} {number} points worse"


def settle(bound: Bound, asked: float) -> str:
    """What would settle an unproved drop: how many examples, or that nothing would.

    Args:
        bound: The bound that left it open.
        asked: The allowed drop, in the bound's unit.
    """
    if bound.estimate is not None and bound.estimate >= asked and bound.groups >= MIN_GROUPS:
        return (
            "More examples would not settle it: the measured drop itself reaches the limit. "
            "Allow a larger drop, or let more bytes remain"
        )
    if bound.groups < MIN_GROUPS and bound.method != "score":
        return f"At least {MIN_GROUPS} independent examples would allow a bound"
    if bound.estimate is None or bound.upper is None or math.isinf(bound.upper):
        return "More examples alone would not settle it"
    needed = _needed(bound, asked)
    if needed is None:
        return "No practical number of examples would settle it: the margin is too small"
    needed = max(_rounded_up(needed), bound.examples)
    return (
        f"A proof set of about {needed:,} examples ({needed - bound.examples:,} more) would settle "
        "it in 4 of 5 cases, if the artifact is as good as it was measured"
    )


def number_text(value: float, *, up: bool = True) -> str:
    """Two significant digits, rounded towards the careful side, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 1 - math.floor(math.log10(abs(value))))
    scaled = value * 10**decimals
    whole = math.ceil(scaled - 1e-9) if up else math.floor(scaled + 1e-9)
    text = f"{whole / 10**decimals:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def bytes_text(value: float) -> str:
    """Bytes in decimal units, e.g. ``2.03 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f} bytes"


def _shown(value: float, metric: Metric, relative: bool) -> float:
    return 100 * value if relative or tuple(metric.range) == (0, 1) else value


def _allowed(asked: float, metric: Metric, relative: bool) -> str:
    return f"at most {number_text(_shown(asked, metric, relative))} was asked"


def _needed(bound: Bound, asked: float) -> int | None:
    """Examples for a proof with the usual power on a fresh proof set (its first look)."""
    confidence = look_confidence(1)
    estimate, upper = bound.estimate or 0.0, bound.upper or 0.0
    if bound.method == "score":
        rate = max(bound.flips, 1) / bound.examples
        drop = min(max(estimate, 0.0), rate)  # equal where all flips are for the worse
        return examples_needed(
            asked, power=_POWER, flip_rate=rate, true_drop=drop, confidence=confidence
        )
    if bound.method == "exact":
        return math.ceil(bound.examples * upper / asked)
    spread = (upper - estimate) / ndtri(bound.confidence)
    reach = spread * (ndtri(confidence) + ndtri(_POWER)) / (asked - estimate)
    return math.ceil(bound.examples * float(reach) ** 2)


def _rounded_up(number: int) -> int:
    """To two significant digits."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step
