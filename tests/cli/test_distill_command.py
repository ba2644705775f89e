"""`lilliput distill` on the digits that come with scikit-learn."""

from pathlib import Path

import pytest

import lilliput

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU())
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(x))

def small():
    return Net(8)

def five():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
"""
TASK = """
import torch
import lilliput
from pupils_net import Net
from sklearn.datasets import load_digits

digits = load_digits()
pixels = torch.from_numpy(digits.images.astype("float32") / 16)[:, None]
examples = [(x, int(y)) for x, y in zip(pixels, digits.target)]
torch.manual_seed(0)
untrained = lilliput.Task(model=Net(), metric="accuracy", train=examples[:800],
                          calibration=examples[800:900], search=examples[900:1200],
                          proof=examples[1200:])
task = lilliput.finetune(untrained, training=lilliput.Training(epochs=4, rate=0.02)).task(untrained)
"""
TRAINING = ("--epochs", 4, "--rate", 0.02)


@pytest.fixture
def lessons(tmp_path, monkeypatch) -> Path:
    (tmp_path / "pupils_net.py").write_text(NET)
    (tmp_path / "pupils_task.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("student", "width"), [("pupils_net.py:small", 8), ("0.5", 16)])
def test_a_student_is_written_and_loaded_back(call, lessons, student, width):
    options = ["--features", 0.5, "--teacher-precision", "int8", *TRAINING, "--json"]
    done = call("distill", "pupils_task.py", "--student", student, "--out", "out", *options)
    assert done.status == 0, done.err
    told = done.document
    assert told["history"][0]["score"] < told["best"]["score"] > 0.6 and told["reloads"]
    assert any(note.startswith("teachers kept in int8: ") for note in told["notes"])
    from pupils_net import Net

    model = lilliput.load("out", model=Net(8 if width == 8 else 32))
    assert model.head.weight.shape == (10, width)
    from pupils_task import examples

    hits = sum(int(model(x[None]).argmax()) == y for x, y in examples[900:1200])
    assert hits / 300 == pytest.approx(told["best"]["score"])
    assert not (lessons / "out.training").exists()


def test_all_losses_and_kept_answers_are_reached(call, lessons):
    losses = ["--temperature", 2, "--targets", 0.5, "--relations", 0.1, "--keep-answers", "kept"]
    done = call(
        "distill", "pupils_task.py", "--student", "again", "--out", "out", *losses, *TRAINING
    )
    assert done.status == 0, done.err
    assert "the teachers' answers are kept in answers-" in done.out
    assert len(list((lessons / "kept").glob("*.shapes.npy"))) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--student", "pupils_net.py:five"], "10 classes apart, the student 5"),
        (["--student", "small"], "the student is 'small'"),
        (["--student", "again", "--temperature", "0"], "temperature = 0 is out of range"),
        (["--student", "again", "--attention", "1"], "no attention was found"),
    ],
)
def test_wrong_input_is_told_and_nothing_is_left(call, lessons, options, told):
    done = call("distill", "pupils_task.py", "--out", "out", *options)
    assert done.status == 2 and told in done.err
    assert {path.name for path in lessons.iterdir()} - {"__pycache__"} == {
        "pupils_net.py",
        "pupils_task.py",
    }
