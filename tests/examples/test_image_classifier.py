import json
import subprocess
import sys
from pathlib import Path

import pytest
from docs import write_story

from examples import fashion_mnist, story_page

ROOT = Path(__file__).parents[2]


def test_the_page_holds_the_figures_that_were_measured():
    stages = json.loads(write_story.FIGURES.read_text())
    assert [one["stage"] for one in stages] == list(write_story.STAGES)
    text = write_story.PAGE.read_text()
    assert write_story.filled(text, stages) == text
    assert write_story.FIGURES.with_suffix(".svg").read_text() == story_page.chart(stages)


@pytest.mark.slow
@pytest.mark.skipif(
    not fashion_mnist.FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist"
)
def test_the_story_is_told_and_goes_on_where_it_stopped(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "image_classifier.py"), "--quick"]
    command += ["--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    found = {
        stage: json.loads((tmp_path / stage / "figures.json").read_text())
        for stage in write_story.STAGES
    }
    assert found["compressed"]["storage"] < 0.2 * found["student"]["storage"] * 1.5
    assert found["quantized"]["storage"] < 0.5 * found["pruned"]["storage"]
    assert all(0.5 < one["low"] < one["score"] < one["high"] for one in found.values())
    assert "<svg" in (tmp_path / "story.html").read_text()
    (tmp_path / "compressed" / "figures.json").unlink()
    again = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert again.stdout.count("...") == 1, "only the last stage is done again"
