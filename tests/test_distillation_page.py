"""What docs/distillation.md shows, run as it stands there."""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "distillation.md"


def test_the_code_of_the_page_prints_what_the_page_says():
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    blocks = re.findall(r"```(python|text)\n(.*?)```", text, re.DOTALL)
    told = io.StringIO()
    for kind, block in blocks:
        if kind == "python":
            with contextlib.redirect_stdout(told):
                exec(compile(block, str(PAGE), "exec"), names)
            continue
        assert told.getvalue() == block
        told = io.StringIO()
    assert told.getvalue() == "" and "narrower" in names
    assert type(names["narrower"]).__name__ == "Classifier"
    assert names["narrower"].hidden.weight.shape == (32, 16)
