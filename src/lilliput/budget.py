"""The limits: what may remain of each size, and how much worse the score may get."""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Literal

from lilliput.errors import BudgetError
from lilliput.metrics import Metric
from lilliput.records import LimitName

Unit = Literal["share", "bytes", "ms", "joules", "metric"]
Amount = float | int | str

NAMES: tuple[LimitName, ...] = ("storage", "installed", "memory", "latency", "energy", "drop")
SIZES: tuple[LimitName, ...] = ("storage", "installed", "memory")
MEASURABLE: tuple[LimitName, ...] = ("storage", "installed", "memory", "latency", "drop")

FORMS: dict[LimitName, str] = {
    "storage": "a share such as 0.12 or 12%, or bytes such as 4000000, 4MB or 4MiB",
    "installed": "a share such as 0.12 or 12%, or bytes such as 4000000, 4MB or 4MiB",
    "memory": "a share such as 0.12 or 12%, or bytes such as 4000000, 4MB or 4MiB",
    "latency": "a share such as 0.5 or 50%, or a time such as 5ms or 0.2s",
    "energy": "a share such as 0.5 or 50%, or joules such as 3J",
    "drop": "points or percent such as 1%, or a plain number in the metric's unit such as 0.01",
}
SCALES: dict[Unit, dict[str, float]] = {
    "bytes": {
        "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
        "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
    },
    "ms": {"us": 1e-3, "µs": 1e-3, "ms": 1, "s": 1e3},
    "joules": {"mj": 1e-3, "j": 1},
}  # fmt: skip
UNITS: dict[LimitName, Unit] = {
    "storage": "bytes",
    "installed": "bytes",
    "memory": "bytes",
    "latency": "ms",
    "energy": "joules",
    "drop": "metric",
}


@dataclass(frozen=True)
class Limit:
    """One limit as it was asked for.

    Attributes:
        name: Which quantity is limited.
        amount: A fraction for ``share``, otherwise a number in `unit`.
        unit: ``share`` (of the original; for a drop: points of a metric in [0, 1], or relative to
            the original for an unbounded positive metric), ``bytes``, ``ms``, ``joules`` or
            ``metric`` (a plain number in the metric's unit).
        text: What the user wrote, normalised, e.g. ``9%`` or ``4MB``; `parse_limit` reads it back.
    """

    name: LimitName
    amount: float
    unit: Unit
    text: str

    def resolve(self, original: float) -> float:
        """The largest value allowed to remain, in bytes, ms or joules.

        Args:
            original: The same quantity of the original. For sizes the result is whole bytes.

        Raises:
            BudgetError: For a drop, whose meaning depends on the metric: see `resolve_drop`.
        """
        if self.name == "drop":
            raise BudgetError("a drop is resolved against its metric", "use resolve_drop()")
        if self.unit != "share":
            return self.amount
        value = self.amount * original
        return float(math.floor(value + 1e-6)) if self.name in SIZES else value


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may remain. Every limit is optional; nothing given means ``drop="1%"``.

    Args:
        storage: Bytes of the packed file (what is downloaded).
        installed: Bytes of the runnable file on disk.
        memory: Bytes resident while it runs, above the runtime's own.
        latency: Time of one call.
        energy: Not measurable here: refused.
        drop: Signed worsening of the score.

    A float in (0, 1) is a share of the original, an int is bytes, a string is what the shell takes
    (``"12%"``, ``"4MB"``, ``"4 MiB"``, ``"5ms"``). For `drop`, ``"1%"`` or ``0.01`` on a metric in
    [0, 1] is one point, ``"5%"`` of an unbounded positive metric is relative to the original, and
    comparisons with the original take plain numbers.

    Raises:
        BudgetError: Nonsense, or a limit that cannot be measured here.
    """

    storage: Amount | None = None
    installed: Amount | None = None
    memory: Amount | None = None
    latency: Amount | None = None
    energy: Amount | None = None
    drop: Amount | None = None

    def __post_init__(self) -> None:
        _ = self.limits

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits asked for, in the order of the fields; ``drop="1%"`` if there are none."""
        asked = ((name, getattr(self, name)) for name in NAMES)
        limits = tuple(parse_limit(name, value) for name, value in asked if value is not None)
        return limits or (parse_limit("drop", "1%"),)

    @property
    def objective(self) -> Literal["least damage", "least storage"]:
        """Least storage where only the drop is limited, else least damage inside the limits."""
        only_drop = all(limit.name == "drop" for limit in self.limits)
        return "least storage" if only_drop else "least damage"

    def limit(self, name: LimitName) -> Limit | None:
        """The limit of that name, or None."""
        return next((limit for limit in self.limits if limit.name == name), None)

    def text(self) -> dict[str, str]:
        """Name -> normalised text: what reports show; ``Budget(**text)`` is the same budget."""
        return {limit.name: limit.text for limit in self.limits}


def parse_limit(name: str, value: object) -> Limit:
    """Read one limit as a user writes it.

    Args:
        name: One of `NAMES`.
        value: A float (share), an int (bytes) or a string.

    Raises:
        BudgetError: Anything else; the message echoes the value and the hint names the form.
    """
    limit_name = _known(name)
    if limit_name not in MEASURABLE:
        raise BudgetError(
            f"{name} cannot be measured here", f"limits that can: {', '.join(MEASURABLE)}"
        )
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _nonsense(limit_name, value)
    if isinstance(value, str):
        return _parse_text(limit_name, value)
    return _parse_number(limit_name, value)


def resolve_drop(limit: Limit, metric: Metric, original_score: float) -> tuple[float, bool]:
    """The allowed worsening in the metric's unit, and whether it was meant relatively.

    Args:
        limit: The drop limit.
        metric: The metric it limits.
        original_score: The original's score: the base of a relative limit.

    Returns:
        (allowed, relative): artifact may be at most `allowed` worse; `relative` says that reports
        state the drop divided by the original's score.

    Raises:
        BudgetError: A percentage where only a plain number has a meaning, or more than the range.
    """
    low, high = metric.range
    bounded = (low, high) == (0.0, 1.0)
    if limit.unit == "metric" or bounded:
        if math.isfinite(high - low) and limit.amount > high - low:
            raise BudgetError(
                f"drop {limit.text}: {metric.name} lies between {low:g} and {high:g}",
                "ask for less than its whole range",
            )
        return limit.amount, False
    if metric.reference == "original":
        raise BudgetError(
            f"drop {limit.text}: {metric.name} compares with the original, where a percentage "
            "has no meaning",
            "give a plain number, e.g. --drop 0.02",
        )
    if not (low >= 0 and math.isinf(high)):
        raise BudgetError(
            f"drop {limit.text}: {metric.name} is neither in [0, 1] nor unbounded and positive",
            "give a plain number in the metric's unit",
        )
    return limit.amount * original_score, True


def _known(name: str) -> LimitName:
    for known in NAMES:
        if name == known:
            return known
    close = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the limits are {', '.join(NAMES)}"
    raise BudgetError(f"there is no limit {name!r}", hint)


def _nonsense(name: LimitName, value: object) -> BudgetError:
    return BudgetError(f"{name} {value!r} is not a limit", f"give {FORMS[name]}")


def _parse_number(name: LimitName, value: float) -> Limit:
    if not math.isfinite(value) or value <= 0:
        raise _nonsense(name, value)
    if name == "drop":
        return Limit(name, float(value), "metric", _plain(value))
    if isinstance(value, int) and UNITS[name] == "bytes":
        return Limit(name, float(value), "bytes", f"{value}B")
    if isinstance(value, float) and value < 1:
        return Limit(name, value, "share", f"{_plain(value * 100)}%")
    raise _nonsense(name, value)


def _parse_text(name: LimitName, value: str) -> Limit:
    found = re.fullmatch(r"\s*(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)\s*([%a-zA-Zµ]*)\s*", value)
    if not found:
        raise _nonsense(name, value)
    number, unit = float(found[1]), found[2]
    if not math.isfinite(number) or number <= 0:
        raise _nonsense(name, value)
    if unit == "%":
        return _percent(name, number, value)
    if not unit:
        whole = found[1].isdigit() and name != "drop"
        return _parse_number(name, int(found[1]) if whole else number)
    scale = SCALES.get(UNITS[name], {}).get(unit.lower())
    if scale is None:
        raise _nonsense(name, value)
    shown = f"{_plain(number)}{unit}"
    return Limit(name, number * scale, UNITS[name], shown)


def _percent(name: LimitName, percent: float, value: str) -> Limit:
    if percent >= 100 and name != "drop":
        raise _nonsense(name, value)
    return Limit(name, percent / 100, "share", f"{_plain(percent)}%")


def _plain(number: float) -> str:
    """Shortest text that reads back as the same number to 12 digits, without an exponent."""
    return f"{number:.12f}".rstrip("0").rstrip(".") if abs(number) < 1e15 else f"{number:.0f}"
