"""Numbers and verdicts in words: what the page, the terminal and the summary say alike."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lilliput.records import Drop, LimitName, LimitResult, Report, Sizes, VerdictWord

DASH = "–"
DropUnit = Literal["points", "percent", "plain"]

LIMIT_TITLES: dict[LimitName, str] = {
    "storage": "Download size",
    "installed": "Size on disk",
    "memory": "Memory while running",
    "latency": "Time per call",
    "energy": "Energy per call",
    "drop": "Loss of quality",
}
VERDICT_TITLES: dict[VerdictWord, str] = {
    "proved": "Proved",
    "unproved": "Unproved",
    "missed": "Missed",
}
Rounding = Literal["nearest", "up", "down"]
_ANSWERS = {"accuracy", "agreement", "top"}
_SHARES = {"f", "precision", "recall"}
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DECIMAL = ("B", "kB", "MB", "GB", "TB")


def clean(text: str, longest: int = 160) -> str:
    """User text fit for one line: control characters replaced, the middle of a long one cut out.

    Args:
        text: Any text.
        longest: Most characters to keep, at least 3.
    """
    head = (longest - 1) * 2 // 3
    tail = longest - 1 - head
    if len(text) > 8 * longest:  # a long one is cut first: only its ends are worth the work
        return f"{_line(text[: 2 * longest])[:head]}…{_line(text[-2 * longest :])[-tail:]}"
    line = _line(text)
    return line if len(line) <= longest else f"{line[:head]}…{line[-tail:]}"


def _line(text: str) -> str:
    return _UNPRINTABLE.sub("�", re.sub(r"[ \t\r\n]+", " ", text).strip())


def number(value: float | None, digits: int = 3, *, rounding: Rounding = "nearest") -> str:
    """A number with `digits` significant digits, without exponent where that reads well.

    Args:
        value: Any number; None, infinity and NaN become a dash.
        digits: At least 1.
        rounding: ``up`` for an upper bound and ``down`` for a lower one, so that the words never
            promise more than the number does.
    """
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{_rounded(value, places, rounding):,.{places}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text.replace("-", "−")


def _rounded(value: float, places: int, rounding: Rounding) -> float:
    scaled = value * 10.0**places
    slack = 1e-9 * max(1.0, abs(scaled))  # 0.43 as a binary fraction stays 0.43
    if rounding == "up":
        return math.ceil(scaled - slack) / 10.0**places
    return value if rounding == "nearest" else math.floor(scaled + slack) / 10.0**places


def count(value: int | None) -> str:
    """An integer with thousands separated."""
    return DASH if value is None else f"{value:,}".replace("-", "−")


def size(value: float | None) -> str:
    """Bytes in decimal units, three digits: ``8.13 MB``."""
    if value is None or not math.isfinite(value):
        return DASH
    step = 0 if abs(value) < 1000 else min(4, int(math.log10(abs(value)) / 3 + 1e-9))
    scaled = value / 1000**step
    if abs(scaled) >= 999.5 and step < 4:
        step, scaled = step + 1, scaled / 1000
    return f"{number(scaled)} {_DECIMAL[step]}"


def milliseconds(value: float | None) -> str:
    """A latency: ``4.21 ms``."""
    return DASH if value is None else f"{number(value)} ms"


def share(value: float | None) -> str:
    """A fraction as a percentage: 0.0893 -> ``8.93 %``."""
    return DASH if value is None else f"{number(100 * value)} %"


def times(ratio: float) -> str:
    """A ratio of artifact to original: 0.091 -> ``11 × less``; 1.3 -> ``1.3 × as much``."""
    if ratio <= 0:
        return share(ratio)
    if 0.98 < ratio < 1.02:
        return "the same"
    return f"{number(1 / ratio, 2)} × less" if ratio < 1 else f"{number(ratio)} × as much"


def bytes_gone(original: int | None, artifact: int | None) -> str:
    """How much became smaller, never overstated: ``10 of 11 bytes gone``; "" when unknown.

    The fraction with a denominator of at most 20 that lies closest below the truth; beyond that
    (n - 1) of n.
    """
    if not original or not artifact:
        return ""
    if artifact > original:
        return f"{share(artifact / original - 1)} larger than the original"
    gone = original - artifact
    if gone * 20 < original:
        return "about as large as the original"
    if artifact * 20 <= original:
        whole = original // artifact
        return f"{count(whole - 1)} of {count(whole)} bytes gone"
    best = max(((gone * n // original) / n, -n) for n in range(2, 21))
    whole = -best[1]
    return f"{gone * whole // original} of {whole} bytes gone"


def report_unit(report: Report) -> DropUnit:
    """What the drop of this report is counted in; ``plain`` where none was measured."""
    limit = next((limit for limit in report.limits if limit.name == "drop"), None)
    return "plain" if report.drop is None else drop_unit(report.drop, limit)


def drop_unit(drop: Drop, limit: LimitResult | None) -> DropUnit:
    """What a drop is counted in: points of 100, percent of the original, or the metric's unit.

    Scores that are shares of answers are told in points. Others are told as they were asked for:
    a percentage, or a plain number in the metric's unit.
    """
    if drop.method == "score" or _metric_words(drop) & (_ANSWERS | _SHARES):
        return "points"
    asked_in_percent = limit is not None and limit.asked_text.rstrip().endswith("%")
    return "percent" if asked_in_percent else "plain"


def counts_answers(drop: Drop) -> bool:
    """Whether the score is the share of examples answered well, each right or wrong."""
    return drop.method == "score" or bool(_metric_words(drop) & _ANSWERS)


def _metric_words(drop: Drop) -> set[str]:
    """Words of the metric's name, lower case, without digits at the end: ``top5`` -> ``top``."""
    return {word.rstrip("0123456789") for word in re.findall(r"[a-z0-9]+", drop.metric.lower())}


def drop_number(
    value: float | None, unit: DropUnit, *, rounding: Rounding = "nearest", worded: bool = True
) -> str:
    """A drop: ``0.8 points``, ``4.1 %``, ``0.012``; without its unit unless `worded`."""
    if value is None or not math.isfinite(value):
        return DASH
    scaled = value if unit == "plain" else 100 * value
    text = number(scaled, 3 if abs(scaled) >= 10 else 2, rounding=rounding)
    if unit == "plain" or not worded:
        return text
    return f"{text} %" if unit == "percent" else f"{text} point{'' if text == '1' else 's'}"


def limit_number(limit: LimitResult, value: float | None, unit: DropUnit) -> str:
    """A measured value or bound of one limit, in that limit's unit."""
    if limit.name == "drop":
        return drop_number(value, unit)
    if limit.name == "latency":
        return milliseconds(value)
    if limit.name == "energy":
        return DASH if value is None else f"{number(value)} J"
    return size(value)


def limit_bounds(limit: LimitResult, unit: DropUnit) -> str:
    """The interval of a value that is not exact, ``−0.46 to 0.43 points``; "" for an exact one."""
    if limit.lower == limit.upper:
        return ""
    if limit.name != "drop":
        lower, upper = (limit_number(limit, value, unit) for value in (limit.lower, limit.upper))
        return f"{lower} to {upper}"
    lower = drop_number(limit.lower, unit, rounding="down", worded=False)
    return f"{lower} to {drop_number(limit.upper, unit, rounding='up')}"


def limit_asked(limit: LimitResult, unit: DropUnit) -> str:
    """What was asked, as written and, where that says more, resolved: ``9 % = 8.15 MB``."""
    resolved = limit_number(limit, limit.asked, unit)
    written = re.sub(r"(?<=\d)(?=[%A-Za-z])", " ", limit.asked_text.strip())
    plain = written.replace(" ", "").lower() == resolved.replace(" ", "").lower()
    return f"≤ {resolved}" if plain or not written else f"≤ {clean(written)} ({resolved})"


@dataclass(frozen=True)
class Pair:
    """One measured quantity of original and artifact, side by side.

    Attributes:
        key: Name in `report.json`, e.g. ``storage_bytes`` or ``latency_ms.p50``.
        title: Name for readers.
        original: Value of the original, or None.
        artifact: Value of the artifact, or None.
        original_text: The value with its unit.
        artifact_text: The value with its unit.
        comparable: Whether a ratio of the two makes sense (a score has none).
    """

    key: str
    title: str
    original: float | None
    artifact: float | None
    original_text: str
    artifact_text: str
    comparable: bool = True

    @property
    def ratio(self) -> float | None:
        """artifact / original, or None where it has no meaning."""
        if not self.comparable or not self.original or self.artifact is None:
            return None
        return self.artifact / self.original

    @property
    def drawn(self) -> bool:
        """Whether two bars say something: both measured, and counts of parameters that differ."""
        if self.ratio is None:
            return False
        return self.original != self.artifact or self.key not in ("parameters", "macs")


def pairs(report: Report) -> tuple[Pair, ...]:
    """Every quantity measured of at least one of the two, in the order in which readers care."""
    rows = [
        _pair(report, "storage_bytes", LIMIT_TITLES["storage"], size),
        _pair(report, "installed_bytes", LIMIT_TITLES["installed"], size),
        _pair(report, "memory_bytes", LIMIT_TITLES["memory"], size),
        _pair(report, "latency_ms.p50", "Time per call, median", milliseconds),
        _pair(report, "latency_ms.p95", "Time per call, slowest 5 %", milliseconds),
        _pair(report, "parameters", "Parameters", count),
        _pair(report, "macs", "Multiply-adds per example", count),
        _pair(report, "score", _score_title(report), lambda value: number(value, 4)),
    ]
    return tuple(row for row in rows if row.original is not None or row.artifact is not None)


def _score_title(report: Report) -> str:
    return "Score" if report.drop is None else f"Score: {clean(report.drop.metric, 40)}"


def _pair(report: Report, key: str, title: str, text: Callable[[Any], str]) -> Pair:
    original, artifact = (_value(sizes, key) for sizes in (report.original, report.artifact))
    return Pair(key, title, original, artifact, text(original), text(artifact), key != "score")


def _value(sizes: Sizes, key: str) -> Any:
    value: Any = sizes
    for part in key.split("."):
        value = None if value is None else getattr(value, part)
    return value
