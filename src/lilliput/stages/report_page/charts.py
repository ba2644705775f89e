"""The data behind the page's interactive charts, and the geometry of those drawn without script."""

import json
import math
from typing import Any

from markupsafe import Markup

from lilliput.planned import Point
from lilliput.records import Report, SiteReport
from lilliput.stages import wording

NAME_LENGTH = 120
MOST_CLASSES = 30

_LAYER_VALUES = (
    ("bits", "Bits per weight", "bits"),
    ("storage_bytes", "Size in the packed file", "bytes"),
    ("sensitivity", "Sensitivity of the answers", ""),
    ("damage", "Error of the layer's output", ""),
    ("macs", "Multiply-adds per example", ""),
)


def embed_json(data: Any) -> Markup:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def chart_data(report: Report, rows: int) -> dict[str, Any]:
    """What `page.js` draws, by the id of the chart's canvas; absent where there is nothing to show.

    Args:
        report: What was measured and judged.
        rows: Most sites to keep.
    """
    data: dict[str, Any] = {}
    sites = report.sites[:rows]
    values = [_layer_value(sites, *entry) for entry in _LAYER_VALUES]
    values = [value for value in values if any(v is not None for v in value["values"])]
    if values:
        data["layers"] = {
            "names": [wording.clean(site.name, NAME_LENGTH) for site in sites],
            "kinds": [wording.clean(site.kind, 20) for site in sites],
            "values": values,
            "bound": [site.bound_bits for site in sites],
        }
    points = [
        _point(site) for site in sites if site.bits is not None and (site.sensitivity or 0) > 0
    ]
    if len(points) > 1:
        data["sensitivity"] = {"points": points}
    front = [_sweep_point(point) for point in report.sweep if point.divergence]
    if len(front) > 1:
        data["sweep"] = {"points": front}
    if class_rows(report):
        data["classes"] = _classes(report)
    return data


def _layer_value(sites: tuple[SiteReport, ...], key: str, title: str, unit: str) -> dict[str, Any]:
    return {"key": key, "title": title, "unit": unit, "values": [getattr(s, key) for s in sites]}


def _point(site: SiteReport) -> dict[str, Any]:
    name = wording.clean(site.name, NAME_LENGTH)
    return {"x": site.sensitivity, "y": site.bits, "bytes": site.original_bytes, "name": name}


def _sweep_point(point: Point) -> dict[str, Any]:
    return {
        "x": point.storage_bytes,
        "y": point.divergence,
        "ms": point.latency_ms,
        "name": wording.clean(point.name, 40),
        "front": point.on_front,
        "chosen": point.chosen,
    }


def class_rows(report: Report) -> list[dict[str, Any]]:
    """Classes with their change in points of 100, the worst first."""
    rows = []
    for entry in () if report.drop is None else report.drop.per_class:
        known = entry.original is not None and entry.artifact is not None
        change = 100 * ((entry.artifact or 0.0) - (entry.original or 0.0)) if known else None
        rows.append(
            {
                "label": wording.clean(entry.label, NAME_LENGTH),
                "examples": entry.examples,
                "original": entry.original,
                "artifact": entry.artifact,
                "flips": entry.flips,
                "change": change,
            }
        )
    return sorted(rows, key=lambda row: (row["change"] is None, row["change"] or 0, row["label"]))


def _classes(report: Report) -> dict[str, Any]:
    rows = [row for row in class_rows(report) if row["change"] is not None]
    if len(rows) > MOST_CLASSES:
        rows = rows[: MOST_CLASSES * 2 // 3] + rows[-(MOST_CLASSES - MOST_CLASSES * 2 // 3) :]
    return {key: [row[key] for row in rows] for key in ("label", "change", "original", "artifact")}


def interval(report: Report) -> dict[str, Any] | None:
    """Geometry of the drop's interval in percent of the width; None where nothing was measured.

    The axis holds zero, the interval and the limit with a margin; `ticks` are round numbers.
    """
    drop = report.drop
    if drop is None or drop.estimate is None:
        return None
    limit = next((limit.asked for limit in report.limits if limit.name == "drop"), None)
    lower = drop.estimate if drop.lower is None else drop.lower
    upper = drop.estimate if drop.upper is None else drop.upper
    inside = [0.0, drop.estimate, lower, upper, *([] if limit is None else [limit])]
    width = max(inside) - min(inside) or 0.01
    start, end = min(inside) - 0.12 * width, max(inside) + 0.12 * width

    def place(value: float) -> float:
        return round(100 * (value - start) / (end - start), 3)

    return {
        "zero": place(0.0),
        "estimate": place(drop.estimate),
        "lower": place(lower),
        "upper": place(upper),
        "limit": None if limit is None else place(limit),
        "limit_value": limit,
        "open": drop.upper is None,
        "ticks": [(place(tick), tick) for tick in ticks(start, end)],
    }


def ticks(start: float, end: float, most: int = 6) -> list[float]:
    """Round numbers within [start, end], at most `most` + 1, in steps of 1, 2 or 5 times 10^k."""
    raw = (end - start) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9)
    return [index * step for index in range(first, last + 1)]
