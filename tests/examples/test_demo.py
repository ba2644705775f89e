import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from examples import demo, demo_task
from lilliput.cli.commands import app
from lilliput.model.capture import capture
from lilliput.validation import check_task

ROOT = Path(__file__).parents[2]


def test_the_demo_is_a_command_that_is_known():
    command = shlex.split(demo.COMMAND)
    app.parse_args(command, exit_on_error=False, print_error=False)
    assert command[1] == "examples/demo_task.py" and (ROOT / command[1]).is_file()
    assert "--force" in command, "it must work when run again"


def test_the_demo_shows_its_command_and_passes_the_status_on(tmp_path):
    (tmp_path / "examples").mkdir()
    script = tmp_path / "examples" / "demo.py"
    script.write_text(Path(demo.__file__).read_text())
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"$ lilliput {demo.COMMAND}\n")
    assert "examples/demo_task.py" in done.stderr.splitlines()[1]


@pytest.mark.slow
def test_the_demos_task_holds_and_almost_all_weights_are_sites(monkeypatch):
    monkeypatch.setattr(demo_task, "FIT", 64)
    task = demo_task.task()
    assert check_task(task, most=8).name == "accuracy"
    split = task.split(0)
    assert (len(split.calibration), len(split.search)) == (500, 750) and len(split.proof) > 6_800
    captured = capture(task.model, task.sample(2), dynamic=task.varying())
    weights = sum(site.size for site in captured.sites.values())
    assert weights > 0.995 * sum(p.numel() for p in task.model.parameters())
