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
WORDS = {"relative": "relative error", "kl": "KL", "root_kl": "√KL"}


def table(records: Sequence[Record]) -> str:
    """Markdown: one line per (setting, peer), the median over seeds and (lowest to highest)."""
    names = [name for name in records[0].errors if name in WORDS]
    lines = [
        "| setting | what | % of fp32 bytes | " + " | ".join(WORDS[name] for name in names) + " |",
        "|---|---|---:|" + "---:|" * len(names),
    ]
    for (setting, peer), group in sorted(_groups(records).items(), key=_order):
        cells = [spread([record.errors[name] for record in group]) for name in names]
        share = 100 * median(record.share for record in group)
        lines.append(f"| {setting} | {peer} | {share:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> str:
    """Median and, in brackets, lowest and highest."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


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


def _order(entry: tuple[tuple[str, str], list[Record]]) -> tuple[float, float]:
    (setting, _), group = entry
    first = next(iter(group[0].errors))
    size = float(re.sub(r"\D", "", setting) or 0)
    return -size, -median(record.errors[first] for record in group)


def main(arguments: Sequence[str]) -> None:
    """Rewrite the given files, or those that exist of `FILES`."""
    for path in [Path(each) for each in arguments] or [ROOT / name for name in FILES]:
        if path.exists():
            path.write_text(rewrite(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
