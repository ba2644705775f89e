"""Tables from the committed results: ``python -m benchmarks.table [FILE ...]`` rewrites them.

In each file (README.md and docs/benchmarks.md by default) the text between the two lines
``<!-- benchmarks:ROW ... -->`` and ``<!-- /benchmarks -->`` is replaced by the rows' table.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.record import RESULTS, Record, read

ROOT = Path(__file__).resolve().parents[1]
FILES = ("README.md", "docs/benchmarks.md")
BLOCK = re.compile(r"(<!-- benchmarks:([\w ]+?) -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)
# What is shown of a record's errors and details: name -> (heading, scale, decimals).
WORDS = {
    "perplexity": ("perplexity", 1, 2),
    "relative": ("relative error", 1, 3),
    "kl": ("KL", 1, 3),
    "root_kl": ("√KL", 1, 3),
    "accuracy": ("accuracy, %", 100, 2),
    "grown_ahead": ("grown is ahead by, points", 100, 2),
    "grown_ahead_at_least": ("at least", 100, 2),
    "gain": ("gain, points", 100, 2),
    "drop": ("drop × 100", 100, 2),
    "upper": ("upper bound × 100", 100, 2),
    "flips": ("flips", 1, 0),
    "proved": ("proved", 1, 0),
    "times_a_bare_step": ("times a bare step", 1, 3),
    "times_smaller": ("times smaller", 1, 1),
    "times_fewer_macs": ("times fewer multiply-adds", 1, 2),
    "bits_above_bound": ("bits above the bound", 1, 3),
    "seconds": ("seconds", 1, 0),
    "processor_seconds": ("processor seconds", 1, 0),
    "memory_bytes": ("memory, GB", 1e-9, 2),
    "unpack_seconds": ("seconds to unpack", 1, 2),
    "decibels": ("fidelity, dB", 1, 0),
    "same_top_1": ("same top-1, %", 100, 1),
    "floats_as": ("floats as", 1, 0),
    "faster_batch_1": ("times faster, batch 1", 1, 2),
    "faster_batch_8": ("batch 8", 1, 2),
    "faster_than_float32_batch_1": ("times faster than in float32, batch 1", 1, 2),
    "faster_than_float32_batch_8": ("than in float32, batch 8", 1, 2),
}


def table(records: Sequence[Record]) -> str:
    """Markdown: one line per (setting, peer), the median over seeds and (lowest to highest)."""
    names = [name for name in WORDS if any(_value(record, name) is not None for record in records)]
    headings = " | ".join(WORDS[name][0] for name in names)
    lines = [
        f"| setting | what | % of fp32 bytes | {headings} |",
        "|---|---|---:|" + "---:|" * len(names),
    ]
    for (setting, peer), group in sorted(_groups(records).items(), key=_order):
        cells = [_cell(group, name) for name in names]
        share = 100 * median(record.share for record in group)
        lines.append(f"| {setting} | {peer} | {share:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], decimals: int = 3) -> str:
    """Median and, in brackets, lowest and highest."""
    low, middle, high = (f"{v:.{decimals}f}" for v in (min(values), median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def _value(record: Record, name: str) -> float | str | None:
    value = record.errors.get(name, record.details.get(name))
    if isinstance(value, int | float):
        return float(value)
    return value if isinstance(value, str) else None


def _cell(group: Sequence[Record], name: str) -> str:
    """How many were proved, which words there are; of anything else the median with its spread."""
    _, scale, decimals = WORDS[name]
    known = [value for record in group if (value := _value(record, name)) is not None]
    if words := sorted({value for value in known if isinstance(value, str)}):
        return ", ".join(words)
    values = [scale * value for value in known if isinstance(value, float)]
    if not values:
        return "–"
    if name == "proved":
        return f"{sum(values):.0f} of {len(values)}"
    return spread(values, decimals)


def rewrite(text: str, folder: Path = RESULTS) -> str:
    """The text with every marked block filled in from the results of its rows."""

    def fill(match: re.Match[str]) -> str:
        records = [record for row in match[2].split() for record in read(row, folder)]
        return match[1] + (table(records) if records else "Not measured yet.\n") + match[3]

    return BLOCK.sub(fill, text)


def _groups(records: Iterable[Record]) -> dict[tuple[str, str], list[Record]]:
    groups = defaultdict(list)
    for record in records:
        groups[record.setting, record.peer].append(record)
    return groups


def _order(entry: tuple[tuple[str, str], list[Record]]) -> tuple[float, str, float]:
    """By the size in the setting, or else by its name; then the worst first."""
    (setting, _), group = entry
    first = next(iter(group[0].errors), None)
    size = re.sub(r"[^\d.]", "", setting)
    worst = -median(record.errors[first] if first else 0.0 for record in group)
    return -float(size or 0), "" if size else setting, worst


def main(arguments: Sequence[str]) -> None:
    """Rewrite the given files, or those that exist of `FILES`."""
    for path in [Path(each) for each in arguments] or [ROOT / name for name in FILES]:
        if path.exists():
            path.write_text(rewrite(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
