"""`lilliput finetune` on the digits that come with scikit-learn."""

from pathlib import Path

import pytest

import lilliput

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.body(x))
"""
TASK = """
import torch
import lilliput
from digits_net import Net
from sklearn.datasets import load_digits

digits = load_digits()
pixels = torch.from_numpy(digits.images.astype("float32") / 16)[:, None]
examples = [(x, int(y)) for x, y in zip(pixels, digits.target)]
torch.manual_seed(0)
task = lilliput.Task(model=Net(), metric="accuracy", train=examples[:800],
                     calibration=examples[800:900], search=examples[900:1200],
                     proof=examples[1200:])
"""


@pytest.fixture
def lessons(tmp_path, monkeypatch) -> Path:
    (tmp_path / "digits_net.py").write_text(NET)
    (tmp_path / "lessons_task.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_finetune_writes_what_load_gives_back(call, lessons):
    options = ["--epochs", 4, "--rate", 0.02, "--json"]
    done = call("finetune", "lessons_task.py", "--out", "out", *options)
    assert done.status == 0, done.err
    told = done.document
    assert told["history"][0]["score"] < 0.3 < 0.85 < told["best"]["score"]
    assert told["steps"] == 48 and told["reloads"]
    assert told["files"] == {path.name: path.stat().st_size for path in _shipped(lessons)}
    from digits_net import Net

    model = lilliput.load("out", model=Net())
    from lessons_task import examples

    hits = sum(int(model(x[None]).argmax()) == y for x, y in examples[900:1200])
    assert hits / 300 == pytest.approx(told["best"]["score"])
    assert not (lessons / "out.training").exists()


def _shipped(folder: Path) -> list[Path]:
    beside = ("manifest.json", "training.toml")
    return [path for path in (folder / "out").iterdir() if path.name not in beside]


def test_a_new_head_is_loaded_into_the_class(call, lessons):
    done = call(
        "finetune", "lessons_task.py", "--out", "out", "--classes", 12, "--part", "head",
        "--steps", 30, "--rate", 0.05,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "score on search examples" in done.out and "learned: 2 tensors of head" in done.out
    from digits_net import Net

    assert lilliput.load("out", model=Net()).head.weight.shape == (12, 32)


def test_logs_stay_beside_the_folder(call, lessons):
    done = call(
        "finetune", "lessons_task.py", "--out", "out", "--steps", 4, "--loggers", "tensorboard"
    )
    assert done.status == 0, done.err
    assert [path.name for path in (lessons / "out.training").iterdir()] == ["lilliput"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--optimizer", "adm"], "there is no optimizer 'adm'"),
        (["--epochs", "1", "--minutes", "1"], "epochs and minutes both say how long"),
        (["--part", "hed"], "the model has no module 'hed'"),
        (["--rate", "-1"], "rate = -1 is out of range"),
        (["--classes", "1"], "classes = 1 is out of range"),
    ],
)
def test_wrong_input_is_told_and_nothing_is_left(call, lessons, options, told):
    done = call("finetune", "lessons_task.py", "--out", "out", *options)
    assert done.status == 2 and told in done.err
    assert {path.name for path in lessons.iterdir()} - {"__pycache__"} == {
        "digits_net.py",
        "lessons_task.py",
    }


def test_a_task_without_training_examples_is_told(call, lessons):
    text = (lessons / "lessons_task.py").read_text().replace("train=examples[:800],", "")
    (lessons / "lessons_task.py").write_text(text)
    done = call("finetune", "lessons_task.py", "--out", "out", "--json")
    assert done.status == 2 and not (lessons / "out").exists()
    assert done.document["error"].startswith("fine-tuning needs labelled training examples")


def test_tune_writes_the_best_and_its_settings(call, lessons):
    space = "rate=1e-3..1e-1 log, batch_size=32|64"
    done = call(
        "tune", "lessons_task.py", "--out", "out", "--space", space, "--trials", 4,
        "--steps", 10, "--json",
    )  # fmt: skip
    assert done.status == 0, done.err
    told = done.document
    assert len(told["trials"]) == 4 and told["front"] == [told["best"]["number"]]
    text = (lessons / "out" / "training.toml").read_text()
    assert f"rate = {told['best']['values']['rate']}" in text or "rate" not in text
    options = ["--settings", "out/training.toml", "--json"]
    again = call("finetune", "lessons_task.py", "--out", "again", *options)
    assert again.document["best"]["score"] == told["taught"]["best"]["score"]
    more = call("tune", "lessons_task.py", "--out", "out", "--space", space, "--trials", 5,
                "--steps", 10, "--force", "--json")  # fmt: skip
    assert more.document["resumed"] == 4 and len(more.document["trials"]) == 5


def test_tune_takes_structures_that_a_function_leaves_open(call, lessons):
    (lessons / "build_net.py").write_text(
        "import lilliput\nfrom torch import nn\n\n"
        "def build():\n    size = lilliput.choice('size', 4, 32)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, size), nn.ReLU(),"
        " nn.Linear(size, 10))\n"
    )
    done = call(
        "tune", "lessons_task.py", "--out", "out", "--build", "build_net.py:build",
        "--space", "rate=0.01..0.1", "--objectives", "score, size", "--trials", 4, "--steps", 10,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "not beaten: trial" in done.out and "size =" in done.out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--space", "rte"], "cannot be read at 'rte'"),
        (["--objectives", "speed"], "each one of score, size, latency"),
        (["--build", "nowhere.py:build"], "nowhere.py"),
        (["--trials", "0"], "trials = 0 is out of range"),
    ],
)
def test_a_wrong_study_is_told(call, lessons, options, told):
    done = call("tune", "lessons_task.py", "--out", "out", *options)
    assert done.status == 2 and told in done.err and not (lessons / "out").exists()
