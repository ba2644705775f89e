import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lilliput.errors import TaskError
from lilliput.sources import TaskArguments, inputs_of_shape, task_from_arguments
from lilliput.validation import check_task

NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)
    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))
def build():
    return nn.Linear(4, 3)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "net.pt")
    for n in range(12):
        path = tmp_path / "photos" / ("cat" if n % 2 else "dog") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (n, 20, 30)).save(path)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "in.npz", inputs=rng.normal(size=(20, 4)), targets=rng.integers(0, 3, 20))
    np.savez(
        tmp_path / "reg.npz", inputs=rng.normal(size=(20, 4)), targets=rng.normal(size=(20, 3))
    )
    monkeypatch.chdir(tmp_path)


def made(**arguments):
    return task_from_arguments(TaskArguments(**arguments))


def test_images(here):
    task = made(target="net.py:Net", images="photos", size=8, mean=0.5, std=0.5)
    assert check_task(task).name == "accuracy"
    assert (task.name, len(task), task.label_text(1)) == ("Net", 12, "dog")
    assert task.sample().shape == (2, 3, 8, 8)
    assert task.summary(0) == "cat/1.png"


def test_arrays_with_weights_and_metrics(here):
    task = made(target="net.py:build", data="in.npz", weights="net.pt")
    assert check_task(task).name == "accuracy"
    wanted = torch.load("net.pt", weights_only=True)["weight"]
    assert torch.equal(task.model.weight, wanted)
    assert check_task(made(target="net.py:build", data="reg.npz")).name == "agreement"
    assert check_task(made(target="net.py:build", data="reg.npz", metric="mse")).name == "mse"


def test_a_shape_when_there_is_no_data(here):
    assert check_task(made(target="net.py:Net", shape="3x8x8")) is None


def test_a_task_file(here, tmp_path):
    (tmp_path / "t.py").write_text(
        "import torch\nfrom lilliput.task import Task\n"
        "task = Task(model=torch.nn.Linear(2, 2), examples=[torch.zeros(2)])"
    )
    assert len(made(target="t.py")) == 1
    with pytest.raises(TaskError, match=r"--images does not go with t\.py \(it takes none\)"):
        made(target="t.py", images="photos")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "net.py:Net"}, "needs one of --images, --data or --shape, got none"),
        (
            {"target": "net.py:Net", "images": "photos", "data": "in.npz"},
            "got --images and --data",
        ),
        ({"target": "net.py:build", "data": "in.npz", "size": 4}, "--size does not go with"),
        ({"target": "net.py:Net", "images": "photos", "max_length": 4}, "--max-length does not go"),
        ({"target": "photos"}, r"photos is no Hugging Face folder: it has no config\.json"),
        ({"target": "net.pt"}, "is no task, but state dict: .*next: lilliput compress"),
        ({"target": "nowhere.pt"}, r"there is no nowhere\.pt"),
        ({"target": "net.py:build", "data": "in.npz", "metric": "acuracy"}, 'mean "accuracy"'),
    ],
)
def test_arguments_that_do_not_go_together(here, arguments, message):
    with pytest.raises(TaskError, match=message):
        made(**arguments)


def test_inputs_of_a_shape():
    image, ids = inputs_of_shape("3x4x5, int64:7", batch=3)
    assert (image.shape, image.dtype) == ((3, 3, 4, 5), torch.float32)
    assert (ids.shape, ids.dtype) == ((3, 7), torch.int64)
    assert torch.equal(inputs_of_shape("4"), inputs_of_shape("4"))
    for wrong in ("", "3x", "0x4", "3xfoo", "linear:4", "-3", "3x4,"):
        with pytest.raises(TaskError, match="is not the shape of an input"):
            inputs_of_shape(wrong)
