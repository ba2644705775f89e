"""What docs/recovery.md shows, run as it stands there."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "recovery.md"


@pytest.mark.slow
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
    assert told.getvalue() == "" and "thinned" in names
