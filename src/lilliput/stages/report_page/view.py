"""What the page says, section by section, as plain values for the templates."""

import re
from itertools import groupby, islice
from typing import Any

from lilliput.planned import Point
from lilliput.records import Drop, LimitResult, Report, Step
from lilliput.stages import wording
from lilliput.stages.generalization_rows import generalization_rows
from lilliput.stages.report_page import charts
from lilliput.stages.runtime_rows import runtime_rows, runtime_title
from lilliput.stages.summary import summary_sentence

_SPLIT_USES = {
    "calibration": "shows how each layer is used; steers the rounding, judges nothing",
    "search": "may steer which settings are chosen",
    "proof": "touched only by the finished file; decides the verdict",
}
_STAGES = (
    "prepare",
    "capture",
    "profile",
    "forecast",
    "plan",
    "apply",
    "recover",
    "export",
    "measure",
    "judge",
)
_MOST_LINES = 50
_MOST_NAMES = 200


def page_view(report: Report, rows: int) -> dict[str, Any]:
    """Everything the templates read except style, scripts and chart data.

    Args:
        report: What was measured and judged.
        rows: Most rows of any list.
    """
    return {
        **_head(report),
        "limits": [_limit(report, limit) for limit in report.limits],
        "reasons": _lines(_further_reasons(report)),
        "warnings": _lines(report.warnings),
        "pairs": wording.pairs(report),
        "scores": next((pair for pair in wording.pairs(report) if pair.key == "score"), None),
        "latency": report.artifact.latency_ms or report.original.latency_ms,
        "runtimes": runtime_rows(report)[:rows],
        "generalization": generalization_rows(report)[:rows],
        "judged": runtime_title(report.runtimes[0].name) if report.runtimes else "",
        "checkpoint": report.source_checkpoint_bytes,
        "drop": _drop(report),
        "sites": report.sites[:rows],
        "all_sites": len(report.sites),
        "average_bits": _average_bits(report),
        "classes": charts.class_rows(report)[:rows],
        "all_classes": 0 if report.drop is None else len(report.drop.per_class),
        "worst": () if report.drop is None else report.drop.worst[: min(rows, _MOST_LINES)],
        "steps": _steps(report, rows),
        "plan": report.plan,
        "planning": _planning(report),
        "recovery": _recovery(report),
        "sweep": [_point(point) for point in report.sweep[:rows]],
        "fidelity": report.fidelity,
        "seconds": _seconds(report, rows),
        "hygiene": _hygiene(report, rows),
        "environment": [_fact(*entry) for entry in _entries(report.environment, rows)],
        "files": _entries(report.files, rows),
        "command": wording.clean(report.command, 4000),
        "seed": report.seed,
        "rows": rows,
    }


def _head(report: Report) -> dict[str, Any]:
    sentences = wording.clean(report.summary or summary_sentence(report), 1200)
    first, *rest = re.split(r"(?<=[.!?])\s+", sentences, maxsplit=1)
    return {
        "task": wording.clean(report.task),
        "verdict": report.verdict,
        "verdict_title": wording.VERDICT_TITLES[report.verdict],
        "headline": _unbroken(first),
        "details": _unbroken(rest[0]) if rest else "",
        "figures": _figures(report),
    }


def _unbroken(text: str) -> str:
    """The same text, a number never parted from its unit by the end of a line."""
    return re.sub(r"(?<=\d) (?=(?:%|points?|[kMGT]?B|ms)(?!\w))", "\u00a0", text)


def _figures(report: Report) -> list[dict[str, str]]:
    """The three or four numbers that a hurried reader wants."""
    wanted = ("storage_bytes", "memory_bytes", "latency_ms.p50")
    figures = [
        {
            "title": pair.title,
            "value": pair.artifact_text,
            "note": _note(pair),
        }
        for pair in wording.pairs(report)
        if pair.key in wanted and pair.artifact is not None
    ]
    drop = report.drop
    if drop is not None and drop.upper is not None:
        figures.append(
            {
                "title": "Loss of quality",
                "value": f"≤ {_upper(report, drop)}",
                "note": f"{wording.number(100 * drop.confidence, 4)} % sure, "
                f"{wording.count(drop.examples)} examples",
            }
        )
    return figures


def _upper(report: Report, drop: Drop) -> str:
    return wording.drop_number(drop.upper, wording.report_unit(report), rounding="up")


def _note(pair: wording.Pair) -> str:
    if pair.original is None:
        return "original not measured"
    return f"was {pair.original_text}" + (f" ({wording.times(pair.ratio)})" if pair.ratio else "")


def _limit(report: Report, limit: LimitResult) -> dict[str, Any]:
    unit = wording.report_unit(report)
    return {
        "title": wording.LIMIT_TITLES[limit.name],
        "name": limit.name,
        "asked": wording.limit_asked(limit, unit),
        "value": wording.limit_number(limit, limit.value, unit),
        "bounds": "" if limit.value is None else wording.limit_bounds(limit, unit),
        "verdict": limit.verdict,
        "verdict_title": wording.VERDICT_TITLES[limit.verdict],
        "reason": wording.clean(limit.reason, 600),
    }


def _drop(report: Report) -> dict[str, Any] | None:
    drop, picture = report.drop, charts.interval(report)
    if drop is None or picture is None:
        return None
    unit = wording.report_unit(report)
    estimate = drop.estimate or 0.0

    def text(value: float | None, rounding: wording.Rounding = "nearest") -> str:
        return wording.drop_number(value, unit, rounding=rounding)

    def tick(value: float) -> str:
        return wording.drop_number(value, unit, worded=unit == "percent")

    return {
        "picture": picture | {"ticks": [(at, tick(value)) for at, value in picture["ticks"]]},
        "record": drop,
        "metric": wording.clean(drop.metric, 60),
        "estimate": text(drop.estimate),
        "lower": text(drop.lower, "down"),
        "upper": text(drop.upper, "up"),
        "limit": None if picture["limit"] is None else text(picture["limit_value"]),
        "in_points": unit == "points",
        "range": wording.drop_number(drop.lower, unit, rounding="down", worded=False),
        "confidence": wording.number(100 * drop.confidence, 4),
        "better": wording.drop_number(-estimate, unit) if estimate < 0 else "",
    }


def _average_bits(report: Report) -> float | None:
    """Bits per weight over all sites, weighted by their sizes."""
    sizes = [(site.bits, _weights(site.shape)) for site in report.sites]
    total = sum(weights for bits, weights in sizes if bits is not None)
    return sum((bits or 0) * weights for bits, weights in sizes) / total if total else None


def _weights(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _steps(report: Report, rows: int) -> list[dict[str, Any]]:
    """What was done, neighbouring steps of one technique as one."""
    most = min(rows, _MOST_NAMES)
    groups = groupby(report.plan.steps, key=lambda step: step.technique)
    return [_together(name, tuple(steps), most) for name, steps in islice(groups, _MOST_LINES)]


def _together(technique: str, steps: tuple[Step, ...], most: int) -> dict[str, Any]:
    """Steps of one technique: the settings they share, and each one's weights and own settings."""
    shared = dict(set.intersection(*(set(step.settings.items()) for step in steps)))
    parts = [
        (where, _settings({k: v for k, v in step.settings.items() if k not in shared}))
        for step in steps
        for where in step.where
    ]
    return {
        "technique": wording.clean(technique, 80),
        "shared": _settings(shared),
        "total": len(parts),
        "parts": [(wording.clean(name, charts.NAME_LENGTH), own) for name, own in parts[:most]],
    }


def _planning(report: Report) -> dict[str, Any] | None:
    """How the plan was found; predicted beside measured."""
    found = report.planning
    if found is None:
        return None
    shown = {"latency": wording.milliseconds, "divergence": wording.number}
    return {
        "stopped": wording.clean(found.stopped, 300),
        "tried": found.tried,
        "pricing_error": found.pricing_error,
        "compared": [
            (wording.clean(c.name, 80), wording.number(c.predicted), wording.number(c.divergence))
            for c in found.compared[:_MOST_LINES]
        ],
        "predictions": [
            (wording.clean(p.name, 80), text(p.predicted), text(p.measured))
            for p in found.predictions[:_MOST_LINES]
            for text in [shown.get(p.name, wording.size)]
        ],
    }


def _recovery(report: Report) -> dict[str, Any] | None:
    """What was learned back."""
    found = report.recovery
    if found is None:
        return None
    what = "all weights" if found.strength == "full" else "scales, biases and norms"
    return {
        "what": what,
        "steps": found.steps,
        "seconds": found.seconds,
        "watched": wording.clean(found.watched, 80),
        "before": wording.number(found.before),
        "after": wording.number(found.after),
        "kept": found.kept,
        "notes": _lines(found.notes),
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "name": wording.clean(point.name, 40),
        "plan": wording.clean(point.plan, 80),
        "storage": wording.size(point.storage_bytes),
        "installed": wording.size(point.installed_bytes),
        "latency": wording.milliseconds(point.latency_ms),
        "divergence": wording.number(point.divergence),
        "predicted": wording.number(point.predicted_divergence),
        "on_front": point.on_front,
        "chosen": point.chosen,
    }


def _settings(settings: dict[str, Any]) -> str:
    """``columns = True, step = 0.0167``"""
    shown = islice(sorted(settings.items()), _MOST_LINES)
    return ", ".join(f"{wording.clean(k, 60)} = {wording.clean(_plain(v), 120)}" for k, v in shown)


def _plain(value: bool | int | float | str) -> str:
    return wording.number(value, 4) if isinstance(value, float) else str(value)


def _hygiene(report: Report, rows: int) -> list[dict[str, Any]]:
    known = [name for name in _SPLIT_USES if name in report.splits or name in report.looks]
    others = sorted((set(report.splits) | set(report.looks)) - set(known))
    return [
        {
            "name": wording.clean(name, 60),
            "examples": report.splits.get(name),
            "looks": report.looks.get(name),
            "use": _SPLIT_USES.get(name, ""),
        }
        for name in (known + others)[:rows]
    ]


def _seconds(report: Report, rows: int) -> list[tuple[str, float]]:
    """Stages in the order in which they run."""
    rank = {name: place for place, name in enumerate(_STAGES)}
    entries = sorted(report.seconds.items(), key=lambda entry: (rank.get(entry[0], 99), entry[0]))
    return _entries(dict(entries), rows)


def _further_reasons(report: Report) -> tuple[str, ...]:
    """The reasons that the table of limits does not give already."""
    told = {limit.reason for limit in report.limits}
    return tuple(reason for reason in report.reasons if reason not in told)


def _lines(texts: tuple[str, ...]) -> list[str]:
    shown = [wording.clean(text, 600) for text in texts[:_MOST_LINES]]
    hidden = len(texts) - len(shown)
    return [*shown, f"… and {hidden} more in report.json"] if hidden > 0 else shown


def _entries(mapping: dict[str, Any], rows: int) -> list[tuple[str, Any]]:
    return [(wording.clean(name), value) for name, value in islice(mapping.items(), rows)]


def _fact(name: str, value: str) -> tuple[str, str]:
    """A line of the environment; bytes in a unit that can be read."""
    if name.endswith("_bytes") and value.isdecimal():
        return name.removesuffix("_bytes").replace("_", " "), wording.size(int(value[:18]))
    return name.replace("_", " "), wording.clean(value)
