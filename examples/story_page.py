"""The page of a story: a table of its stages and a chart of size against score, in one file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

WIDE, HIGH, EDGE = 720, 420, 64

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>The life of a small image classifier</title>
<style>
body {font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;}
table {border-collapse: collapse; width: 100%;}
td, th {padding: .3rem .6rem; text-align: right; white-space: nowrap;}
td:first-child, th:first-child, td:last-child, th:last-child {text-align: left;}
td:last-child {white-space: normal;}
tr {border-bottom: 1px solid #ccc;}
</style>
<h1>The life of a small image classifier</h1>
<p>Every figure was measured on the stage's own file: bytes as it is downloaded, milliseconds of one
picture in ONNX Runtime, accuracy on 2,000 test pictures with a 95 % interval.</p>
{{ chart }}
<table><tr><th>stage<th>bytes<th>ms<th>accuracy<th>95 %<th>ms a step<th>MB a step<th>what</tr>
{% for one in stages %}<tr><td>{{ one.stage }}<td>{{ "{:,}".format(one.storage) }}
<td>{{ "%.3f"|format(one.latency_ms) }}<td>{{ "%.1f"|format(100 * one.score) }} %
<td>{{ "%.1f"|format(100 * one.low) }} to {{ "%.1f"|format(100 * one.high) }}
<td>{{ "" if one.step_ms is none else "%.0f"|format(one.step_ms) }}
<td>{{ "" if one.step_bytes is none else "%.1f"|format(one.step_bytes / 1e6) }}
<td>{{ one.told }}{{ "; " + one.verdict if one.verdict }}</tr>
{% endfor %}</table></html>
"""


def write_page(stages: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes the page, and its chart beside it."""
    picture = chart(stages)
    text = Environment(autoescape=True).from_string(PAGE).render(stages=stages, chart="{chart}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("{chart}", picture), encoding="utf-8")
    path.with_suffix(".svg").write_text(picture, encoding="utf-8")


def chart(stages: Sequence[dict[str, Any]]) -> str:
    """Size (logarithmic) against score with its interval, as SVG."""
    sizes = [math.log10(one["storage"]) for one in stages]
    left, right = min(sizes) - 0.2, max(sizes) + 0.2
    low, high = min(one["low"] for one in stages) - 0.01, max(one["high"] for one in stages) + 0.01
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" role="img" '
        'aria-label="size against accuracy" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{WIDE}" height="{HIGH}" fill="#fff"/>',
    ]

    def across(size: float) -> float:
        return EDGE + (size - left) / (right - left) * (WIDE - 2 * EDGE)

    def down(score: float) -> float:
        return HIGH - EDGE - (score - low) / (high - low) * (HIGH - 2 * EDGE)

    for tick in range(math.ceil(low * 100), math.floor(high * 100) + 1):
        y = down(tick / 100)
        parts.append(f'<line x1="{EDGE}" x2="{WIDE - EDGE}" y1="{y:.1f}" y2="{y:.1f}" ')
        parts.append('stroke="#ddd"/>')
        parts.append(f'<text x="{EDGE - 8}" y="{y + 4:.1f}" text-anchor="end">{tick} %</text>')
    for power in range(math.ceil(left), math.floor(right) + 1):
        for step in (1, 2, 5):
            size = power + math.log10(step)
            if left <= size <= right:
                told = f"{10**power * step:,}"
                parts.append(f'<text x="{across(size):.1f}" y="{HIGH - EDGE + 24}" ')
                parts.append(f'text-anchor="middle">{told}</text>')
    parts.append(f'<text x="{WIDE / 2}" y="{HIGH - 16}" text-anchor="middle">bytes</text>')
    for one, size in zip(stages, sizes, strict=True):
        x, y = across(size), down(one["score"])
        ends = f'y1="{down(one["low"]):.1f}" y2="{down(one["high"]):.1f}"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" {ends} stroke="#2563eb"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#2563eb"/>')
        parts.append(f'<text x="{x + 8:.1f}" y="{y - 8:.1f}">{one["stage"]}</text>')
    return "".join([*parts, "</svg>"])
