"""Write the demo's answer into README.md, from the report that `make demo` left in out/demo."""

import re
from io import StringIO
from pathlib import Path

from rich.console import Console

from lilliput.stages.report import read_report
from lilliput.stages.summary import summary_table

ROOT = Path(__file__).resolve().parents[1]
OUT = Path("out") / "demo"
BLOCK = re.compile(r"(?<=<!-- demo:begin -->\n).*?(?=<!-- demo:end -->)", re.DOTALL)


def answer(folder: Path) -> str:
    """What the terminal showed at the end of the demo, 100 columns wide."""
    console = Console(file=StringIO(), width=100, highlight=False, color_system=None)
    console.print(summary_table(read_report(folder), OUT), markup=False)
    lines = console.file.getvalue().splitlines()
    return "\n```text\n" + "\n".join(line.rstrip() for line in lines) + "\n```\n\n"


if __name__ == "__main__":
    page, found = ROOT / "README.md", ROOT / OUT
    if (found / "report.json").exists():
        text = page.read_text(encoding="utf-8")
        page.write_text(BLOCK.sub(lambda _: answer(found), text), encoding="utf-8")
