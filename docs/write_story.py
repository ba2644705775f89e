"""Write the figures of the image classifier's story into its page, from a run's own output.

``python examples/image_classifier.py`` first; then this copies its figures to docs/pictures/ and
fills docs/image_classifier.md from them. Without such a run it fills the page from the copy.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.story_page import chart  # noqa: E402

PAGE = ROOT / "docs" / "image_classifier.md"
FIGURES = ROOT / "docs" / "pictures" / "image_classifier.json"
STAGES = ("tuned", "augmented", "pruned", "quantized", "larger", "student", "compressed")
BLOCK = re.compile(r"(<!-- story -->\n).*?(<!-- /story -->)", re.DOTALL)


def table(stages: list[dict[str, Any]]) -> str:
    """Markdown: one line per stage."""
    lines = [
        "| stage | bytes | ms | accuracy (95 %) | ms a step | MB a step | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for one in stages:
        ends = f"{100 * one['low']:.1f} to {100 * one['high']:.1f}"
        step = "" if one["step_ms"] is None else f"{one['step_ms']:.0f}"
        held = "" if one["step_bytes"] is None else f"{one['step_bytes'] / 1e6:.1f}"
        told = one["told"] + (f"; {one['verdict']}" if one["verdict"] else "")
        lines.append(
            f"| {one['stage']} | {one['storage']:,} | {one['latency_ms']:.3f} "
            f"| {100 * one['score']:.1f} % ({ends}) | {step} | {held} | {told} |"
        )
    return "\n".join(lines) + "\n"


def filled(text: str, stages: list[dict[str, Any]]) -> str:
    """The page with the table of these figures."""
    return BLOCK.sub(lambda found: found[1] + table(stages) + found[2], text)


def main() -> None:
    """Copies what the last run measured, where there is one, and fills the page."""
    run = ROOT / "out" / "image_classifier"
    known = [run / stage / "figures.json" for stage in STAGES]
    if all(path.exists() for path in known):
        found = [json.loads(path.read_text()) for path in known]
        FIGURES.parent.mkdir(exist_ok=True)
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    stages = json.loads(FIGURES.read_text())
    FIGURES.with_suffix(".svg").write_text(chart(stages), encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), stages), encoding="utf-8")


if __name__ == "__main__":
    main()
