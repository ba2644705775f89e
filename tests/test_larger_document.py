"""What docs/shapes.md says of larger models, run."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "shapes.md"


def test_the_examples_of_the_chapter_run():
    chapter = PAGE.read_text(encoding="utf-8").partition("## Larger")[2].partition("\n## ")[0]
    examples = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    assert len(examples) == 4
    names = {}
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), names)
    assert names["student"].last.in_features == 8
